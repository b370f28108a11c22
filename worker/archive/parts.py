"""Parts: whose each segment of a session is, if several people have used its id.

The id is its first owner's. What was archived before that owner was named, and what a restore has joined to the owner's
messages since, is the owner's too. Everything else is a part of its own: no reader gets it with the first owner's.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from torpor.worker.archive.contents import Contents, Segment
from torpor.worker.archive.segment_metadata import is_as_written


def first_owner(found: Contents) -> str | None:
    """The owner of a session's id; None if no segment names one."""
    return next((owner for each in found.segments if (owner := _owner(each)) is not None), None)


def owners(found: Contents) -> set[str]:
    """The owners that the segments name: one at most, unless several people have used the session's id."""
    return {owner for each in found.segments if (owner := _owner(each)) is not None}


def of_first_owner(found: Contents) -> Contents:
    """The part of the owner of the session's id."""
    first = first_owner(found)
    kept: list[Segment] = []
    unnamed: list[Segment] = []
    for segment in found.segments:
        if _owner(segment) is None:
            (kept if _same_epoch(kept[-1:], segment) else unnamed).append(segment)
        elif _owner(segment) == first:
            if not kept or _base(segment) > _messages(kept) or _same_epoch(unnamed[-1:], segment):
                kept += unnamed
                unnamed = []
            kept.append(segment)
    return replace(found, segments=kept if first is not None else unnamed)


def of_others(found: Contents) -> dict[str | None, Contents]:
    """The parts of others, by owner; None stands for what names no owner."""
    own = {each.name for each in of_first_owner(found).segments}
    others: dict[str | None, list[Segment]] = {}
    for segment in found.segments:
        if segment.name not in own:
            others.setdefault(_owner(segment), []).append(segment)
    return {owner: replace(found, segments=segments) for owner, segments in others.items()}


def count(found: Contents) -> int:
    """How many messages the archive has, by the names of the segments, which may overlap."""
    return _messages(found.segments)


def _messages(segments: Sequence[Segment]) -> int:
    stops: dict[int, int] = {}
    for segment in segments:
        stops[segment.name.epoch] = max(stops.get(segment.name.epoch, 0), segment.name.stop)
    return sum(stops.values())


def _owner(segment: Segment) -> str | None:
    """The owner that a segment names; None if its metadata is not what was written."""
    return segment.stored.metadata.get("owner") if is_as_written(segment.stored) else None


def _same_epoch(before: Sequence[Segment], segment: Segment) -> bool:
    """True if the segment is of the epoch of the one before it, and so of the same owner."""
    return any(each.name.epoch == segment.name.epoch for each in before)


def _base(segment: Segment) -> int:
    """How many messages of earlier epochs a restore had put before the segment's epoch; 0 if that can't be read."""
    with suppress(ValueError):
        return int(segment.stored.metadata.get("base", 0))
    return 0
