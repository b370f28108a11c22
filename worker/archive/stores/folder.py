"""FolderStore: the archive in a folder of this machine, the embedded default."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from torpor.worker.archive.stores import Confirm, Safeguards, StoredObject, disk
from torpor.worker.archive.stores.folder_description import Description, description_path
from torpor.worker.archive.stores.folder_names import object_names
from torpor.worker.archive.stores.folder_object import FolderObject, Version
from torpor.worker.archive.stores.folder_root import Root
from torpor.worker.errors import ArchiveCorrupt, ObjectNotFound

log = logging.getLogger("worker.stores.folder")

# How many damaged objects are logged.
_MOST_TOLD = 1_000


class FolderStore:
    """Objects as files. Each has its description beside it, in `<name>=.meta.json`, which is written first.

    A file gets its name only when it is complete and on disk: it is written to a temporary file, synced, and linked
    (which never replaces a file), and then the folder is synced. A writer locks the folder in which it writes.
    """

    def __init__(self, root: Path) -> None:
        """The first put creates `root`."""
        self._root = Root(root)
        self._told: set[str] = set()  # the damaged objects that were logged

    @property
    def url(self) -> str:
        """`file://` and the absolute path."""
        return self._root.url

    def put(
        self,
        name: str,
        body: BinaryIO,
        size: int,  # noqa: ARG002 - of the protocol
        *,
        metadata: Mapping[str, str],
        custom_time: datetime | None = None,
        held: bool = False,
        confirm: Confirm | None = None,
    ) -> StoredObject:
        """See ArchiveStore."""
        placed = FolderObject(self._root, name)
        described = Description(metadata, custom_time, held)
        with self._root.translated():
            self._root.make()
            with self._root.temporary() as (temporary, handle):
                disk.copy(body, handle)
                confirmed: Version | None = None
                while True:
                    with self._root.made(placed.path.parent):
                        there = placed.version()
                        if there is None or there == confirmed or confirm is None:
                            placed.write(temporary, described, body, contested=confirm is not None)
                            return placed.stored()
                    confirm()  # nobody waits for its answer: the folder is not locked
                    confirmed = there

    def list(self, prefix: str, *, generations: bool = False) -> Iterator[StoredObject]:
        """See ArchiveStore."""
        with self._root.translated():
            self._root.check_there()
            for name in object_names(self._root.path, prefix):
                if stored := self._find(name, generations=generations):
                    yield stored

    @contextmanager
    def open(self, stored: StoredObject) -> Iterator[BinaryIO]:
        """See ArchiveStore."""
        placed = FolderObject(self._root, stored.name)
        with self._root.translated():
            try:
                handle = disk.open_file(placed.path)
            except FileNotFoundError as exc:
                self._root.check_there()
                raise ObjectNotFound(f"{placed.url} does not exist") from exc
            except disk.Irregular as exc:
                raise ArchiveCorrupt(f"{placed.url} can't be read: {exc}") from exc
            with handle:
                yield handle

    def delete(self, stored: StoredObject) -> bool:
        """See ArchiveStore."""
        with self._locked(stored) as there:
            if there:
                there.delete()
            return there is not None

    def discard(self, stored: StoredObject) -> bool:
        """See ArchiveStore."""
        with self._locked(stored) as there:
            if there is None:
                return True
            if (there.described() or Description()).metageneration != stored.metageneration:
                return False
            there.delete()
            return True

    def amend(
        self,
        stored: StoredObject,
        *,
        custom_time: datetime | None = None,
        held: bool | None = None,
        entries: Mapping[str, str | None] | None = None,
    ) -> None:
        """See ArchiveStore."""
        placed = FolderObject(self._root, stored.name)
        with self._root.translated(), disk.locked(placed.path.parent) as is_locked:
            if not is_locked or not placed.exists or placed.generation != stored.generation:
                self._root.check_there()
                raise ObjectNotFound(f"{placed.url} does not exist")
            there = placed.described() if held is None else placed.readable()
            amended = (there or Description()).amended(custom_time=custom_time, held=held, entries=entries or {})
            if amended != there:
                placed.describe(amended)
                disk.sync_folder(placed.path.parent)

    def annotate(self, stored: StoredObject, entries: Mapping[str, str]) -> bool:
        """See ArchiveStore."""
        with self._locked(stored) as there:
            if there is None:
                raise ObjectNotFound(f"{self.url}/{stored.name} does not exist")
            described = there.described() or Description()
            if described.metageneration != stored.metageneration:
                return False
            there.describe(described.annotated(entries))
            disk.sync_folder(there.path.parent)
            return True

    def expire(self, now: datetime) -> int:
        """See ArchiveStore. Also removes the descriptions that crashes have left behind."""
        expired = 0
        with self._root.translated():
            for name in object_names(self._root.path, ""):
                try:
                    expired += _expire(FolderObject(self._root, name), now)
                except ArchiveCorrupt as exc:
                    log.warning("an object is kept, whatever its custom time: %s", exc)
        return expired

    def safeguards(self) -> Safeguards | None:
        """See ArchiveStore."""
        return None

    def apply_lifecycle(self) -> bool:
        """See ArchiveStore."""
        return False

    def check(self) -> None:
        """See ArchiveStore."""
        with self._root.translated():
            self._root.check_usable()

    def _find(self, name: str, *, generations: bool) -> StoredObject | None:
        placed = FolderObject(self._root, name)
        with suppress(FileNotFoundError):
            stored = placed.stored()
            if stored.damage:
                self._tell(stored)
            return stored
        if generations:
            with suppress(FileNotFoundError):
                return placed.left_behind()
        return None

    def _tell(self, damaged: StoredObject) -> None:
        if damaged.name not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(damaged.name)
            log.warning("an object is damaged, torpor doctor lists it: %s", damaged.damage)

    @contextmanager
    def _locked(self, stored: StoredObject) -> Iterator[FolderObject | None]:
        """An object whose folder is locked; None if this generation does not exist (any more)."""
        placed = FolderObject(self._root, stored.name)
        with self._root.translated(), disk.locked(placed.path.parent) as is_locked:
            if is_locked and placed.generation == stored.generation:
                yield placed
            else:
                if is_locked and not placed.path.exists() and description_path(placed.path).exists():
                    placed.remove()  # an interrupted deletion has left a part of the object
                self._root.check_there()
                yield None


def _expire(placed: FolderObject, now: datetime) -> bool:
    """Remove an object that has expired, or the description that is left of one; True if it was an object."""
    if not _removable(placed, now):
        return False
    with disk.locked(placed.path.parent) as is_locked:
        if not is_locked or not _removable(placed, now):  # somebody may have amended it meanwhile
            return False
        existed = placed.exists
        placed.remove()
        return existed


def _removable(placed: FolderObject, now: datetime) -> bool:
    described = placed.described()
    return described is not None and (described.expired(now) or not placed.exists)
