"""A new folder, on this machine or in a bucket: whoever looks finds all of its files or none that it may rely on."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torpor.history.protocol import InvalidArgument
from torpor.worker.archive.stores import ArchiveStore, StoredObject
from torpor.worker.archive.stores.url import open_archive

# The last object of a bucket's folder; Spark and others know it as the sign that all of them are there.
COMPLETE = "_SUCCESS"


@contextmanager
def written(target: str) -> Iterator[Path]:
    """A folder to write to, whose files are at `target` at the end, `gs://bucket/prefix` or a folder.

    A folder appears under its name at the end, by a rename. To a bucket the files are uploaded at the end, and after
    them _SUCCESS. If there is an error, nothing stays. Only their owner may read the files on this machine.
    Raises InvalidArgument if there is something at `target`, or if it can't be written to.
    """
    try:
        if target.startswith("gs://"):
            with _in_bucket(target) as folder:
                yield folder
        else:
            with _beside(Path(target).resolve()) as folder:
                yield folder
    except OSError as exc:
        raise InvalidArgument(f"{target} can't be written: {exc.strerror or exc}") from exc


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidArgument(f"{target} is there already; name a new folder, or an empty one")
    temporary = tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".incomplete", dir=target.parent)
    with temporary as parent:
        folder = Path(parent) / "complete"
        folder.mkdir(mode=0o700)
        yield folder
        folder.rename(target)  # fails if somebody has put a file there meanwhile


@contextmanager
def _in_bucket(target: str) -> Iterator[Path]:
    try:
        store = open_archive(target)
    except ValueError as exc:
        raise InvalidArgument(f"{target}: {exc}") from exc
    if found := next(iter(store.list("")), None):
        raise InvalidArgument(f"{target} has objects already, such as {found.name}; name a prefix that has none")
    with tempfile.TemporaryDirectory(prefix="torpor-") as name:
        yield Path(name)
        _upload(store, Path(name))


def _upload(store: ArchiveStore, folder: Path) -> None:
    """Upload the files of a folder and then _SUCCESS. If one upload fails, the objects are removed again."""
    done: list[StoredObject] = []
    try:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            with path.open("rb") as body:
                name = path.relative_to(folder).as_posix()
                done.append(store.put(name, body, path.stat().st_size, metadata={}))
        done.append(store.put(COMPLETE, io.BytesIO(), 0, metadata={}))
    except BaseException:
        for stored in done:
            store.discard(stored)
        raise
