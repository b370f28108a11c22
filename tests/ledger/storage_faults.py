"""The faults of a round's archive: of a bucket behind a proxy, or of a folder on this machine."""

from __future__ import annotations

import fcntl
import os
import random
import resource
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from ledger.deployment import Program
from support.ports import process_of
from support.storage_proxy import (
    Exchange,
    Reply,
    StorageProxy,
    answered,
    answered_after,
    corrupted_up,
    reset_after,
    reset_before,
)
from torpor.worker.archive.stores.folder_names import TEMPORARY

# Called when a fault has happened, with the worker's process that met it, if that is known.
Struck = Callable[[int | None], None]
# Called with the name of each fault that happens.
Count = Callable[[str], None]

_STATUSES = [408, 429, 500, 502, 503, 504]
# How long a fault lasts that has an end. A lease is two seconds: a worker that is held back for longer is overtaken.
# What meets every worker is over sooner, so that some work is done between.
_SHORT, _LONG, _LONGEST_FOR_ALL = 0.1, 2.5, 0.7


class StorageFaults(Protocol):
    """Makes the archive fail."""

    def strike(self, struck: Struck) -> None:
        """Cause a random fault as soon as possible, and call `struck` when it has happened."""

    def step(self) -> None:
        """End the faults whose time is over."""

    def heal(self) -> None:
        """End all faults."""


class BucketFaults:
    """Requests that fail, get no answer, arrive late, or are altered on their way."""

    def __init__(self, proxy: StorageProxy, workers: Sequence[Program], dice: random.Random, count: Count) -> None:
        self._proxy = proxy
        self._workers = workers
        self._dice = dice
        self._count = count

    def strike(self, struck: Struck) -> None:
        name, kind, fault = self._dice.choice(
            [
                ("refused", "", answered(self._dice.choice(_STATUSES))),
                ("done, but refused", "", answered_after(503)),
                ("lost", "", reset_before),
                ("done, but no reply", "", reset_after),
                ("late", "", self._late),
                ("late, after another try", "", self._twice),
                ("altered", "upload", corrupted_up),
            ]
        )
        followed = iter([struck])

        def act(exchange: Exchange) -> Reply:
            self._count(f"request {name}")
            pid = process_of(exchange.port, [pid for worker in self._workers for pid in worker.processes])
            try:
                return fault(exchange)
            finally:
                next(followed, follow_with_nothing)(pid)

        self._proxy.fail(act, kind, times=self._dice.randint(1, 3))

    def step(self) -> None:
        pass

    def heal(self) -> None:
        self._proxy.heal()

    def _late(self, exchange: Exchange) -> Reply:
        """The request arrives later, though its sender may have lost its lease."""
        time.sleep(self._dice.uniform(_SHORT, _LONG))
        return exchange.forward()

    def _twice(self, exchange: Exchange) -> Reply:
        """The connection breaks, and the request arrives later nevertheless: after the next try of its sender."""
        threading.Timer(self._dice.uniform(_SHORT, _LONG), exchange.forward).start()
        return exchange.reset()


class FolderFaults:
    """A disk without room, temporary files that can't be made, and folders that somebody else has locked.

    Each lasts for a while.
    """

    def __init__(self, root: Path, workers: Sequence[Program], dice: random.Random, count: Count) -> None:
        self._root = root
        self._workers = workers
        self._dice = dice
        self._count = count
        self._lock = threading.Lock()
        self._ends: list[tuple[float, Callable[[], None]]] = []

    def strike(self, struck: Struck) -> None:
        name, fault = self._dice.choice(
            [("no room", self._no_room), ("no temporary files", self._no_temporary_files), ("locked", self._locked)]
        )
        with self._lock:
            met_by = fault()
        if met_by is not None:
            self._count(f"folder: {name}")
            struck(met_by or None)

    def step(self) -> None:
        self._end_until(time.monotonic())

    def heal(self) -> None:
        self._end_until(float("inf"))

    def _end_until(self, moment: float) -> None:
        with self._lock:
            over = [end for until, end in self._ends if until <= moment]
            self._ends = [each for each in self._ends if each[0] > moment]
            for end in over:
                end()

    def _lasts(self, end: Callable[[], None], at_most: float) -> None:
        self._ends.append((time.monotonic() + self._dice.uniform(_SHORT, at_most), end))

    # Each returns the process that meets the fault, 0 for any, None if the fault could not be caused.

    def _no_room(self) -> int | None:
        """No file of a worker can grow, as on a full disk."""
        worker = self._dice.choice(self._workers)
        processes = worker.processes
        _limit_files(processes, 0)
        self._lasts(lambda: _limit_files([*processes, *worker.processes], resource.RLIM_INFINITY), _LONGEST_FOR_ALL)
        return processes[-1] if processes else None

    def _no_temporary_files(self) -> int | None:
        """Every put fails: the place of the temporary files is no folder, and the ones that were there are gone."""
        place, aside = self._root / TEMPORARY, self._root.with_name("aside")
        if not place.is_dir() or aside.exists():
            return None
        place.rename(aside)
        with suppress(FileExistsError):  # a worker has made it again
            place.open("xb").close()

        def end() -> None:
            shutil.rmtree(aside)
            if place.is_file():
                place.unlink()

        self._lasts(end, _LONGEST_FOR_ALL)
        return 0

    def _locked(self) -> int | None:
        """Who writes to a session's folder, or deletes there, has to wait."""
        folders = list(self._root.glob("v1/*/*/*/"))
        if not folders:
            return None
        with suppress(FileNotFoundError, BlockingIOError):
            descriptor = os.open(self._dice.choice(folders), os.O_RDONLY | os.O_DIRECTORY)
            self._lasts(lambda: os.close(descriptor), _LONG)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return 0
        return None


def follow_with_nothing(_: int | None) -> None:
    """Nothing follows the fault."""


def _limit_files(processes: Sequence[int], size: int) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
