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
    HOLD_SEEN_TO = "hold.seen-to"
    RESTORE_BEGUN = "restore.begun"
    RESTORE_STAGED = "restore.staged"
    RESTORE_READ = "restore.read"
    RESTORE_SWAPPED = "restore.swapped"
    PURGE_LISTED = "purge.listed"
    PURGE_DROPPED = "purge.dropped"
    PURGE_TRIMMED = "purge.trimmed"
    PURGE_ERASED = "purge.erased"
    PURGE_RECEIPTED = "purge.receipted"


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
