"""FolderStore: the archive in a folder of this machine, the embedded default."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from worker.errors import ArchiveConflict, ArchiveCorrupt, ArchiveUnavailable, ObjectNotFound
from worker.stores import StoredObject, unpacks_to

_CHUNK = 1024 * 1024
_LEFT_BEHIND_SECONDS = 3600
# No name of the layout ends like this.
_METADATA = "=.meta.json"
_TEMPORARY = "=.tmp"


class FolderStore:
    """Objects as files; an object's metadata is beside it in `<name>=.meta.json`, written after it.

    A file appears under its name only when it is complete and on disk: written to a temporary file, fsync,
    link (which refuses to replace), fsync of the folder.
    """

    def __init__(self, root: Path) -> None:
        """`root` is created at the first put."""
        self._root = root
        self._swept = False

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
    ) -> StoredObject:
        """See ArchiveStore."""
        path = self._root / name
        described = {"metadata": dict(metadata), "custom_time": custom_time and custom_time.isoformat()}
        with _translated(self.url):
            self._make_folder(path.parent)
            with self._temporary() as (temporary, handle):
                body.seek(0)
                while chunk := body.read(_CHUNK):
                    handle.write(chunk)
                _sync(handle)
                with suppress(FileExistsError):
                    os.link(temporary, path)
                # What is on disk is verified, whoever wrote it.
                with path.open("rb") as there:
                    same = _same_content(body, there) or unpacks_to(there, metadata.get("sha256"))
                if not same:
                    raise ArchiveConflict(f"{self.url}/{name} exists with other content")
            if not _metadata_path(path).exists():
                with self._temporary() as (temporary, handle):
                    handle.write(json.dumps(described, ensure_ascii=False).encode())
                    _sync(handle)
                    temporary.replace(_metadata_path(path))
            _sync_folder(path.parent)
            return self._describe(path)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """See ArchiveStore."""
        folder = self._root / prefix.rpartition("/")[0]
        with _translated(self.url):
            names = sorted(
                (Path(where) / name).relative_to(self._root).as_posix()
                for where, _, files in os.walk(folder, onerror=_unless_absent)
                for name in files
                if not name.endswith((_METADATA, _TEMPORARY))
            )
            for name in names:
                if name.startswith(prefix):
                    with suppress(FileNotFoundError):  # deleted since
                        yield self._describe(self._root / name)

    @contextmanager
    def open(self, stored: StoredObject) -> Iterator[BinaryIO]:
        """See ArchiveStore."""
        with _translated(self.url):
            try:
                handle = (self._root / stored.name).open("rb")
            except FileNotFoundError as exc:
                raise ObjectNotFound(f"{self.url}/{stored.name} does not exist") from exc
            with handle:
                yield handle

    def delete(self, name: str) -> bool:
        """See ArchiveStore."""
        path = self._root / name
        with _translated(self.url):
            try:
                path.unlink()
            except FileNotFoundError:
                return False
            _metadata_path(path).unlink(missing_ok=True)
            _sync_folder(path.parent)
            # Folders that have become empty go too, as names in a bucket do.
            for folder in path.relative_to(self._root).parents:
                if folder == Path():
                    break
                try:
                    (self._root / folder).rmdir()
                except OSError:
                    break
            return True

    def check(self) -> None:
        """See ArchiveStore."""
        with _translated(self.url):
            self._root.mkdir(parents=True, exist_ok=True)
            if not os.access(self._root, os.R_OK | os.W_OK | os.X_OK):
                raise ArchiveUnavailable(f"{self.url} can't be read and written by this user")

    @contextmanager
    def _temporary(self) -> Iterator[tuple[Path, BinaryIO]]:
        folder = self._root / "tmp"
        folder.mkdir(exist_ok=True)
        if not self._swept:
            self._swept = True
            _remove_older(folder, time.time() - _LEFT_BEHIND_SECONDS)
        descriptor, name = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(descriptor, "wb") as handle:
                yield Path(name), handle
        finally:
            Path(name).unlink(missing_ok=True)  # it may have been moved into place

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        folder.mkdir(parents=True, exist_ok=True)
        for made in [folder, *folder.parents]:
            _sync_folder(made)
            if made == self._root:
                break

    def _describe(self, path: Path) -> StoredObject:
        stat = path.stat()
        name = path.relative_to(self._root).as_posix()
        try:
            metadata = json.loads(_metadata_path(path).read_bytes())["metadata"]
        except FileNotFoundError:
            metadata = {}
        except (ValueError, LookupError, TypeError) as exc:
            raise ArchiveCorrupt(f"the metadata of {self.url}/{name} can't be read: {exc}") from exc
        return StoredObject(name, stat.st_size, stat.st_mtime_ns, metadata)


def _metadata_path(path: Path) -> Path:
    return path.with_name(path.name + _METADATA)


def _remove_older(folder: Path, than: float) -> None:
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # its own process was faster
            if path.stat().st_mtime < than:
                path.unlink()


def _same_content(body: BinaryIO, there: BinaryIO) -> bool:
    body.seek(0)
    while True:
        chunk = body.read(_CHUNK)
        if chunk != there.read(_CHUNK):
            there.seek(0)
            return False
        if not chunk:
            return True


def _unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _sync(handle: BinaryIO) -> None:
    handle.flush()
    os.fsync(handle.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise _unavailable(url, exc) from exc


def _unavailable(url: str, error: OSError) -> ArchiveUnavailable:
    reason = str(error) if error.errno is None else os.strerror(error.errno)
    return ArchiveUnavailable(f"{url} can't be used: {reason}")
