"""Bucket check: warnings about bucket settings that lose archives too early, or keep them too long."""

from __future__ import annotations

from collections.abc import Iterator

from torpor.worker.archive.stores import Safeguards


def warnings(bucket: Safeguards) -> Iterator[str]:
    """Each setting that is wrong, and what to do about it."""
    if bucket.public:
        yield "everybody may read the bucket: take allUsers and allAuthenticatedUsers out of its IAM policy"
    elif not bucket.public_access_prevented:
        yield "public access is not prevented: enforce public access prevention"
    if not bucket.uniform_access:
        yield "access lists of single objects count: switch uniform bucket-level access on"
    if not bucket.soft_delete_seconds:
        yield "there is no soft delete: what is deleted by mistake can't be brought back"
    if bucket.retention_seconds:
        yield (
            f"the retention policy keeps each object for {bucket.retention_seconds:,} seconds: "
            "until then a purge is blocked, and a clear can't be finished"
        )
    if bucket.held_by_default:
        yield "new objects get an event-based hold: no purge can delete them"
    if not bucket.expires:
        yield "no lifecycle rule deletes what is past its retention: torpor bucket --apply"
