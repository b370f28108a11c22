"""Erase: deletes a session's objects below its floor, after a clear, a purge or a late upload."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from torpor.history.protocol import SessionInfo
from torpor.worker.archive import contents, names
from torpor.worker.archive.stores import RETRIED, StoredObject
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveRefused, ObjectNotFound
from torpor.worker.failpoints import Failpoint, reach
from torpor.worker.retention import hold_notes, legal_hold

# How late an upload may arrive whose connection broke: TCP gives up sooner, and Cloud Storage is quick.
_LATEST = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Erased:
    """How many objects were deleted, floor markers not counted, and which ones the archive refuses to delete.

    With `again`, nothing was deleted, because an earlier try to upload an object may still arrive: erase after that
    span.
    """

    objects: int
    refused: Sequence[tuple[StoredObject, ArchiveRefused]]
    again: timedelta | None = None


def below_floor(
    services: Services, session_id: str, floor: int, owners: Iterable[str], *, kept: int, at_once: bool = True
) -> Erased:
    """Write a floor marker, so that older epochs can't come back, and then delete their objects.

    The floor marker comes first, because a worker that uploads a segment later sees it and takes its segment back.
    Unless it must be done `at_once`, objects whose upload was tried again stay for a while: as long as they are there,
    an earlier try that arrives late is refused, and nobody would look for what it creates afterwards.
    The owners' markers come before the segments, because the segments' metadata names the owners. All generations are
    deleted, also those that a versioned bucket keeps of objects that were deleted before. Repeatable.
    `kept` is how many messages Redis has of the session; the marker says so to a recovery.
    """
    marker = names.floor_name(session_id, floor)
    services.archive.put(marker, io.BytesIO(), 0, metadata={"session": session_id, "kept": str(kept)})
    reach(Failpoint.ERASE_MARKED)
    erasable = contents.look(services.archive, session_id, generations=True).erasable
    owners = {*owners, *(stored.metadata["owner"] for stored in erasable if "owner" in stored.metadata)}
    markers = [each for owner in owners for each in owner_markers(services, owner, session_id, floor)]
    if not at_once and _may_be_followed(services, [*markers, *erasable]):
        return Erased(0, [], _LATEST)
    unmarked = _delete(services, session_id, markers, Failpoint.ERASE_UNMARKED)
    erased = _delete(services, session_id, erasable, Failpoint.ERASE_DELETED)
    marked = _mark_again(services, session_id, [stored for stored, _ in erased.refused])
    orphaned = _orphaned(services, session_id, floor, owners, refused=bool(marked)) if erasable else []
    unmarked_again = _delete(services, session_id, orphaned, Failpoint.ERASE_UNMARKED)
    deleted = unmarked.objects - marked + erased.objects + unmarked_again.objects
    return Erased(deleted, [*unmarked.refused, *erased.refused])


def _may_be_followed(services: Services, objects: Iterable[StoredObject]) -> bool:
    """True if an earlier try to upload one of these objects had no answer, and may still arrive."""
    created = [stored.created for stored in objects if RETRIED in stored.metadata and stored.created is not None]
    return bool(created) and max(created) > services.sessions.redis_time() - _LATEST


def floor_markers(services: Services, session_id: str, floor: int) -> None:
    """Delete the floor markers of a purged session, when the time of its tombstone, of epoch `floor`, is over.

    A worker that is late leaves the marker of a newer clear.
    """
    for stored in services.archive.list(names.session_prefix(session_id), generations=True):
        name = names.parse(session_id, stored.name)
        if isinstance(name, names.FloorName) and name.epoch <= floor:
            services.archive.delete(stored)


def take_back(services: Services, uploaded: SessionInfo, objects: Iterable[StoredObject]) -> None:
    """Delete uploaded objects, and their owner's marker, if their epoch was cleared or purged during the upload."""
    floor = contents.look(services.archive, uploaded.session_id).floor
    if floor > uploaded.epoch:
        owner = uploaded.owner
        markers = owner_markers(services, owner, uploaded.session_id, floor) if owner is not None else []
        _delete(services, uploaded.session_id, [*markers, *objects], Failpoint.ERASE_DELETED)


