"""The worker's Celery app with armed failpoints. With tests/ on PYTHONPATH: `celery -A support.armed_worker worker`.

LEDGER_KILL_ORDER   file: one line "<failpoint> <n> <whom>". The process that takes it dies at the nth time that it
                    reaches the failpoint. The file is deleted before, so an order kills once.
LEDGER_KILL_CHANCE  the chance of dying at any failpoint, LEDGER_SEED being the seed (of each process with its pid)
LEDGER_KILL_WHOM    for those: "process", or "group" for the worker with all its children
LEDGER_KILL_LOG     file: one line "<pid> <failpoint> <whom>" for each death, written before it

Celery reaches failpoints in a child of its pool: "process" kills the child, and the worker forks another.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from pathlib import Path

from torpor.worker import failpoints
from torpor.worker.app import app
from torpor.worker.failpoints import Failpoint

__all__ = ["app"]

# A group is killed only if it is this worker's own.
_OWN_GROUP = os.getpgrp() == os.getpid()


def _path(variable: str) -> Path | None:
    return Path(os.environ[variable]) if variable in os.environ else None


class Armed:
    """Dies at a failpoint, by an order or by chance."""

    def __init__(self) -> None:
        self._order = _path("LEDGER_KILL_ORDER")
        self._log = _path("LEDGER_KILL_LOG")
        self._chance = float(os.environ.get("LEDGER_KILL_CHANCE", "0"))
        self._whom = os.environ.get("LEDGER_KILL_WHOM", "process")
        self._seed = os.environ.get("LEDGER_SEED", "0")
        self._counts: Counter[str] = Counter()
        self._dice: dict[int, random.Random] = {}
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._forked)

    def reach(self, failpoint: Failpoint) -> None:
        """Called at each failpoint."""
        with self._lock:
            if self._order and (order := self._ordered(self._order, failpoint)):
                self._die(failpoint, order)
            dice = self._dice.setdefault(os.getpid(), random.Random(f"{self._seed}:{os.getpid()}"))
            if dice.random() < self._chance:
                self._die(failpoint, self._whom)

    def _forked(self) -> None:
        # A thread of the parent may have locked it.
        self._lock = threading.Lock()

    def _ordered(self, path: Path, failpoint: Failpoint) -> str | None:
        """The processes that an order, due now, kills; None if there is no such order."""
        try:
            name, times, whom = path.read_text().split()
        except (FileNotFoundError, ValueError):
            self._counts.clear()
            return None
        if name != failpoint:
            return None
        self._counts[name] += 1
        if self._counts[name] < int(times):
            return None
        try:
            path.unlink()
        except FileNotFoundError:  # another process has taken it
            return None
        return whom

    def _die(self, failpoint: Failpoint, whom: str) -> None:
        if self._log:
            with self._log.open("a") as log:
                log.write(f"{os.getpid()} {failpoint} {whom}\n")
        if whom == "group":
            assert _OWN_GROUP, "this worker's process group is not its own"
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


failpoints.arm(Armed().reach)
