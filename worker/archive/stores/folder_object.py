"""An object in a folder: a file, and its description beside it."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from torpor.worker.archive.stores import StoredObject, disk, is_same
from torpor.worker.archive.stores.folder_description import Description, description_path
from torpor.worker.archive.stores.folder_root import Root
from torpor.worker.errors import ArchiveConflict, ArchiveCorrupt, ArchiveRefused

# No description is longer: Cloud Storage allows 8 KiB of metadata for an object.
_MOST_BYTES = 256 * 1024
# The generation of an object and its description, None if that is lost or damaged.
Version = tuple[int, Description | None]


class FolderObject:
    """An object by its name, whether it exists or not. Whoever changes it holds the lock of its folder."""

    def __init__(self, root: Root, name: str) -> None:
        self._root = root
        self._name = name
        self.path = root.path / name

    @property
    def url(self) -> str:
        """The URL of the store, and the name."""
        return f"{self._root.url}/{self._name}"

    @property
    def exists(self) -> bool:
        """True if there is a file, a link or anything else with its name."""
        return os.path.lexists(self.path)

    @property
    def generation(self) -> int | None:
        """The generation of the object, or of the description that is left of it; None if there is neither."""
        for each in (self.path, description_path(self.path)):
            with suppress(FileNotFoundError):
                return each.lstat().st_mtime_ns
        return None

    def version(self) -> Version | None:
        """The object as it is now; None if there is no object."""
        try:
            return self.path.lstat().st_mtime_ns, self.readable()
        except FileNotFoundError:
            return None

    def described(self) -> Description | None:
        """The description; None if there is none. Raises ArchiveCorrupt."""
        try:
            with disk.open_file(description_path(self.path)) as file:
                content = file.read(_MOST_BYTES + 1)
            if len(content) > _MOST_BYTES:
                raise ValueError(f"it has more than {_MOST_BYTES:,} bytes")
            return Description.parse(content)
        except FileNotFoundError:
            return None
        except (ValueError, disk.Irregular) as exc:
            raise self._corrupt(exc) from exc
        except OSError as exc:
            if exc.errno != errno.ENAMETOOLONG:
                raise
            raise self._corrupt(exc.strerror) from exc

    def readable(self) -> Description | None:
        """The description; None if it is lost or damaged."""
        with suppress(ArchiveCorrupt):
            return self.described()
        return None

    def stored(self) -> StoredObject:
        """The object as a listing gives it; raises FileNotFoundError."""
        try:
            status, described = self.path.lstat(), self.described()
            while _identity(status) != _identity(there := self.path.lstat()):  # it was deleted and put again meanwhile
                status, described = there, self.described()
        except ArchiveCorrupt as exc:
            return self._listed(self.path.lstat(), damage=str(exc))
        if not stat.S_ISREG(status.st_mode):
            return self._listed(status, damage=f"{self.url} can't be read: it is a link, or no file")
        return self._listed(status, described or Description())

    def left_behind(self) -> StoredObject:
        """What a crash in a put or a deletion has left: a description only. Raises FileNotFoundError."""
        status = description_path(self.path).lstat()
        return StoredObject(self._name, 0, status.st_mtime_ns, created=_moment(status), current=False)

    def write(self, temporary: Path, described: Description, body: BinaryIO, *, contested: bool) -> None:
        """Create the object, or amend the one that is there; returns when it is on disk and verified.

        Raises ArchiveConflict and ArchiveCorrupt.
        """
        if self.exists:
            self._put_again(temporary, described, body, contested=contested)
        else:
            self._create(temporary, described)
        disk.sync_folder(self.path.parent)  # the writer of an older file may have died before it did
        if not self._is_same(body, described):
            raise ArchiveCorrupt(f"{self.url} is not what was sent")

    def describe(self, described: Description) -> None:
        """Replace the description."""
        with self._root.temporary() as (temporary, handle):
            handle.write(bytes(described))
            disk.sync(handle)
            temporary.replace(description_path(self.path))

    def delete(self) -> None:
        """Remove the object; raises ArchiveRefused if it is held, or may be. A link or a pipe never is."""
        if self.exists:
            self._check_deletable()
        self.remove()

    def remove(self) -> None:
        """Remove the object, and the folders that are empty then."""
        self.path.unlink(missing_ok=True)
        try:
            description_path(self.path).unlink(missing_ok=True)
        except OSError as exc:
            if exc.errno != errno.ENAMETOOLONG:  # a name that is too long for a description has none
                raise
        disk.sync_folder(self.path.parent)
        self._root.remove_empty(self.path.parent)

    def _put_again(self, temporary: Path, described: Description, body: BinaryIO, *, contested: bool) -> None:
        """Give the object another description, and replace it if it is damaged. The description comes first."""
        damaged = not self._is_same(body, described)
        there = self.readable()
        amended = there.described_as(described, contested=contested) if there else described
        if amended != there:
            self.describe(amended)
        if damaged:
            temporary.replace(self.path)

    def _create(self, temporary: Path, described: Description) -> None:
        """Give a complete file its name. Its description comes first: nobody sees an object without its hold."""
        self.describe(described)
        try:
            os.link(temporary, self.path)
        except OSError:
            description_path(self.path).unlink()
            raise

    def _is_same(self, body: BinaryIO, described: Description) -> bool:
        """True if the file on disk has the content of `body`, False if it is damaged; else raises ArchiveConflict.

        A link or a pipe is damage too.
        """
        try:
            handle = disk.open_file(self.path)
        except disk.Irregular:
            return False
        with handle as there:
            if disk.same_content(body, there):
                return True
            recorded = self.readable() or Description()
            same = is_same(there, recorded.metadata.get("sha256"), described.metadata.get("sha256"))
        if same is False:
            raise ArchiveConflict(f"{self.url} exists with other content")
        return bool(same)

    def _check_deletable(self) -> None:
        try:
            described = self.described()
        except ArchiveCorrupt as exc:
            if not stat.S_ISREG(self.path.lstat().st_mode):
                return
            raise ArchiveRefused(f"{self.url} may not be deleted: it may be held, {exc}") from exc
        if described and described.held:
            raise ArchiveRefused(f"{self.url} may not be deleted: it is held", held=True)

    def _listed(
        self, status: os.stat_result, described: Description | None = None, damage: str | None = None
    ) -> StoredObject:
        described = described or Description(metageneration=0)
        return StoredObject(
            self._name,
            status.st_size,
            status.st_mtime_ns,
            described.metadata,
            described.custom_time,
            described.held,
            created=_moment(status),
            metageneration=described.metageneration,
            damage=damage,
        )

    def _corrupt(self, reason: object) -> ArchiveCorrupt:
        return ArchiveCorrupt(f"the metadata of {self.url} can't be read: {reason}")


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_ino, status.st_mtime_ns


def _moment(status: os.stat_result) -> datetime | None:
    with suppress(ValueError, OverflowError, OSError):  # a file system knows years that Python doesn't
        return datetime.fromtimestamp(status.st_mtime, UTC)
    return None
