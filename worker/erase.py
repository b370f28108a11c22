"""Erasing what the archive holds of a session from before its floor: after a clear, a purge, a late upload."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from history import SessionInfo
from worker import holdings, layout
from worker.errors import ArchiveRefused
from worker.failpoints import Failpoint, reach
from worker.services import Services
from worker.stores import StoredObject


@dataclass(frozen=True, slots=True)
class Erased:
    """How many objects of a session are deleted, and which ones the archive refuses to delete."""

    objects: int
    refused: Sequence[tuple[StoredObject, ArchiveRefused]]


def below_floor(services: Services, session_id: str, floor: int, owners: Iterable[str]) -> Erased:
    """Forbid epochs below `floor` to come back, then delete what the archive holds of them.

    The floor marker comes first: a segment that is uploaded later is taken back by its own worker, which sees it.
    Then the owners' markers, since the segments tell whose they are. Every generation goes, also what a versioned
    bucket keeps of objects that were deleted before. Repeatable; killed anywhere, it can be run again.
    """
    marker = layout.floor_name(session_id, floor)
    services.archive.put(marker, io.BytesIO(), 0, metadata={"session": session_id})
    reach(Failpoint.CLEAN_MARKED)
    erasable = holdings.look(services.archive, session_id, generations=True).erasable
    markers = [
        marker
        for owner in {*owners, *(stored.metadata["owner"] for stored in erasable if "owner" in stored.metadata)}
        for marker in owner_markers(services, owner, session_id, floor)
    ]
    unmarked = _delete(services, markers, Failpoint.CLEAN_UNMARKED)
    erased = _delete(services, erasable, Failpoint.CLEAN_DELETED)
    return Erased(unmarked.objects + erased.objects, [*unmarked.refused, *erased.refused])


def floor_markers(services: Services, session_id: str) -> None:
    """Delete the markers that have forbidden a purged session's epochs, when its tombstone goes."""
    for stored in services.archive.list(layout.session_prefix(session_id), generations=True):
        if isinstance(layout.parse(session_id, stored.name), layout.FloorName):
            services.archive.delete(stored)


def take_back(services: Services, uploaded: SessionInfo, objects: Iterable[StoredObject]) -> None:
    """Delete uploads, and their owner's marker, if their epoch was cleared or purged while they were under way."""
    floor = holdings.look(services.archive, uploaded.session_id).floor
    if floor > uploaded.epoch:
        if uploaded.owner is not None:
            for stored in owner_markers(services, uploaded.owner, uploaded.session_id, floor):
                services.archive.delete(stored)
        for stored in objects:
            services.archive.delete(stored)


def owner_markers(services: Services, owner: str, session_id: str, floor: int) -> list[StoredObject]:
    """An owner's markers of a session's epochs below `floor`."""
    return [
        stored
        for stored in services.archive.list(layout.owner_markers(owner, session_id), generations=True)
        if (epoch := layout.marked_epoch(owner, session_id, stored.name)) is not None and epoch < floor
    ]


def _delete(services: Services, objects: Iterable[StoredObject], failpoint: Failpoint) -> Erased:
    deleted = 0
    refused: list[tuple[StoredObject, ArchiveRefused]] = []
    for stored in objects:
        try:
            deleted += services.archive.delete(stored)
        except ArchiveRefused as error:
            refused.append((stored, error))
        reach(failpoint)
    return Erased(deleted, refused)