def owner_markers(services: Services, owner: str, session_id: str, floor: int) -> list[StoredObject]:
    """An owner's markers for the epochs of a session below `floor`."""
    marked = contents.owner_markers(services.archive, owner, session_id, generations=True)
    return [stored for epoch, stored in marked if epoch < floor]


def _is_floor(session_id: str, stored: StoredObject) -> bool:
    return isinstance(names.parse(session_id, stored.name), names.FloorName)


def _delete(services: Services, session_id: str, objects: Iterable[StoredObject], failpoint: Failpoint) -> Erased:
    deleted = 0
    refused: list[tuple[StoredObject, ArchiveRefused]] = []
    for stored in objects:
        try:
            gone = delete_unless_held(services, session_id, stored)
            deleted += gone and not _is_floor(session_id, stored)
        except ArchiveRefused as error:
            refused.append((stored, error))
        reach(failpoint)
    return Erased(deleted, refused)


def delete_unless_held(services: Services, session_id: str, stored: StoredObject) -> bool:
    """Delete an object of a session, also if it still has the hold of a legal hold that was released since.

    False if it does not exist any more. Raises ArchiveRefused, also for an object that notes a legal hold whose release
    Redis does not know: Redis may have forgotten the hold, and not every store enforces holds.
    """
    notes = hold_notes.notes_of(stored)
    if notes and not _is_free(services, session_id, stored):
        raise ArchiveRefused(
            f"{stored.name} is under a legal hold that was not released, as far as Redis knows: torpor doctor",
            held=True,
        )
    try:
        return services.archive.delete(stored)
    except ArchiveRefused as error:
        if not error.held or not (notes or _is_free(services, session_id, stored)):
            raise
        with suppress(ObjectNotFound):
            services.archive.amend(stored, held=False)
        return services.archive.delete(stored)


def _is_free(services: Services, session_id: str, stored: StoredObject) -> bool:
    """True if Redis knows that the legal holds of an object were released. Of damaged metadata, only Redis can tell."""
    owners = [stored.metadata["owner"]] if "owner" in stored.metadata else []
    if stored.damage:
        return services.sessions.find_holds([(session_id, owners)]) == [None]
    return hold_notes.is_released(stored, legal_hold.records_of(services, session_id, owners))


def _mark_again(services: Services, session_id: str, segments: Iterable[StoredObject]) -> int:
    """Restore the owners' markers of segments that the archive refuses to delete; returns how many markers.

    A later purge of the owner finds the segments by them.
    """
    marked = {
        (stored.metadata["owner"], name.epoch)
        for stored in segments
        if "owner" in stored.metadata and (name := names.parse(session_id, stored.name))
    }
    for owner, epoch in marked:
        described = {"session": session_id, "owner": owner}
        services.archive.put(names.owner_marker(owner, session_id, epoch), io.BytesIO(), 0, metadata=described)
    return len(marked)


def _orphaned(
    services: Services, session_id: str, floor: int, owners: Iterable[str], *, refused: bool
) -> Iterator[StoredObject]:
    """The owners' markers below the floor whose segments are gone.

    A worker whose deletions are `refused` restores markers while another one may delete the segments. Both look here
    afterwards, so the later one finds what is left.
    """
    left = contents.look(services.archive, session_id, generations=True).erasable if refused else []
    kept = {
        (stored.metadata.get("owner"), name.epoch) for stored in left if (name := names.parse(session_id, stored.name))
    }
    for owner in owners:
        for epoch, stored in contents.owner_markers(services.archive, owner, session_id, generations=True):
            if epoch < floor and (owner, epoch) not in kept:
                yield stored
