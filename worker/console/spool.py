"""Spool: this process's own folder for files that people download.

It lies in the folder for temporary files (TMPDIR), and only the user of the process may read it. The process removes it
at its end. What a killed process has left is removed by the next process that makes one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torpor.history.protocol import PermanentError
from torpor.worker.transfer.output_file import private

_LOCK = "lock"


class Spool:
    """A folder that is locked as long as its process lives."""

    def __init__(self) -> None:
        """Make the folder; raises PermanentError if another user has taken its place, and OSError."""
        root = _root()
        with _locked(root):
            for left in root.iterdir():
                if left.is_dir() and _is_free(left):
                    shutil.rmtree(left, ignore_errors=True)
            self.folder = Path(tempfile.mkdtemp(dir=root))
            self._lock = _opened(self.folder / _LOCK)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def _root() -> Path:
    root = Path(tempfile.gettempdir()) / f"torpor-console-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise PermanentError(f"{root} is not a folder of this user alone: remove it, or set TMPDIR")
    return root


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Let no other process make or remove folders meanwhile."""
    lock = _opened(root / _LOCK)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _is_free(folder: Path) -> bool:
    """True if no process has a folder locked."""
    lock = _opened(folder / _LOCK)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(lock)


def _opened(path: Path) -> int:
    return private(str(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW)
