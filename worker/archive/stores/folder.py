"""FolderStore: the archive in a folder of this machine, the embedded default."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from torpor.worker.archive.stores import Safeguards, StoredObject, unpacks_to
from torpor.worker.errors import ArchiveConflict, ArchiveCorrupt, ArchiveRefused, ArchiveUnavailable, ObjectNotFound

log = logging.getLogger(__name__)

_CHUNK = 1024 * 1024
_LEFT_BEHIND_SECONDS = 3600
_ATTEMPTS = 100
# No name of the layout ends like this.
_DESCRIPTION = "=.meta.json"
_TEMPORARY = "tmp/"


@dataclass(frozen=True, slots=True)
class _Description:
    """What is known of an object beside its content."""

    metadata: Mapping[str, str] = field(default_factory=dict)
    custom_time: datetime | None = None
    held: bool = False

    @classmethod
    def parse(cls, content: bytes) -> _Description:
        told = json.loads(content)
        custom_time = told["custom_time"]
        return cls(told["metadata"], custom_time and datetime.fromisoformat(custom_time), told.get("held", False))

    def __bytes__(self) -> bytes:
        custom_time = self.custom_time and self.custom_time.isoformat()
        told = {"metadata": dict(self.metadata), "custom_time": custom_time, "held": self.held}
        return json.dumps(told, ensure_ascii=False).encode()

    def amended(self, *, custom_time: datetime | None, held: bool | None) -> _Description:
        moments = [moment for moment in (self.custom_time, custom_time) if moment]
        return replace(self, custom_time=max(moments, default=None), held=self.held if held is None else held)

    def expired(self, now: datetime) -> bool:
        return self.custom_time is not None and self.custom_time <= now and not self.held


class FolderStore:
    """Objects as files; what is known of an object is beside it in `<name>=.meta.json`, written before it.

    A file appears under its name only when it is complete and on disk: written to a temporary file, fsync,
    link (which refuses to replace), fsync of the folder. Whoever writes in a folder has locked it.
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
        held: bool = False,
    ) -> StoredObject:
        """See ArchiveStore."""
        path = self._root / name
        described = _Description(metadata, custom_time, held)
        with _translated(self.url):
            self._make_folder(self._root)
            with self._temporary() as (temporary, handle):
                body.seek(0)
                while chunk := body.read(_CHUNK):
                    handle.write(chunk)
                _sync(handle)
                with self._made(path.parent):
                    if not path.exists():
                        self._create(path, temporary, described)
                    _sync_folder(path.parent)  # whoever wrote it may not have come to that
                    self._verify(path, body, metadata.get("sha256"))
                    self._amend(path, described, custom_time=custom_time, held=held or None)
                    return self._stored(path)

    def list(self, prefix: str, *, generations: bool = False) -> Iterator[StoredObject]:
        """See ArchiveStore."""
        folder, slash, _ = prefix.rpartition("/")
        with _translated(self.url):
            for name in self._names(folder + slash, prefix):
                if stored := self._find(name, generations=generations):
                    yield stored

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

    def delete(self, stored: StoredObject) -> bool:
        """See ArchiveStore."""
        path = self._root / stored.name
        with _translated(self.url), _locked(path.parent) as locked:
            if not locked or _generation(path) != stored.generation:
                return False
            if path.exists() and (described := self._described(path)) and described.held:
                raise ArchiveRefused(f"{self.url}/{stored.name} may not be deleted: it is held", held=True)
            self._remove(path)
            return True

    def amend(self, stored: StoredObject, *, custom_time: datetime | None = None, held: bool | None = None) -> None:
        """See ArchiveStore."""
        path = self._root / stored.name
        with _translated(self.url), _locked(path.parent) as locked:
            if not locked or not path.exists() or _generation(path) != stored.generation:
                raise ObjectNotFound(f"{self.url}/{stored.name} does not exist")
            self._amend(path, _Description(), custom_time=custom_time, held=held)

    def expire(self, now: datetime) -> int:
        """See ArchiveStore. Also removes what crashes have left of objects."""
        expired = 0
        with _translated(self.url):
            for name in self._names("", ""):
                try:
                    expired += self._expire(name, now)
                except ArchiveCorrupt as exc:
                    log.warning("it is kept, whatever its custom time: %s", exc)
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
            self._root.mkdir(parents=True, exist_ok=True)
            if not os.access(self._root, os.R_OK | os.W_OK | os.X_OK):
                raise ArchiveUnavailable(f"{self.url} can't be read and written by this user")

    @contextmanager
    def _temporary(self) -> Iterator[tuple[Path, BinaryIO]]:
        folder = self._root / _TEMPORARY
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

    @contextmanager
    def _made(self, folder: Path) -> Iterator[None]:
        """A folder that is there and locked."""
        for left in reversed(range(_ATTEMPTS)):
            with _locked(folder) as locked:
                if locked:
                    yield
                    return
            try:
                self._make_folder(folder)
            except (FileNotFoundError, FileExistsError):  # while it was made, somebody deleted it or one above it
                if not left:
                    raise

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        folder.mkdir(parents=True, exist_ok=True)
        for made in [folder, *folder.parents]:
            _sync_folder(made)
            if made == self._root:
                break

    def _create(self, path: Path, temporary: Path, described: _Description) -> None:
        """Give a complete file its name; an object is never seen without its hold."""
        self._describe(path, described)
        try:
            os.link(temporary, path)
        except OSError:
            _description_path(path).unlink()
            raise

    def _verify(self, path: Path, body: BinaryIO, sha256: str | None) -> None:
        """What is on disk is verified, whoever wrote it."""
        with path.open("rb") as there:
            if not _same_content(body, there) and not unpacks_to(there, sha256):
                raise ArchiveConflict(f"{self.url}/{self._name(path)} exists with other content")

    def _amend(self, path: Path, otherwise: _Description, *, custom_time: datetime | None, held: bool | None) -> None:
        """`otherwise` is the description where there is none: a crash of the machine lost it."""
        there = self._described(path)
        amended = (there or otherwise).amended(custom_time=custom_time, held=held)
        if amended != there:
            self._describe(path, amended)
            _sync_folder(path.parent)

    def _describe(self, path: Path, described: _Description) -> None:
        with self._temporary() as (temporary, handle):
            handle.write(bytes(described))
            _sync(handle)
            temporary.replace(_description_path(path))

    def _described(self, path: Path) -> _Description | None:
        try:
            return _Description.parse(_description_path(path).read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, LookupError, TypeError) as exc:
            raise ArchiveCorrupt(f"the metadata of {self.url}/{self._name(path)} can't be read: {exc}") from exc

    def _remove(self, path: Path) -> None:
        """Remove an object, and the folders that have become empty, as names in a bucket do."""
        path.unlink(missing_ok=True)
        _description_path(path).unlink(missing_ok=True)
        _sync_folder(path.parent)
        for folder in path.relative_to(self._root).parents:
            if folder == Path():
                break
            try:
                (self._root / folder).rmdir()
            except OSError:
                break

    def _expire(self, name: str, now: datetime) -> bool:
        """Was there an object that has expired?"""
        path = self._root / name
        if not self._removable(path, now):
            return False
        with _locked(path.parent) as locked:
            if not locked or not self._removable(path, now):  # it may have been amended meanwhile
                return False
            existed = path.exists()
            self._remove(path)
            return existed

    def _removable(self, path: Path, now: datetime) -> bool:
        described = self._described(path)
        return described is not None and (described.expired(now) or not path.exists())

    def _names(self, folder: str, prefix: str) -> Iterator[str]:
        """The names below a folder that begin with `prefix`, in their order; one folder's names are read at a time.

        `folder` is empty or ends with '/'. Some may have been deleted since, or in part.
        """
        try:
            with os.scandir(self._root / folder) as entries:
                # All that is in a/ comes after a-b and before a0, as its '/' does.
                found = {e.name + "/" if e.is_dir() else e.name.removesuffix(_DESCRIPTION) for e in entries}
        except FileNotFoundError:
            return
        for name in sorted(found):
            whole = folder + name
            if whole == _TEMPORARY:
                continue
            if whole.endswith("/") and (whole.startswith(prefix) or prefix.startswith(whole)):
                yield from self._names(whole, prefix)
            elif whole.startswith(prefix):
                yield whole

    def _find(self, name: str, *, generations: bool) -> StoredObject | None:
        path = self._root / name
        with suppress(FileNotFoundError):
            return self._stored(path)
        if generations:
            with suppress(FileNotFoundError):
                return self._left_behind(path)
        return None

    def _stored(self, path: Path) -> StoredObject:
        stat, described = path.stat(), self._described(path)
        while _identity(stat) != _identity(there := path.stat()):  # deleted meanwhile, and put again
            stat, described = there, self._described(path)
        described = described or _Description()
        return StoredObject(
            self._name(path),
            stat.st_size,
            stat.st_mtime_ns,
            described.metadata,
            described.custom_time,
            described.held,
            created=_moment(stat),
        )

    def _left_behind(self, path: Path) -> StoredObject:
        """What a crash in the middle of a put or of a deletion has left of an object: its description."""
        stat = _description_path(path).stat()
        return StoredObject(self._name(path), 0, stat.st_mtime_ns, created=_moment(stat), current=False)

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Keep everybody else who locks the folder out of it, in all processes; False where it was deleted meanwhile."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield _is_still(folder, descriptor)
    finally:
        os.close(descriptor)


def _is_still(folder: Path, descriptor: int) -> bool:
    """Whoever had the lock may have deleted the folder, and somebody else made another."""
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False


def _description_path(path: Path) -> Path:
    return path.with_name(path.name + _DESCRIPTION)


def _generation(path: Path) -> int | None:
    """Of an object, or of what is left of it; None where nothing is."""
    for each in (path, _description_path(path)):
        with suppress(FileNotFoundError):
            return each.stat().st_mtime_ns
    return None


def _identity(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_ino, stat.st_mtime_ns


def _moment(stat: os.stat_result) -> datetime:
    return datetime.fromtimestamp(stat.st_mtime, UTC)


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
