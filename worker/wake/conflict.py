"""Conflicts: another owner has written to the id of a session that sleeps. The id is its first owner's in the archive.

What the other one has in Redis is put aside, under an id of its own. It is neither lost nor mixed with anything.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from torpor.history.protocol import SessionInfo, SessionOperations
from torpor.worker.archive import parts
from torpor.worker.archive.contents import Contents

log = logging.getLogger("torpor.conflict")


def is_others(found: Contents, live: SessionInfo) -> bool:
    """True if the archive has a session for another owner than Redis has it for, which may be unproven so far.

    Segments of the live session's own epoch are its own uploads, whatever their metadata says.
    """
    proven = live.complete and live.unproven_caller is None
    earlier = replace(found, segments=[each for each in found.segments if each.name.epoch != live.epoch])
    if proven or not earlier:
        return False
    owner = parts.first_owner(earlier)
    return owner != live.owner and not (owner is None and live.owner_assigned)


async def set_aside(sessions: SessionOperations, live: SessionInfo) -> str | None:
    """Put a session in Redis aside; returns its new id, None if it has changed since it was described."""
    aside = await sessions.set_aside(live.session_id, epoch=live.epoch, owner=live.owner)
    if aside is not None:
        log.warning(
            "two owners have used session %r: what came while it slept is now session %r", live.session_id, aside
        )
    return aside
