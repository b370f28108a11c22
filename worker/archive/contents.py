"""A session's contents in the archive: a listing of its segments by epoch, its floor, and its owner markers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from torpor.history.protocol import SessionKind
from torpor.worker.archive import names
from torpor.worker.archive.names import FloorName, SegmentName
from torpor.worker.archive.stores import NEVER, ArchiveStore, StoredObject


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment in a listing of the archive."""

    name: SegmentName
    stored: StoredObject


@dataclass(frozen=True, slots=True)
class Contents:
    """A session's objects. Epochs below `floor` were cleared; the objects that are left of them are `erasable`."""

    session_id: str
    floor: int
    segments: Sequence[Segment]
    erasable: Sequence[StoredObject]

    def __bool__(self) -> bool:
        return bool(self.segments)

    @property
    def owners(self) -> set[str]:
        """The owners that the segments name: one at most, unless several people used the same session id."""
        return {each.stored.metadata["owner"] for each in self.segments if "owner" in each.stored.metadata}

    @property
    def kind(self) -> SessionKind | None:
        """The kind of the session; None if no segment says so, because an older version has written them."""
        named = {each.stored.metadata.get("kind") for each in self.segments}
        return next((kind for kind in SessionKind if kind in named), None)


def look(archive: ArchiveStore, session_id: str, *, generations: bool = False) -> Contents:
    """List a session's objects, by one listing. With `generations`, `erasable` has those that are not current, too."""
    return sort(session_id, archive.list(names.session_prefix(session_id), generations=generations))


def sort(session_id: str, objects: Iterable[StoredObject]) -> Contents:
    """The contents that the objects of a session are."""
    parsed = [(name, stored) for stored in objects if (name := names.parse(session_id, stored.name))]
    floor = max((name.epoch for name, stored in parsed if isinstance(name, FloorName) and stored.current), default=0)
    segments = [
        Segment(name, stored)
        for name, stored in parsed
        if isinstance(name, SegmentName) and name.epoch >= floor and stored.current
    ]
    erasable = [stored for name, stored in parsed if name.epoch < floor]
    return Contents(session_id, floor, sorted(segments, key=_position), erasable)


def owner_markers(
    archive: ArchiveStore, owner: str, session_id: str, *, generations: bool = False
) -> list[tuple[int, StoredObject]]:
    """The owner markers of a session, each after its epoch; `generations` as in ArchiveStore.list."""
    return [
        (epoch, stored)
        for stored in archive.list(names.owner_markers(owner, session_id), generations=generations)
        if (epoch := names.marked_epoch(owner, session_id, stored.name)) is not None
    ]


def last_active(objects: Iterable[StoredObject]) -> datetime:
    """When a session was last active, by the metadata of its objects. Later reads are not in it.

    An object that can't tell it is as if the session was active for ever, so that no purge takes it for an idle one.
    """
    return max(map(_active, objects))


def _active(stored: StoredObject) -> datetime:
    with suppress(KeyError, ValueError):
        active = datetime.fromisoformat(stored.metadata["active"])
        if active.tzinfo is not None:
            return active
    return stored.created or NEVER


def _position(segment: Segment) -> tuple[int, int, int]:
    return segment.name.epoch, segment.name.start, segment.name.stop
