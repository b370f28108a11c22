"""The folder of an archive: whether it is there, its temporary files, and the folders below it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from torpor.worker.archive.stores import disk
from torpor.worker.archive.stores.folder_names import TEMPORARY
from torpor.worker.errors import ArchiveMisconfigured, ArchiveUnavailable

_ATTEMPTS = 100
# Errors that meet every session until someone changes a setting of the machine.
_SETTINGS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOENT, errno.ELOOP}


class Root:
    """The folder `path`, which the first `make` creates."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = False
        self._swept = False

    @property
    def url(self) -> str:
        """`file://` and the absolute path."""
        return self.path.as_uri()

    def make(self) -> None:
        """Make the folder, unless it is there."""
        self.check_there()
        disk.make_folder(self.path, self.path)
        self._seen = True

    def check_there(self) -> None:
        """Raise ArchiveMisconfigured if it was there and is not any more: an empty folder hides the archive."""
        seen = self._seen  # read first: another thread may make the folder after this one has looked
        there = self.path.is_dir()
        if seen and not there:
            raise ArchiveMisconfigured(f"{self.url} has disappeared: mount its file system again")
        self._seen = seen or there

    def check_usable(self) -> None:
        """Raise ArchiveUnavailable, which says what to do, unless it can be listed, read and written."""
        self.check_there()
        if not self.path.exists():
            raise ArchiveMisconfigured(f"{self.url} does not exist: check TORPOR_ARCHIVE_URL, or mount the folder")
        os.scandir(self.path).close()
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            raise ArchiveMisconfigured(f"{self.url} can't be read and written by this user")

    @contextmanager
    def temporary(self) -> Iterator[tuple[Path, BinaryIO]]:
        """A new file, to be linked or moved into place. Its temporary name is deleted at the end."""
        folder = self.path / TEMPORARY
        with disk.temporary(folder) as made:
            if not self._swept:
                self._swept = True
                disk.remove_left_behind(made[0])
            yield made

    @contextmanager
    def made(self, folder: Path) -> Iterator[None]:
        """A folder below this one that exists and that is locked."""
        for left in reversed(range(_ATTEMPTS)):
            with disk.locked(folder) as is_locked:
                if is_locked:
                    yield
                    return
            try:
                disk.make_folder(folder, self.path)
            except (FileNotFoundError, FileExistsError):  # somebody deleted it, or a folder above it, meanwhile
                if not left:
                    raise

    def remove_empty(self, folder: Path) -> None:
        """Remove a folder below this one, and those above it, if they are empty: a bucket has no empty folders."""
        for each in (folder, *folder.parents):
            if each == self.path:
                break
            try:
                each.rmdir()
            except OSError:
                break

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise ArchiveUnavailable for an error of the file system, or ArchiveMisconfigured for one that stays."""
        try:
            yield
        except OSError as exc:
            reason = str(exc) if exc.errno is None else os.strerror(exc.errno)
            kind = ArchiveMisconfigured if exc.errno in _SETTINGS else ArchiveUnavailable
            raise kind(f"{self.url} can't be used: {reason}") from exc
