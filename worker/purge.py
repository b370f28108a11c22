"""Purging a session: out of Redis and out of the archive. Receipts and holds are to come."""

from __future__ import annotations

from dataclasses import dataclass

from worker import holdings, layout
from worker.archive import archive_session, erase_below_floor
from worker.services import Services


@dataclass(frozen=True, slots=True)
class Purge:
    """What a purge found (a dry run) or removed."""

    session_id: str
    live_messages: int
    objects: int
    bytes: int


def survey(services: Services, session_id: str) -> Purge:
    """What a purge of the session would remove."""
    info = services.sessions.info(session_id)
    held = holdings.look(services.archive, session_id)
    stored = [segment.stored for segment in held.segments] + list(held.erasable)
    return Purge(session_id, info.message_count if info else 0, len(stored), sum(each.size for each in stored))


def purge_session(services: Services, session_id: str) -> Purge:
    """Remove a session for good; returns what was found. Repeatable; killed anywhere, the worker goes on with it.

    It is a clear, so that no upload and no restore that is under way can bring the session back; only the empty
    floor marker stays in the archive.
    """
    found = survey(services, session_id)
    info = services.sessions.info(session_id)
    owners = {segment.stored.metadata.get("owner") for segment in holdings.look(services.archive, session_id).segments}
    floor = services.sessions.clear(session_id)
    erase_below_floor(services, session_id, floor)
    for owner in owners | {info.owner if info else None}:
        if owner is not None:
            services.archive.delete(layout.owner_marker(owner, session_id))
    archive_session(services, session_id)
    return found
