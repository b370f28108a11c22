"""FolderStore: the archive in a folder of this machine, the embedded default."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from torpor.worker.archive.stores import Confirm, Safeguards, StoredObject, disk, is_same
from torpor.worker.archive.stores.folder_description import Description, description_path
from torpor.worker.archive.stores.folder_names import TEMPORARY, object_names
from torpor.worker.errors import (
    ArchiveConflict,
    ArchiveCorrupt,
    ArchiveMisconfigured,
    ArchiveRefused,
    ArchiveUnavailable,
    ObjectNotFound,
)

log = logging.getLogger("worker.stores.folder")

_ATTEMPTS = 100
# No description is longer: Cloud Storage allows 8 KiB of metadata for an object.
_MOST_BYTES = 256 * 1024
# How many damaged objects are logged.
_MOST_TOLD = 1_000
# The generation of an object and its description, None if that is lost or damaged.
_Version = tuple[int, Description | None]
# Errors that meet every session until someone changes a setting of the machine.
_SETTINGS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOENT, errno.ELOOP}


class FolderStore:
    """Objects as files. Each has its description beside it, in `<name>=.meta.json`, which is written first.

    A file gets its name only when it is complete and on disk: it is written to a temporary file, synced, and linked
    (which never replaces a file), and then the folder is synced. A writer locks the folder in which it writes.
    """

    def __init__(self, root: Path) -> None:
        """The first put creates `root`."""
        self._root = root
        self._seen = False
        self._swept = False
        self._told: set[Path] = set()  # the damaged objects that were logged

    @property
    def url(self) -> str:
        """`file://` and the absolute path."""
        return self._root.as_uri()

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
        path = self._root / name
        described = Description(metadata, custom_time, held)
        with _translated(self.url):
            self._check_root()
            disk.make_folder(self._root, self._root)
            self._seen = True
            with self._temporary() as (temporary, handle):
                disk.copy(body, handle)
                confirmed: _Version | None = None
                while True:
                    with self._made(path.parent):
                        there = self._version(path)
                        if there is None or there == confirmed or confirm is None:
                            self._write(path, temporary, described, body, contested=confirm is not None)
                            return self._stored(path)
                    confirm()  # nobody waits for its answer: the folder is not locked
                    confirmed = there

    def list(self, prefix: str, *, generations: bool = False) -> Iterator[StoredObject]:
        """See ArchiveStore."""
        with _translated(self.url):
            self._check_root()
            for name in object_names(self._root, prefix):
                if stored := self._find(name, generations=generations):
                    yield stored

    @contextmanager
    def open(self, stored: StoredObject) -> Iterator[BinaryIO]:
        """See ArchiveStore."""
        with _translated(self.url):
            try:
                handle = disk.open_file(self._root / stored.name)
            except FileNotFoundError as exc:
                self._check_root()
                raise ObjectNotFound(f"{self.url}/{stored.name} does not exist") from exc
            except disk.Irregular as exc:
                raise ArchiveCorrupt(f"{self.url}/{stored.name} can't be read: {exc}") from exc
            with handle:
                yield handle

    def delete(self, stored: StoredObject) -> bool:
        """See ArchiveStore."""
        with self._locked(stored) as path:
            if path is not None:
                self._delete(path)
            return path is not None

    def discard(self, stored: StoredObject) -> bool:
        """See ArchiveStore."""
        with self._locked(stored) as path:
            if path is None:
                return True
            if (self._described(path) or Description()).metageneration != stored.metageneration:
                return False
            self._delete(path)
            return True

    def amend(self, stored: StoredObject, *, custom_time: datetime | None = None, held: bool | None = None) -> None:
        """See ArchiveStore."""
        path = self._root / stored.name
        with _translated(self.url), disk.locked(path.parent) as is_locked:
            if not is_locked or not os.path.lexists(path) or _generation(path) != stored.generation:
                self._check_root()
                raise ObjectNotFound(f"{self.url}/{stored.name} does not exist")
            there = self._described(path) if held is None else self._readable(path)
            amended = (there or Description()).amended(custom_time=custom_time, held=held)
            if amended != there:
                self._describe(path, amended)
                disk.sync_folder(path.parent)

    def annotate(self, stored: StoredObject, entries: Mapping[str, str]) -> bool:
        """See ArchiveStore."""
        with self._locked(stored) as path:
            if path is None:
                raise ObjectNotFound(f"{self.url}/{stored.name} does not exist")
            there = self._described(path) or Description()
            if there.metageneration != stored.metageneration:
                return False
            self._describe(path, there.annotated(entries))
            disk.sync_folder(path.parent)
            return True

    def expire(self, now: datetime) -> int:
        """See ArchiveStore. Also removes the descriptions that crashes have left behind."""
        expired = 0
        with _translated(self.url):
            for name in object_names(self._root, ""):
                try:
                    expired += self._expire(name, now)
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
        with _translated(self.url):
            self._check_root()
            if not self._root.exists():
                raise ArchiveMisconfigured(f"{self.url} does not exist: check TORPOR_ARCHIVE_URL, or mount the folder")
            os.scandir(self._root).close()
            if not os.access(self._root, os.R_OK | os.W_OK | os.X_OK):
                raise ArchiveMisconfigured(f"{self.url} can't be read and written by this user")

    def _check_root(self) -> None:
        """Raise ArchiveMisconfigured if the root was there and is not any more: an empty one hides the archive."""
        seen = self._seen  # read first: another thread may make the root after this one has looked
        there = self._root.is_dir()
        if seen and not there:
            raise ArchiveMisconfigured(f"{self.url} has disappeared: mount its file system again")
        self._seen = seen or there

    @contextmanager
    def _temporary(self) -> Iterator[tuple[Path, BinaryIO]]:
        folder = self._root / TEMPORARY
        if not self._swept:
            self._swept = True
            disk.remove_left_behind(folder)
        with disk.temporary(folder) as made:
            yield made

    @contextmanager
    def _made(self, folder: Path) -> Iterator[None]:
        """A folder that exists and that is locked."""
        for left in reversed(range(_ATTEMPTS)):
            with disk.locked(folder) as is_locked:
                if is_locked:
                    yield
                    return
            try:
                disk.make_folder(folder, self._root)
            except (FileNotFoundError, FileExistsError):  # somebody deleted it, or a folder above it, meanwhile
                if not left:
                    raise

    @contextmanager
    def _locked(self, stored: StoredObject) -> Iterator[Path | None]:
        """The path of an object, whose folder is locked; None if this generation does not exist (any more)."""
        path = self._root / stored.name
        with _translated(self.url), disk.locked(path.parent) as is_locked:
            if is_locked and _generation(path) == stored.generation:
                yield path
            else:
                if is_locked and not path.exists() and description_path(path).exists():
                    self._remove(path)  # an interrupted deletion has left a part of the object
                self._check_root()
                yield None

    def _delete(self, path: Path) -> None:
        if os.path.lexists(path):
            self._check_deletable(path)
        self._remove(path)

    def _check_deletable(self, path: Path) -> None:
        """Raise ArchiveRefused if an object is held, or may be; a link or a pipe never is."""
        try:
            described = self._described(path)
        except ArchiveCorrupt as exc:
            if not stat.S_ISREG(path.lstat().st_mode):
                return
            raise ArchiveRefused(f"{self.url}/{self._name(path)} may not be deleted: it may be held, {exc}") from exc
        if described and described.held:
            raise ArchiveRefused(f"{self.url}/{self._name(path)} may not be deleted: it is held", held=True)

    def _version(self, path: Path) -> _Version | None:
        """The generation and the description of an object; None if there is no object."""
        try:
            return path.lstat().st_mtime_ns, self._readable(path)
        except FileNotFoundError:
            return None

    def _write(self, path: Path, temporary: Path, described: Description, body: BinaryIO, *, contested: bool) -> None:
        """Create an object, or amend the one that is there; returns when it is on disk and verified."""
        if os.path.lexists(path):
            self._put_again(path, temporary, described, body, contested=contested)
        else:
            self._create(path, temporary, described)
        disk.sync_folder(path.parent)  # the writer of an older file may have died before it did
        if not self._is_same(path, body, described):
            raise ArchiveCorrupt(f"{self.url}/{self._name(path)} is not what was sent")

    def _put_again(
        self, path: Path, temporary: Path, described: Description, body: BinaryIO, *, contested: bool
    ) -> None:
        """Give an object another description, and replace it if it is damaged. The description comes first."""
        damaged = not self._is_same(path, body, described)
        there = self._readable(path)
        amended = there.described_as(described, contested=contested) if there else described
        if amended != there:
            self._describe(path, amended)
        if damaged:
            temporary.replace(path)

    def _create(self, path: Path, temporary: Path, described: Description) -> None:
        """Give a complete file its name. Its description comes first: nobody sees an object without its hold."""
        self._describe(path, described)
        try:
            os.link(temporary, path)
        except OSError:
            description_path(path).unlink()
            raise

    def _is_same(self, path: Path, body: BinaryIO, described: Description) -> bool:
        """True if the file on disk has the content of `body`, False if it is damaged; else raises ArchiveConflict.

        A link or a pipe is damage too.
        """
        try:
            handle = disk.open_file(path)
        except disk.Irregular:
            return False
        with handle as there:
            if disk.same_content(body, there):
                return True
            recorded = self._readable(path) or Description()
            same = is_same(there, recorded.metadata.get("sha256"), described.metadata.get("sha256"))
        if same is False:
            raise ArchiveConflict(f"{self.url}/{self._name(path)} exists with other content")
        return bool(same)

    def _readable(self, path: Path) -> Description | None:
        """The description of an object; None if it is lost or damaged."""
        with suppress(ArchiveCorrupt):
            return self._described(path)
        return None

    def _describe(self, path: Path, described: Description) -> None:
        with self._temporary() as (temporary, handle):
            handle.write(bytes(described))
            disk.sync(handle)
            temporary.replace(description_path(path))

    def _described(self, path: Path) -> Description | None:
        try:
            with disk.open_file(description_path(path)) as file:
                content = file.read(_MOST_BYTES + 1)
            if len(content) > _MOST_BYTES:
                raise ValueError(f"it has more than {_MOST_BYTES:,} bytes")
            return Description.parse(content)
        except FileNotFoundError:
            return None
        except (ValueError, disk.Irregular) as exc:
            raise self._corrupt(path, exc) from exc
        except OSError as exc:
            if exc.errno != errno.ENAMETOOLONG:
                raise
            raise self._corrupt(path, exc.strerror) from exc

    def _corrupt(self, path: Path, reason: object) -> ArchiveCorrupt:
        return ArchiveCorrupt(f"the metadata of {self.url}/{self._name(path)} can't be read: {reason}")

    def _remove(self, path: Path) -> None:
        """Remove an object, and the folders that are empty then: a bucket has no empty folders either."""
        path.unlink(missing_ok=True)
        try:
            description_path(path).unlink(missing_ok=True)
        except OSError as exc:
            if exc.errno != errno.ENAMETOOLONG:  # a name that is too long for a description has none
                raise
        disk.sync_folder(path.parent)
        for folder in path.relative_to(self._root).parents:
            if folder == Path():
                break
            try:
                (self._root / folder).rmdir()
            except OSError:
                break

    def _expire(self, name: str, now: datetime) -> bool:
        """Remove an object that has expired, or the description that is left of one; True if it was an object."""
        path = self._root / name
        if not self._removable(path, now):
            return False
        with disk.locked(path.parent) as is_locked:
            if not is_locked or not self._removable(path, now):  # somebody may have amended it meanwhile
                return False
            existed = os.path.lexists(path)
            self._remove(path)
            return existed

    def _removable(self, path: Path, now: datetime) -> bool:
        described = self._described(path)
        return described is not None and (described.expired(now) or not os.path.lexists(path))

    def _find(self, name: str, *, generations: bool) -> StoredObject | None:
        path = self._root / name
        with suppress(FileNotFoundError):
            return self._stored(path)
        if generations:
            with suppress(FileNotFoundError):
                return self._left_behind(path)
        return None

    def _stored(self, path: Path) -> StoredObject:
        try:
            status, described = path.lstat(), self._described(path)
            while _identity(status) != _identity(
                there := path.lstat()
            ):  # somebody deleted it and put it again meanwhile
                status, described = there, self._described(path)
        except ArchiveCorrupt as exc:
            return self._damaged(path, str(exc))
        if not stat.S_ISREG(status.st_mode):
            return self._damaged(path, f"{self.url}/{self._name(path)} can't be read: it is a link, or no file")
        described = described or Description()
        return StoredObject(
            self._name(path),
            status.st_size,
            status.st_mtime_ns,
            described.metadata,
            described.custom_time,
            described.held,
            created=_moment(status),
            metageneration=described.metageneration,
        )

    def _damaged(self, path: Path, damage: str) -> StoredObject:
        status = path.lstat()
        if path not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(path)
            log.warning("an object is damaged, torpor doctor lists it: %s", damage)
        return StoredObject(
            self._name(path), status.st_size, status.st_mtime_ns, created=_moment(status), damage=damage
        )

    def _left_behind(self, path: Path) -> StoredObject:
        """An object that has only a description, because a crash interrupted its put or its deletion."""
        status = description_path(path).lstat()
        return StoredObject(self._name(path), 0, status.st_mtime_ns, created=_moment(status), current=False)

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


def _generation(path: Path) -> int | None:
    """The generation of an object, or of the description that is left of it; None if there is neither."""
    for each in (path, description_path(path)):
        with suppress(FileNotFoundError):
            return each.lstat().st_mtime_ns
    return None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_ino, status.st_mtime_ns


def _moment(status: os.stat_result) -> datetime | None:
    with suppress(ValueError, OverflowError, OSError):  # a file system knows years that Python doesn't
        return datetime.fromtimestamp(status.st_mtime, UTC)
    return None


@contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise _unavailable(url, exc) from exc


def _unavailable(url: str, error: OSError) -> ArchiveUnavailable:
    reason = str(error) if error.errno is None else os.strerror(error.errno)
    kind = ArchiveMisconfigured if error.errno in _SETTINGS else ArchiveUnavailable
    return kind(f"{url} can't be used: {reason}")
