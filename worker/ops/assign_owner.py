"""Assign owner: gives sessions that have no owner one, awake or asleep, so that a purge of the owner finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from torpor.history.protocol import (
    ANY_OWNER,
    AssignOutcome,
    PermanentError,
    SessionDamaged,
    SessionInfo,
    Status,
    TransientError,
)
from torpor.worker.archive import contents
from torpor.worker.archive.contents import Contents
from torpor.worker.deployment.services import Services
from torpor.worker.failpoints import Failpoint, reach
from torpor.worker.retention import expiry
from torpor.worker.sleep import attempt
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.transfer.owner_lines import Assignment

_BATCH = 100


class Verdict(StrEnum):
    """What became of an assignment, or would become of it."""

    ASSIGNED = "assigned"
    ALREADY = "already"  # the session has this owner
    OTHER = "other"  # it has another owner, and keeps it
    PURGED = "purged"
    UNKNOWN = "unknown"  # neither in Redis nor in the archive
    FAILED = "failed"


_VERDICTS = {
    AssignOutcome.ASSIGNED: Verdict.ASSIGNED,
    AssignOutcome.OTHER: Verdict.OTHER,
    AssignOutcome.PURGED: Verdict.PURGED,
    AssignOutcome.ABSENT: Verdict.UNKNOWN,
}


@dataclass(slots=True)
class Assigned:
    """The counts of assignments, done or planned."""

    assigned: int = 0
    already: int = 0
    other: int = 0
    purged: int = 0
    unknown: int = 0
    failed: int = 0

    def add(self, verdict: Verdict) -> None:
        """Count an assignment."""
        setattr(self, verdict.value, getattr(self, verdict.value) + 1)

    @property
    def refused(self) -> int:
        """How many sessions do not have the owner that they were to get. A purged session needs none."""
        return self.other + self.unknown + self.failed


def assign_all(
    services: Services,
    assignments: Iterable[Assignment],
    *,
    dry_run: bool = False,
    progress: Callable[[Assignment, Verdict, str], None] = lambda *_: None,
) -> Assigned:
    """Give many sessions an owner; `progress` gets each one's verdict, and the error if it has failed. Repeatable.

    Ends with an error that may pass, such as ArchiveUnavailable; what was assigned until then stays.
    """
    act = judge if dry_run else assign

    def one(assignment: Assignment) -> tuple[Verdict, str]:
        try:
            return act(services, assignment.session_id, assignment.owner), ""
        except PermanentError as error:
            return Verdict.FAILED, str(error)

    counts, waiting = Assigned(), iter(assignments)
    with ThreadPoolExecutor(services.settings.concurrency) as pool:
        while batch := list(islice(waiting, _BATCH)):
            for assignment, (verdict, error) in zip(batch, pool.map(one, batch), strict=True):
                counts.add(verdict)
                progress(assignment, verdict, error)
    return counts


def assign(services: Services, session_id: str, owner: str) -> Verdict:
    """Give one session an owner, first in Redis, then in the archive. Repeatable.

    If it is killed in between, a worker or the next call records the owner in the archive; until then Redis has the
    session among the owner's. Raises SessionDamaged if the session's metadata was lost.
    """
    info, archived = _look(services, session_id)
    verdict = _verdict(info, archived, owner)
    if verdict is not Verdict.ASSIGNED:
        return verdict
    outcome = services.sessions.assign_owner(session_id, owner, archived=bool(archived))
    reach(Failpoint.OWNER_ASSIGNED)
    if outcome is AssignOutcome.ASSIGNED and archived:
        return _record(services, session_id, owner)
    if outcome is AssignOutcome.DAMAGED:
        raise _damaged(session_id)
    return _VERDICTS[outcome]


def judge(services: Services, session_id: str, owner: str) -> Verdict:
    """What `assign` would do; changes nothing. Raises SessionDamaged too."""
    return _verdict(*_look(services, session_id), owner)


def _look(services: Services, session_id: str) -> tuple[SessionInfo | None, Contents]:
    """The session in Redis and then in the archive, so that one that falls asleep meanwhile is seen."""
    return services.sessions.info(session_id, owner=ANY_OWNER), _archived(services, session_id)


def _verdict(info: SessionInfo | None, archived: Contents, owner: str) -> Verdict:
    if info is None and not archived:
        return Verdict.UNKNOWN
    if info and info.status is Status.PURGED:
        return Verdict.PURGED
    if info and info.message_count and not info.epoch:
        raise _damaged(info.session_id)
    in_redis = {info.owner} - {None} if info else set()
    if (in_redis | archived.owners) - {owner}:
        return Verdict.OTHER
    return Verdict.ALREADY if _is_known(info, archived, owner) else Verdict.ASSIGNED


def _is_known(info: SessionInfo | None, archived: Contents, owner: str) -> bool:
    """True if Redis has the owner, or the archive if Redis has no message of the session."""
    if info is None:
        return owner in archived.owners
    return info.owner == owner and (bool(info.message_count) or not archived or owner in archived.owners)


def _damaged(session_id: str) -> SessionDamaged:
    return SessionDamaged(f"the metadata of session {session_id!r} was lost: see torpor doctor")


def _archived(services: Services, session_id: str) -> Contents:
    return expiry.unexpired(contents.look(services.archive, session_id), services.sessions.redis_time)


def _record(services: Services, session_id: str, owner: str) -> Verdict:
    """Have a session that is asleep leave Redis again, with its owner recorded in the archive.

    A session that is awake or that wakes up now is left alone: its owner is recorded when it next falls asleep.
    """
    info = services.sessions.info(session_id, owner=ANY_OWNER)
    if info is None or info.message_count or info.status is Status.RESTORING:
        return Verdict.ASSIGNED
    result = attempt.archive_session(services, session_id)
    if isinstance(result.error, TransientError | PermanentError):
        raise result.error
    if result.outcome is Outcome.ARCHIVED and _archived(services, session_id).owners - {owner}:
        return Verdict.OTHER  # its owner has used it since we looked
    return Verdict.ASSIGNED
