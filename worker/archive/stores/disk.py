"""Files that survive a crash of the machine, and locks on folders that all processes respect."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

# Folders with people's words are their owner's alone. Their files are so too, because mkstemp makes them.
PRIVATE = 0o700
_CHUNK = 1024 * 1024
_LEFT_BEHIND_SECONDS = 3600


class Irregular(Exception):
    """A name in a folder is that of a link, a pipe, a device or a folder, and not of a file."""


def open_file(path: Path) -> BinaryIO:
    """Open a file to read it, without following a link and without waiting for a pipe's writer.

    Raises Irregular for what is no file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
            raise Irregular("it is a link, or no file") from exc
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Irregular("it is no file")
    return os.fdopen(descriptor, "rb")


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Lock a folder against everybody else who locks it, in all processes; False if it does not exist (any more)."""
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
    """False if the folder was deleted while we waited for its lock, even if somebody has made it again."""
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False


def make_folder(folder: Path, root: Path) -> None:
    """Make a folder below `root`, or `root` itself, and all folders between them; returns when they are on disk."""
    if folder.is_dir():
        return
    missing = [folder, *(each for each in folder.parents if not each.exists())]
    for each in reversed(missing):
        each.mkdir(mode=PRIVATE, exist_ok=True)
    for made in [folder, *folder.parents]:
        sync_folder(made)
        if made == root:
            break


def sync(handle: BinaryIO) -> None:
    """Return when what was written to a file is on disk."""
    handle.flush()
    os.fsync(handle.fileno())


def sync_folder(folder: Path) -> None:
    """Return when the names in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def temporary(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file in a folder, to be linked or moved into place. Deletes the temporary name at the end."""
    folder.mkdir(mode=PRIVATE, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            yield Path(name), handle
    finally:
        Path(name).unlink(missing_ok=True)  # it may have been moved into place


def remove_left_behind(made: Path) -> None:
    """Delete the temporary files that crashed processes have left: an hour older than the new one that was `made`.

    Both moments are those of the file system, which another host may serve.
    """
    oldest = made.stat().st_mtime - _LEFT_BEHIND_SECONDS
    for path in made.parent.iterdir():
        with suppress(FileNotFoundError):  # its own process was faster
            if path.stat().st_mtime < oldest:
                path.unlink()


def copy(body: BinaryIO, handle: BinaryIO) -> None:
    """Write all of `body`, from its start, to a file, and return when it is on disk."""
    body.seek(0)
    while chunk := body.read(_CHUNK):
        handle.write(chunk)
    sync(handle)


def same_content(body: BinaryIO, there: BinaryIO) -> bool:
    """True if an open file has the same content as `body`. If not, the file stands at its start again."""
    body.seek(0)
    while True:
        chunk = body.read(_CHUNK)
        if chunk != there.read(_CHUNK):
            there.seek(0)
            return False
        if not chunk:
            return True
