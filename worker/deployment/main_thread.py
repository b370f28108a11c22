"""Whether the main thread of this worker moves: it beats every second while it waits for messages or for the broker."""

from __future__ import annotations

import time

_beaten: float | None = None


def beat() -> None:
    """The main thread moves."""
    global _beaten  # noqa: PLW0603 - a process has one main thread
    _beaten = time.monotonic()


def silent_seconds() -> float:
    """For how long it has not moved; 0 until its first beat, because its start may take long."""
    return time.monotonic() - _beaten if _beaten else 0.0
