"""Whether this worker is shutting down, known to all processes of its pool, so that drains end in time."""

from __future__ import annotations

import mmap
import struct
import time
from typing import Any

# Celery tells the main process alone. Memory that the pool's processes share with it since they were forked needs no
# lock, which a signal handler must not take.
_since = mmap.mmap(-1, 8)


def begin(**_: Any) -> None:
    """Note that the shutdown has begun, once; a receiver for Celery's `worker_shutting_down`."""
    if seconds_ago() is None:
        _since[:] = struct.pack("d", time.monotonic())


def seconds_ago() -> float | None:
    """How long ago the shutdown began; None while the worker is to go on."""
    (since,) = struct.unpack("d", _since[:])
    return time.monotonic() - since if since else None
