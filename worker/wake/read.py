"""Reading a transcript, from the archive and Redis, without waking its session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from torpor.history.protocol import (
    ANY_OWNER,
    OwnerMismatch,
    SessionInfo,
    SessionKind,
    SessionNotFound,
    SessionPurged,
    TranscriptChanged,
)
from torpor.worker.archive import contents, parts, transcript
from torpor.worker.archive.spool import Spool
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ObjectNotFound, SegmentMissing
from torpor.worker.retention import expiry

_TRIES = 5


@dataclass(frozen=True, slots=True)
class Transcript:
    """A session's messages as JSON bytes, oldest first, its owner, and its kind, if that was recorded.

    `created` is when it began, if that is known. `moments` says of how many messages, one lot after the other, the
    session was last active when.
    """

    elements: Spool
    owner: str | None
    kind: SessionKind | None = None
    moments: Sequence[tuple[int, datetime]] = ()
    created: datetime | None = None


@contextmanager
def open_transcript(services: Services, session_id: str) -> Iterator[Transcript]:
    """A session's messages and its owner, from Redis and the archive: complete and checked, a page of them in memory.

    Raises SessionNotFound, SessionPurged, OwnerMismatch, SegmentMissing, SegmentDamaged, and TranscriptChanged if the
    session changes at each try.
    """
    with Spool() as elements:
        for _ in range(_TRIES):
            elements.clear()
            if transcript := _read(services, session_id, elements):
                yield transcript
                return
    raise TranscriptChanged(f"session {session_id!r} keeps changing between Redis and the archive; try again")


def _read(services: Services, session_id: str, elements: Spool) -> Transcript | None:
    """Read the session once; None if it has changed meanwhile."""
    before = services.sessions.info(session_id, owner=ANY_OWNER)
    if before and before.purge is not None:
        raise SessionPurged(f"session {session_id!r} was purged")
    archived = _Archived()
    try:
        if not (before and before.complete):
            archived = _add_archived(services, session_id, before, elements)
    except ObjectNotFound:
        return None  # it was erased after the listing
    except SegmentMissing:
        if _moved(services, session_id, before):
            return None
        raise
    for page in services.sessions.pages(session_id, owner=ANY_OWNER) if before else ():
        elements.add(page.messages)
    if _moved(services, session_id, before):
        return None
    if before is None and not elements:
        raise SessionNotFound(f"session {session_id!r} is neither in Redis nor in the archive")
    moments = archived.moments
    if before:
        moments = [*moments, (len(elements) - sum(count for count, _ in moments), before.last_active)]
    owner, kind, created = (before.owner, before.kind, before.created) if before else (None, None, None)
    return Transcript(elements, archived.owner or owner, archived.kind or kind, moments, archived.created or created)


@dataclass(frozen=True, slots=True)
class _Archived:
    """What the archive says of the messages that it has: as in Transcript."""

    owner: str | None = None
    kind: SessionKind | None = None
    moments: Sequence[tuple[int, datetime]] = ()
    created: datetime | None = None


def _add_archived(services: Services, session_id: str, live: SessionInfo | None, elements: Spool) -> _Archived:
    """Add the messages that only the archive has."""
    found = parts.of_first_owner(
        expiry.unexpired(contents.look(services.archive, session_id), services.sessions.redis_time)
    )
    below = live.epoch if live and live.message_count else None
    planned = transcript.plan(
        services.archive, found, below=below, max_message_bytes=services.settings.max_message_bytes
    )
    if live and live.owner and planned.origin.owner not in (None, live.owner):
        raise OwnerMismatch(f"the archive has session {session_id!r} for another owner than Redis")
    for page in transcript.read(services.archive, planned):
        elements.add(page)
    moments = [(piece.take, contents.last_active([piece.segment.stored])) for piece in planned.slices]
    return _Archived(planned.origin.owner, found.kind, moments, planned.origin.created)


def _moved(services: Services, session_id: str, before: SessionInfo | None) -> bool:
    """True if messages may have moved between Redis and the archive since the session was looked at."""
    now = services.sessions.info(session_id, owner=ANY_OWNER)
    if now is None or before is None:
        return now is not before
    return (now.epoch, now.restored_count) != (before.epoch, before.restored_count)
