"""How an attempt to archive a session ends, and which event records it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from torpor.history.protocol import CommitOutcome, TorporError, TransientError
from torpor.worker.deployment.events import Event, EventKind


class Outcome(StrEnum):
    """How an attempt ended."""

    ARCHIVED = "archived"  # verified in the archive and deleted from Redis
    KEPT = "kept"  # what was claimed is verified in the archive, but the session was used meanwhile and stays in Redis
    ERASED = "erased"  # the archive has nothing any more from before a clear or purge
    ERASING = "erasing"  # likewise, but a lease was running at the clear: the worker looks again when it has ended
    HOLD_APPLIED = "hold applied"  # the objects in the archive follow a legal hold that was set or released
    SUPERSEDED = "superseded"  # cleared, purged, restored or archived by somebody else meanwhile
    POSTPONED = "postponed"  # a failure that may pass: tried again later
    FAILED = "failed"  # a failure that won't pass: counted, and tried again later
    QUARANTINED = "quarantined"  # put aside, unchanged, after too many failures
    BUSY = "busy"  # another worker has claimed it
    MISSING = "missing"  # not in Redis


# The two replies to a commit after which the session is verified; after every other reply it is superseded.
COMMITTED: Mapping[CommitOutcome | TorporError | None, Outcome] = {
    CommitOutcome.DELETED: Outcome.ARCHIVED,
    CommitOutcome.KEPT: Outcome.KEPT,
}
_EVENT_KINDS = {
    Outcome.ARCHIVED: EventKind.ARCHIVED,
    Outcome.FAILED: EventKind.FAILED,
    Outcome.QUARANTINED: EventKind.QUARANTINED,
}
# Why a session does not sleep after an attempt that did not fail.
_REASONS = {
    Outcome.KEPT: "it was used meanwhile, so it stays in Redis; its earlier messages are archived",
    Outcome.SUPERSEDED: "it was cleared, purged or restored meanwhile",
    Outcome.ERASING: "its messages from before its clear are being erased",
    Outcome.BUSY: "a worker is busy with it",
}


class Superseded(Exception):
    """The session is no longer the one that was claimed."""


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """The outcome for one session; `error` is the reason of a failure."""

    session_id: str
    outcome: Outcome
    owner: str | None = None
    messages: int = 0
    object_name: str | None = None
    generation: int | None = None
    error: TorporError | None = None

    def check(self) -> None:
        """Raise the reason why the session does not sleep, for somebody who has asked for that."""
        if self.outcome in (Outcome.ARCHIVED, Outcome.MISSING):
            return
        if self.outcome in _REASONS:
            raise TransientError(f"session {self.session_id!r}: {_REASONS[self.outcome]}; try again")
        if self.outcome is Outcome.QUARANTINED and self.error is None:
            raise TorporError(f"session {self.session_id!r} is in quarantine")
        raise self.error or TorporError(f"session {self.session_id!r}: {self.outcome}")


def events_of(results: Iterable[AttemptResult], archived: EventKind = EventKind.ARCHIVED) -> list[Event]:
    """The events to record; sessions that went to sleep get the kind `archived`."""
    kinds = _EVENT_KINDS | {Outcome.ARCHIVED: archived}
    return [
        Event(
            kinds[result.outcome],
            result.session_id,
            result.owner,
            result.messages,
            result.object_name,
            result.generation,
            None if result.error is None else str(result.error),
        )
        for result in results
        if result.outcome in kinds and (result.messages or result.error)
    ]
