"""Reading a transcript, from the archive and Redis, without waking its session."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain

from torpor.history.protocol import OwnerMismatch, SessionInfo, SessionNotFound, SessionPurged, TranscriptChanged
from torpor.worker.archive import contents
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ObjectNotFound, SegmentMissing
from torpor.worker.retention import expiry

_TRIES = 5


@dataclass(frozen=True, slots=True)
class Transcript:
    """A session's messages as JSON bytes, oldest first, and its owner."""

    elements: list[bytes] = field(repr=False)
    owner: str | None


def read_transcript(services: Services, session_id: str) -> list[bytes]:
    """The messages of `read_session`."""
    return read_session(services, session_id).elements


def read_session(services: Services, session_id: str) -> Transcript:
    """A session's messages and its owner, from Redis and the archive.

    Raises SessionNotFound, SessionPurged, OwnerMismatch, SegmentMissing, SegmentDamaged, and TranscriptChanged if the
    session changes at each try.
    """
    for _ in range(_TRIES):
        before = services.sessions.info(session_id)
        if before and before.purge is not None:
            raise SessionPurged(f"session {session_id!r} was purged")
        live = services.sessions.messages(session_id, touch=False) if before else []
        try:
            archived = None if before and before.complete else _archived(services, session_id, before)
        except ObjectNotFound:
            continue  # it was erased after the listing
        except SegmentMissing:
            if _moved(services, session_id, before):
                continue
            raise
        if not _moved(services, session_id, before):
            if before is None and not (archived and archived.elements):
                raise SessionNotFound(f"session {session_id!r} is neither in Redis nor in the archive")
            owner = (before.owner if before else None) or (archived.owner if archived else None)
            return Transcript((archived.elements if archived else []) + live, owner)
    raise TranscriptChanged(f"session {session_id!r} keeps changing between Redis and the archive; try again")


def _archived(services: Services, session_id: str, live: SessionInfo | None) -> Transcript:
    """The messages that only the archive has, and their owner."""
    found = expiry.unexpired(contents.look(services.archive, session_id))
    planned = contents.plan(services.archive, found, below=live.epoch if live and live.message_count else None)
    if live and live.owner and planned.origin.owner not in (None, live.owner):
        raise OwnerMismatch(f"the archive has session {session_id!r} for another owner than Redis")
    return Transcript([*chain.from_iterable(contents.read(services.archive, planned))], planned.origin.owner)


def _moved(services: Services, session_id: str, before: SessionInfo | None) -> bool:
    """True if messages may have moved between Redis and the archive since the session was looked at."""
    now = services.sessions.info(session_id)
    if now is None or before is None:
        return now is not before
    return (now.epoch, now.restored_count) != (before.epoch, before.restored_count)
