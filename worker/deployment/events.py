"""Events: what has happened to sessions, in a capped Redis stream and, by name, to a Celery task of an application.

Events are recorded afterwards and at best effort: a worker that dies in between records nothing, nor does a Redis at
its memory limit. They have no message text. Cloud Storage's own notifications are the durable way
(docs/metrics.md).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any

from torpor.history.protocol import ArchiveNote, ArchiveState, TorporError
from torpor.worker import measures
from torpor.worker.logs import outages

if TYPE_CHECKING:  # applications that wake sessions need neither
    from celery import Celery

    from torpor.worker.deployment.services import Services
    from torpor.worker.deployment.settings import Settings

log = logging.getLogger("torpor.events")

# About how many events the stream keeps.
KEPT = 10_000
# A stream of Redis has only text.
_NUMBERS = ("messages", "generation")


class EventKind(StrEnum):
    """The kinds of events."""

    ARCHIVED = "session.archived"  # verified in the archive and gone from Redis
    RELIEVED = "session.relieved"  # likewise, but before it was due, because Redis filled up
    RESTORED = "session.restored"
    PURGED = "session.purged"
    FAILED = "session.failed"  # a counted failure; it is tried again
    QUARANTINED = "session.quarantined"
    UNAVAILABLE = "archive.unavailable"  # the archive fails for a first worker; sessions stay in Redis
    AVAILABLE = "archive.available"  # it works again for all workers


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a session. `messages` is a count; `object` is a name in the archive."""

    kind: EventKind
    session: str
    owner: str | None = None
    messages: int = 0
    object: str | None = None
    generation: int | None = None
    error: str | None = None

    def fields(self) -> dict[str, str]:
        """The event as the stream and the task get it, without the fields that are None."""
        return {name: str(value) for name in self.__slots__ if (value := getattr(self, name)) is not None}


def record_events(services: Services, events: Sequence[Event], note: ArchiveNote | None = None) -> None:
    """Append events to the stream, and send each to the task that the settings name, if any.

    A `note` of the archive's health is recorded with them; if it changes the archive's state, that is an event too.
    What this process has measured since then is added to the deployment's measures, in the same call.
    Logs errors and raises none: an event that is not recorded must not undo the work that it is about.
    """
    measured = measures.take()
    if not (events or note or measured):
        return
    recorded = [event.fields() for event in events]
    try:
        changed = services.sessions.add_events(recorded, keep=KEPT, note=note, measures=measured)
    except TorporError as error:
        log.log(outages.level(error), "%d events were not recorded: %s", len(recorded), error)
    else:
        if note and changed:
            recorded.insert(0, _of_archive(changed, note))
    task = services.settings.on_event_task
    if task is None:
        return
    try:
        for fields in recorded:
            queue = services.settings.on_event_queue
            _sender(services.settings).send_task(task, args=[fields], queue=queue, retry=False)
    except Exception as error:  # the broker's transport may raise anything
        log.warning("events were not sent to %s: %s", task, type(error).__name__)


def _of_archive(state: ArchiveState, note: ArchiveNote) -> dict[str, str]:
    """The event that `add_events` has recorded of the archive, as the task gets it."""
    kind = EventKind.AVAILABLE if state is ArchiveState.AVAILABLE else EventKind.UNAVAILABLE
    log.warning("%s: %s", kind, note.error or "it works again for all workers")
    return {"kind": kind, **({"error": note.error} if note.error else {}), "worker": note.worker}


def record_measures(services: Services) -> None:
    """Add what this process has measured to the deployment's measures, as `record_events` does."""
    record_events(services, [])


@cache
def _sender(settings: Settings) -> Celery:
    from torpor.worker.deployment.celery_config import make_app  # an application that wakes sessions has no Celery

    return make_app(lambda: settings, set_as_current=False)


def follow(services: Services, *, count: int, forever: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """The last `count` events with their ids, oldest first; with `forever` also each that comes later."""
    events = services.sessions.last_events(count)
    yield from map(_with_numbers, events)
    last = events[-1][0] if events else "0"
    while forever:
        events = services.sessions.events_after(last, seconds=5.0)
        yield from map(_with_numbers, events)
        last = events[-1][0] if events else last


def _with_numbers(event: tuple[str, dict[str, str]]) -> tuple[str, dict[str, Any]]:
    """The event with its numbers as such. What is no number stays as it is: another program has written it."""
    identity, fields = event
    return identity, {name: int(value) if _is_number(name, value) else value for name, value in fields.items()}


def _is_number(name: str, value: str) -> bool:
    return name in _NUMBERS and re.fullmatch(r"[0-9]{1,19}", value) is not None
