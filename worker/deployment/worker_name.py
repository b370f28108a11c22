"""The name of this worker, by which it notes whether the archive works: Celery's node name, such as celery@host."""

from __future__ import annotations

import socket

_name = socket.gethostname()


def get() -> str:
    """The name; until Celery has given one, that of the host."""
    return _name


def set_name(name: str) -> None:
    """Take the name over, before the pool forks: its processes are one worker."""
    global _name  # noqa: PLW0603 - a process is one worker
    _name = name
