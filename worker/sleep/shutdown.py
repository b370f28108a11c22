"""Tells all processes of a worker's pool that the worker shuts down, so that drains end in time."""

from __future__ import annotations

import mmap
import struct
import time
from typing import Any

# Celery tells only the main process. The pool's processes share this memory with it since they were forked. It needs no
# lock, and a signal handler must not take one.
_since = mmap.mmap(-1, 8)


def begin(**_: Any) -> None:
    """Note that the shutdown has begun, once; a receiver for Celery's `worker_shutting_down`."""
    if seconds_ago() is None:
        _since[:] = struct.pack("d", time.monotonic())


def seconds_ago() -> float | None:
    """Seconds since the shutdown began; None before it."""
    (since,) = struct.unpack("d", _since[:])
    return time.monotonic() - since if since else None
