"""Failpoints: named places at which a test can fail or kill a process. They do nothing unless a test arms them."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Failpoint(StrEnum):
    """Each place between two steps that change Redis or the archive."""

    ARCHIVE_BEGUN = "archive.begun"
    ARCHIVE_PACKED = "archive.packed"
    ARCHIVE_MARKED = "archive.marked"
    ARCHIVE_SENT = "archive.sent"
    ARCHIVE_VERIFIED = "archive.verified"
    ARCHIVE_COMMITTED = "archive.committed"
    CLEAN_MARKED = "clean.marked"
    CLEAN_UNMARKED = "clean.unmarked"
    CLEAN_DELETED = "clean.deleted"
    CLEAN_ERASED = "clean.erased"
    CLEAN_NOTED = "clean.noted"
    RESTORE_BEGUN = "restore.begun"
    RESTORE_STAGED = "restore.staged"
    RESTORE_READ = "restore.read"
    RESTORE_SWAPPED = "restore.swapped"
    PURGE_CLEARED = "purge.cleared"
    PURGE_ERASED = "purge.erased"


def _ignore(_: Failpoint) -> None:
    pass


_reached: Callable[[Failpoint], None] = _ignore


def reach(failpoint: Failpoint) -> None:
    """Tell whoever armed the failpoints that this one is reached."""
    _reached(failpoint)


def arm(action: Callable[[Failpoint], None] = _ignore) -> None:
    """Call `action` at each failpoint from now on, in the thread that reaches it; without one, disarm."""
    global _reached  # noqa: PLW0603 - one process, one action
    _reached = action
