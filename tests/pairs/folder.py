"""The way to a folder: each call of the file system below it is a step, which Python's audit events announce.

Source: https://docs.python.org/3.11/library/audit_events.html
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

from pairs.attempt import FAILPOINT, Attempt, Fault, aside, current
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.archive.stores.folder import FolderStore

MAKE, CREATE, LINK, MOVE = "make a folder", "create", "link", "move"
REMOVE, REMOVE_FOLDER = "remove", "remove a folder"
LIST, READ, SYNC, LOCK = "list", "read", "sync", "lock"
_CHANGES = {MAKE, CREATE, LINK, MOVE, REMOVE, REMOVE_FOLDER}
_ALL = {*_CHANGES, LIST, READ, SYNC, LOCK}

_CALLS: dict[str, tuple[str, Callable[..., object] | None]] = {
    "os.mkdir": (MAKE, lambda path, mode, _: Path(path).mkdir(mode)),
    "os.link": (LINK, lambda source, place, *_: os.link(source, place)),
    "os.rename": (MOVE, lambda source, place, *_: Path(source).replace(place)),
    "os.remove": (REMOVE, lambda path, _: Path(path).unlink()),
    "os.rmdir": (REMOVE_FOLDER, lambda path, _: Path(path).rmdir()),
    "os.scandir": (LIST, None),
    "fcntl.flock": (LOCK, None),
}


@dataclass(frozen=True)
class Step:
    """A call of the file system that is about to be made by the worker of an attempt."""

    attempt: Attempt
    kind: str
    make: Callable[[], object] | None


def _failing(code: int) -> Callable[[Step], None]:
    def act(_: Step) -> None:
        raise OSError(code, os.strerror(code))

    return act


def _done_and_failed(step: Step) -> None:
    assert step.make
    step.make()
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def _die(step: Step) -> None:
    step.attempt.check_alive()


FAULTS = [
    Fault("I/O error", _ALL, _failing(errno.EIO)),
    Fault("no permission from there on", _ALL - {LOCK}, _failing(errno.EACCES), lasting=True),
    Fault("disk full from there on", {MAKE, CREATE, LINK, MOVE}, _failing(errno.ENOSPC), lasting=True),
    Fault("done, but reported as failed", _CHANGES - {CREATE}, _done_and_failed),
    Fault("worker killed", _ALL | {FAILPOINT}, _die, kills=True),
    Fault("held back", _ALL, lambda step: step.attempt.wait_to_go(), holds=True),
]


@dataclass(frozen=True)
class FolderWay:
    """The way to the folder `root`."""

    root: Path
    faults: ClassVar = FAULTS

    def store(self, attempt: Attempt) -> ArchiveStore:
        """The folder as the attempt's worker sees it, which has just started."""
        _listen()
        attempt.place = str(self.root)
        return FolderStore(self.root)


@cache
def _listen() -> None:
    sys.addaudithook(_heard)


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if (event in _CALLS or event == "open") and (attempt := current()):
        with aside():
            _meet(attempt, event, arguments)


def _meet(attempt: Attempt, event: str, arguments: tuple[Any, ...]) -> None:
    attempt.check_alive()
    if not _place(event, arguments).startswith(attempt.place):
        return
    kind, make = (_opened(arguments[0], arguments[2]), None) if event == "open" else _CALLS[event]
    if kind and (fault := attempt.meet(kind)):
        fault.act(Step(attempt, kind, make and partial(make, *arguments)))
    if kind == LOCK and not _locked_at_once(arguments[0]):
        attempt.is_waiting()


def _place(event: str, arguments: tuple[Any, ...]) -> str:
    return str(Path(f"/proc/self/fd/{arguments[0]}").readlink() if event == "fcntl.flock" else arguments[0])


def _opened(path: str, flags: int) -> str | None:
    """The kind of an opening; None for the one before a lock, since the lock itself is a step."""
    if flags & os.O_CREAT:
        return CREATE
    if flags & os.O_DIRECTORY:
        return None
    return SYNC if Path(path).is_dir() else READ


def _locked_at_once(descriptor: int) -> bool:
    """Take the lock, unless another worker has it: then the call itself waits for it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
