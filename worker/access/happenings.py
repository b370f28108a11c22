"""What has happened to a session, by its metadata, its objects, its legal holds and the events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from operator import attrgetter

from torpor.history.protocol import HoldKind, SessionInfo, StandingHold, Status
from torpor.worker.archive import names
from torpor.worker.archive.names import FloorName, SegmentName
from torpor.worker.archive.segment_metadata import SegmentMetadata
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment.events import EventKind
from torpor.worker.deployment.services import Services

# How many of the deployment's last events are searched for those of the session.
EVENTS = 2_000


class Step(StrEnum):
    """What happens in the life of a session."""

    CREATED = "created"
    BEGUN_ANEW = "begun anew"  # a new epoch: it was woken, cleared or archived anew
    SEGMENT = "segment written"
    FLOOR = "floor written"  # everything before it is erased from the archive
    ASLEEP = "fell asleep"
    WOKEN = "woken"
    FAILED = "attempt failed"
    QUARANTINED = "quarantined"
    PURGED = "purged"
    HELD = "held"
    ACTIVE = "last active"


# Events, in the words of a session's life.
_OF_EVENTS = {
    EventKind.ARCHIVED: Step.ASLEEP,
    EventKind.RELIEVED: Step.ASLEEP,
    EventKind.RESTORED: Step.WOKEN,
    EventKind.FAILED: Step.FAILED,
    EventKind.QUARANTINED: Step.QUARANTINED,
    EventKind.PURGED: Step.PURGED,
}


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that has happened. `messages` is a count, None if it is about none."""

    at: datetime
    step: Step
    detail: str = ""
    messages: int | None = None


# The first epoch begins in the moment in which the session is created.
_SAME = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Traces:
    """What a session has left: in Redis, the archive's objects, what each segment records, and the holds in force."""

    session_id: str
    live: SessionInfo | None
    stored: Sequence[StoredObject]
    metadata: Mapping[str, SegmentMetadata]
    holds: Sequence[StandingHold]

    @property
    def created(self) -> datetime | None:
        """When the session began, as far as it is known."""
        known = [each.origin.created for each in self.metadata.values()]
        known += [self.live.created if self.live and self.live.epoch else None]
        return min((each for each in known if each), default=None)

    @property
    def epochs(self) -> list[int]:
        """The epochs that the session is known to have had, oldest first."""
        parsed = [names.parse(self.session_id, each.name) for each in self.stored]
        archived = {each.epoch for each in parsed if isinstance(each, SegmentName)}
        return sorted(archived | ({self.live.epoch} if self.live else set()))


def happenings(services: Services, traces: Traces) -> list[Happening]:
    """What has happened, oldest first."""
    found = [*_epochs(traces), *_of_events(services, traces.session_id), *_held(traces.holds)]
    found += [each for one in traces.stored for each in _written(traces.session_id, one)]
    if traces.live is not None and traces.live.status is not Status.PURGED:
        found.append(Happening(traces.live.last_active, Step.ACTIVE))
    return sorted(found, key=attrgetter("at"))


def _epochs(traces: Traces) -> Iterator[Happening]:
    """The session's beginning, and that of each later epoch: an epoch is the moment (µs) at which it began."""
    created = traces.created
    if created:
        yield Happening(created, Step.CREATED)
    for began in map(_moment, traces.epochs):
        if began and (created is None or began - created > _SAME):
            yield Happening(began, Step.BEGUN_ANEW)


def _written(session_id: str, stored: StoredObject) -> Iterator[Happening]:
    name = names.parse(session_id, stored.name)
    if stored.created is None:
        return
    if isinstance(name, SegmentName):
        yield Happening(stored.created, Step.SEGMENT, stored.name, name.stop - name.start)
    elif isinstance(name, FloorName):
        yield Happening(stored.created, Step.FLOOR, stored.name)


def _of_events(services: Services, session_id: str) -> Iterator[Happening]:
    for identity, fields in services.sessions.last_events(EVENTS):
        step = _OF_EVENTS.get(EventKind(fields["kind"])) if fields.get("kind") in set(EventKind) else None
        if step is None or fields.get("session") != session_id:
            continue
        at = _moment(int(identity.partition("-")[0]) * 1000)
        messages = fields.get("messages", "")
        if at:
            yield Happening(at, step, fields.get("error", ""), int(messages) if messages.isdecimal() else None)


def _held(holds: Sequence[StandingHold]) -> Iterator[Happening]:
    """The legal holds, each at its moment. Of a damaged one no moment is known."""
    for hold in holds:
        if hold.since:
            whose = "by its own hold" if hold.kind is HoldKind.SESSION else f"by the hold of owner {hold.id}"
            yield Happening(hold.since, Step.HELD, f"{whose}: {hold.reason}")


def _moment(microseconds: int) -> datetime | None:
    """A moment by its microseconds since 1970; None if there is none such."""
    with suppress(ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(microseconds / 1_000_000, UTC)
    return None
