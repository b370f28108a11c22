"""Pace: how many sessions a walk looks at in a second, so that applications keep their share of Redis."""

from __future__ import annotations

import time


class Pace:
    """Lets a walk go on when the sessions that it has looked at are paid for."""

    def __init__(self, per_second: float) -> None:
        """`per_second`: sessions, more than 0."""
        self._per_second = per_second
        self._free_at = time.monotonic()

    def lot(self, most: int) -> int:
        """How many sessions a walk should look at together: up to `most`, and not more than a second's worth."""
        return max(min(most, int(self._per_second)), 1)

    def wait(self, sessions: float) -> None:
        """Return when the walk may look at this many sessions more."""
        now = time.monotonic()
        time.sleep(max(self._free_at - now, 0))
        self._free_at = max(self._free_at, now) + sessions / self._per_second
