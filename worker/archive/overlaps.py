"""Overlapping segments of one epoch: the slices of them that make up its messages, and the divergent ones."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, pairwise, zip_longest

from torpor.worker.archive.contents import Segment
from torpor.worker.archive.segment_reader import SegmentReader
from torpor.worker.errors import SegmentMissing

_IN_MEMORY = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Slice:
    """Messages `[skip, skip + take)` of a segment, whose first message is number 0."""

    segment: Segment
    skip: int
    take: int


def overlap(segments: Sequence[Segment]) -> bool:
    """True if two segments of one epoch, in their order, have the same positions."""
    return any(earlier.name.stop > later.name.start for earlier, later in pairwise(segments))


def resolve(reader: SegmentReader, segments: Sequence[Segment]) -> tuple[list[Slice], list[str]]:
    """Slice overlapping segments of one epoch; a message that was archived later counts.

    Returns the slices, and the names of divergent segments. The digests of the messages stand in a temporary file,
    because a segment may have millions. Raises SegmentDamaged, and SegmentMissing if a divergent one has cut off the
    messages that a segment followed.
    """
    runs: list[tuple[int, Segment]] = []  # from which position on a segment's messages count
    divergent: list[str] = []
    reached = 0
    waiting = sorted(segments, key=lambda segment: segment.stored.generation)
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as digests:
        while waiting:
            segment = _next(reader.session_id, waiting, reached)
            waiting.remove(segment)
            position = segment.name.start
            for element in chain.from_iterable(reader.pages(segment)):
                digest = sha256(element).digest()
                digests.seek(position * len(digest))
                if position < reached and digests.read(len(digest)) != digest:
                    divergent += dict.fromkeys(each.stored.name for each in _after(runs, position))
                    runs = [run for run in runs if run[0] < position]
                    reached = position
                if position == reached:
                    digests.seek(position * len(digest))
                    digests.write(digest)
                    reached += 1
                    if not runs or runs[-1][1] is not segment:
                        runs.append((position, segment))
                position += 1
    return _slices(runs, reached), divergent


def _after(runs: Sequence[tuple[int, Segment]], position: int) -> list[Segment]:
    """The segments whose messages count at a position or after it."""
    ends = [first for first, _ in runs[1:]]
    return [segment for (_, segment), end in zip_longest(runs, ends) if end is None or end > position]


def _next(session_id: str, waiting: Sequence[Segment], reached: int) -> Segment:
    """The earliest segment that starts at or before position `reached`.

    There is one, unless a divergent one has cut off the messages that a segment followed: raises SegmentMissing.
    """
    for segment in waiting:
        if segment.name.start <= reached:
            return segment
    raise SegmentMissing(
        f"the archive of session {session_id!r} has a gap: a later segment has cut off what came before "
        f"{waiting[0].stored.name}"
    )


def _slices(runs: Sequence[tuple[int, Segment]], reached: int) -> list[Slice]:
    """Slices by the segment of each position."""
    ends = [*(first for first, _ in runs[1:]), reached]
    return [
        Slice(segment, first - segment.name.start, end - first)
        for (first, segment), end in zip(runs, ends, strict=True)
        if end > first
    ]
