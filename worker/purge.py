"""Purging a session: out of Redis and out of the archive. Receipts and holds are to come."""

from __future__ import annotations

from dataclasses import dataclass

from worker import erase, holdings
from worker.archive import archive_session
from worker.events import Event, EventKind, tell
from worker.failpoints import Failpoint, reach
from worker.services import Services


@dataclass(frozen=True, slots=True)
class Purge:
    """What a purge found (a dry run) or removed."""

    session_id: str
    in_redis: bool
    live_messages: int
    objects: int
    bytes: int
    owner: str | None


def survey(services: Services, session_id: str) -> Purge:
    """What a purge of the session would remove."""
    info = services.sessions.info(session_id)
    held = holdings.look(services.archive, session_id)
    stored = [*(segment.stored for segment in held.segments), *held.erasable]
    return Purge(
        session_id,
        in_redis=info is not None,
        live_messages=info.message_count if info else 0,
        objects=len(stored),
        bytes=sum(each.size for each in stored),
        owner=info.owner if info else None,
    )


def purge_session(services: Services, session_id: str) -> Purge:
    """Remove a session for good; returns what was found. Repeatable; killed anywhere, the worker goes on with it.

    It is a clear, so that no upload and no restore that is under way can bring the session back; only the empty
    floor marker stays in the archive.
    """
    found = survey(services, session_id)
    floor = services.sessions.clear(session_id)
    reach(Failpoint.PURGE_CLEARED)
    erase.below_floor(services, session_id, floor, found.owner)
    reach(Failpoint.PURGE_ERASED)
    archive_session(services, session_id)
    tell(services, [Event(EventKind.PURGED, session_id, found.owner, found.live_messages)])
    return found
