"""Erasing what the archive holds of a session from before its floor: after a clear, a purge, a late upload."""

from __future__ import annotations

import io
from collections.abc import Iterable

from history import SessionInfo
from worker import holdings, layout
from worker.failpoints import Failpoint, reach
from worker.services import Services
from worker.stores import StoredObject


def below_floor(services: Services, session_id: str, floor: int, owner: str | None) -> int:
    """Forbid epochs below `floor` to come back, then delete what the archive holds of them; returns how many objects.

    The floor marker comes first: a segment that is uploaded later is taken back by its own worker, which sees it.
    Then the owners' markers, since the segments tell whose they are. Every generation goes, also what a versioned
    bucket keeps of objects that were deleted before. Repeatable; killed anywhere, it can be run again.
    """
    marker = layout.floor_name(session_id, floor)
    services.archive.put(marker, io.BytesIO(), 0, metadata={"session": session_id})
    reach(Failpoint.CLEAN_MARKED)
    erasable = holdings.look(services.archive, session_id, generations=True).erasable
    for each in {owner, *(stored.metadata.get("owner") for stored in erasable)} - {None}:
        _unmark(services, str(each), session_id, floor)
        reach(Failpoint.CLEAN_UNMARKED)
    erased = 0
    for stored in erasable:
        erased += services.archive.delete(stored)
        reach(Failpoint.CLEAN_DELETED)
    return erased


def take_back(services: Services, uploaded: SessionInfo, objects: Iterable[StoredObject]) -> None:
    """Delete uploads, and their owner's marker, if their epoch was cleared or purged while they were under way."""
    floor = holdings.look(services.archive, uploaded.session_id).floor
    if floor > uploaded.epoch:
        if uploaded.owner is not None:
            _unmark(services, uploaded.owner, uploaded.session_id, floor)
        for stored in objects:
            services.archive.delete(stored)


def _unmark(services: Services, owner: str, session_id: str, floor: int) -> None:
    """Delete an owner's markers of a session's epochs below `floor`."""
    for stored in services.archive.list(layout.owner_markers(owner, session_id), generations=True):
        epoch = layout.marked_epoch(owner, session_id, stored.name)
        if epoch is not None and epoch < floor:
            services.archive.delete(stored)
