"""Failpoints: named places at which a test can make a process fail or die. They do nothing unless armed."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Failpoint(StrEnum):
    """Each place between two steps that change Redis or the archive."""

    DEPLOYMENT_NAMED = "deployment.named"
    DEPLOYMENT_WRITTEN = "deployment.written"
    DEPLOYMENT_REBUILT = "deployment.rebuilt"
    DEPLOYMENT_FENCED = "deployment.fenced"
    SESSION_REJOINED = "session.rejoined"
    TOMBSTONE_REBUILT = "tombstone.rebuilt"
    FENCE_GIVEN = "fence.given"
    ARCHIVE_BEGUN = "archive.begun"
    ARCHIVE_PACKED = "archive.packed"
    ARCHIVE_MARKED = "archive.marked"
    ARCHIVE_SENT = "archive.sent"
    ARCHIVE_VERIFIED = "archive.verified"
    ARCHIVE_COMMITTED = "archive.committed"
    ERASE_MARKED = "erase.marked"
    ERASE_UNMARKED = "erase.unmarked"
    ERASE_DELETED = "erase.deleted"
    ERASE_DONE = "erase.done"
    ERASE_NOTED = "erase.noted"
    HOLD_APPLIED = "hold.applied"
    RESTORE_BEGUN = "restore.begun"
    RESTORE_STAGED = "restore.staged"
    RESTORE_READ = "restore.read"
    RESTORE_FINISHED = "restore.finished"
    OWNER_ASSIGNED = "owner.assigned"
    PART_COPIED = "part.copied"
    PART_DELETED = "part.deleted"
    PURGE_LISTED = "purge.listed"
    PURGE_DROPPED = "purge.dropped"
    PURGE_TRIMMED = "purge.trimmed"
    PURGE_ERASED = "purge.erased"
    PURGE_REMOVED = "purge.removed"
    PURGE_RECEIPTED = "purge.receipted"
    JOB_LISTED = "job.listed"
    JOB_COMPLETE = "job.complete"
    JOB_WORKED = "job.worked"
    JOB_DONE = "job.done"
    JOB_CONCLUDED = "job.concluded"
    JOB_TIDIED = "job.tidied"
    CANCEL_MARKED = "cancel.marked"
    ANSWER_COPIED = "answer.copied"
    AUDIT_BEGUN = "audit.begun"


def _ignore(_: Failpoint) -> None:
    pass


_reached: Callable[[Failpoint], None] = _ignore


def reach(failpoint: Failpoint) -> None:
    """Call the action that armed the failpoints, if any."""
    _reached(failpoint)


def arm(action: Callable[[Failpoint], None] = _ignore) -> None:
    """Call `action` at each failpoint from now on, in the thread that reaches it; without one, disarm."""
    global _reached  # noqa: PLW0603 - one process, one action
    _reached = action
