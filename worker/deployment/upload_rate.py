"""The upload rate: how many uploads a process may begin in a second."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kombu.utils.limits import TokenBucket


class UploadRate:
    """A token bucket with the tokens of one second. Safe to share among threads, which wait for their turn."""

    def __init__(self, per_second: float | None = None) -> None:
        """None sets no limit."""
        self._bucket = _bucket(per_second) if per_second else None
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when the next upload may begin."""
        if self._bucket is None:
            return
        with self._lock:
            while not self._bucket.can_consume():
                time.sleep(self._bucket.expected_time())


def _bucket(per_second: float) -> TokenBucket:
    from kombu.utils.limits import TokenBucket  # commands that upload nothing need not wait for the import

    return TokenBucket(per_second, capacity=max(1, per_second))
