"""Bucket check: the bucket's settings, and warnings about those that lose archives too early, or keep them too long."""

from __future__ import annotations

from collections.abc import Iterator

from torpor.worker.archive.stores import Safeguards
from torpor.worker.quantities import span


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


def facts(found: Safeguards | None) -> dict[str, str]:
    """The settings for people; of a folder, which has none, how its archives expire."""
    if found is None:
        return {"expiry": "by the worker's task torpor.expire"}
    return {
        "location": found.location or "unknown",
        "uniform access": _yes(found.uniform_access),
        "public access prevented": _yes(found.public_access_prevented),
        "open to everybody": "unknown: the IAM policy may not be read" if found.public is None else _yes(found.public),
        "soft delete": _span(found.soft_delete_seconds),
        "versioning": _yes(found.versioning),
        "retention policy": _span(found.retention_seconds) + (", locked" if found.retention_locked else ""),
        "lifecycle rules": str(len(found.lifecycle)),
        "expires archives": _yes(found.expires),
    }


def _yes(fact: bool) -> str:  # noqa: FBT001 - a fact's text
    return "yes" if fact else "no"


def _span(seconds: int) -> str:
    return span(seconds) if seconds else "none"
