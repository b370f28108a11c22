"""Pace: how many things a process begins in a second, such as uploads or looks at sessions."""

from __future__ import annotations

import math
import threading
import time


class Pace:
    """Lets things begin evenly. Safe to share among threads, which wait for their turns."""

    def __init__(self, per_second: float | None = None) -> None:
        """None sets no limit."""
        self._per_second = per_second or math.inf
        self._free_at = time.monotonic()
        self._lock = threading.Lock()

    def lot(self, most: int) -> int:
        """How many should begin together: up to `most`, and not more than a second's worth."""
        return max(int(min(most, self._per_second)), 1)

    def wait(self, count: float = 1) -> None:
        """Return when this many more may begin."""
        if math.isinf(self._per_second):
            return  # also a sleep of no time lets another thread run: a tenth of the CPU of an archived session
        with self._lock:
            now = time.monotonic()
            turn = max(self._free_at, now)
            self._free_at = turn + count / self._per_second
        time.sleep(turn - now)
