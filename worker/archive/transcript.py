"""A session's transcript in the archive: the plan by which its segments make it up, and its messages."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from torpor.history.protocol import MAX_MESSAGE_BYTES, Expiry, Origin, OwnerMismatch
from torpor.worker.archive.contents import Contents, Segment
from torpor.worker.archive.names import SegmentName
from torpor.worker.archive.overlaps import Slice, overlap, resolve
from torpor.worker.archive.segment_reader import SegmentReader
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.errors import SegmentDamaged, SegmentMissing


@dataclass(frozen=True, slots=True)
class Plan:
    """The slices that make up a transcript, in order.

    `divergent` names the segments that it leaves out. They come from a Redis that was rewound by a failover and then
    went on differently. `damaged` names the segments that can't be read and whose messages are in other segments:
    uploads that went wrong and were never committed.
    """

    session_id: str
    slices: Sequence[Slice]
    divergent: Sequence[str]
    origin: Origin
    damaged: Sequence[str] = ()
    max_message_bytes: int = MAX_MESSAGE_BYTES

    @property
    def count(self) -> int:
        """The number of messages in the transcript."""
        return sum(piece.take for piece in self.slices)


def plan(
    archive: ArchiveStore,
    contents: Contents,
    *,
    below: int | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> Plan:
    """Plan the transcript of the epochs `below` one, or of all.

    Segments of one epoch that overlap have the same messages, unless a failover has rewound Redis. Then the segment
    that was archived later counts, and `divergent` names the other. It also names segments of epochs above `below`:
    Redis was rewound to a time before them. Reads only segments that overlap.
    Raises SegmentMissing, which names the gap, and SegmentDamaged.
    """
    reader = SegmentReader(archive, contents.session_id, max_message_bytes)
    slices: list[Slice] = []
    before = 0
    used: list[Segment] = []
    damaged: list[str] = []
    divergent = [
        segment.stored.name for segment in contents.segments if below is not None and segment.name.epoch > below
    ]
    planned = [segment for segment in contents.segments if below is None or segment.name.epoch < below]
    for epoch, group in groupby(planned, key=lambda segment: segment.name.epoch):
        segments, unreadable = _readable(reader, list(group))
        before += _check_complete(reader, epoch, segments, before)
        if overlap(segments):
            pieces, aside = resolve(reader, segments)
            slices += pieces
            divergent += aside
        else:
            slices += [Slice(segment, 0, segment.name.stop - segment.name.start) for segment in segments]
        used += segments
        damaged += [segment.stored.name for segment in unreadable]
    return Plan(contents.session_id, slices, divergent, _origin(reader, used), damaged, max_message_bytes)


def read(archive: ArchiveStore, planned: Plan) -> Iterator[list[bytes]]:
    """Yield the stored bytes of every message of a plan, in order, some at a time.

    Raises OwnerMismatch if the segments have several owners, who used the same session id at different times. Raises
    SegmentDamaged, which names the object, perhaps only at the end: use no message before the last one has come.
    """
    check_owner(planned)
    reader = SegmentReader(archive, planned.session_id, planned.max_message_bytes)
    for piece in (piece for piece in planned.slices if piece.take):
        before = 0
        for page in reader.pages(piece.segment):
            if wanted := page[max(piece.skip - before, 0) : max(piece.skip + piece.take - before, 0)]:
                yield wanted
            before += len(page)


def check_owner(planned: Plan) -> None:
    """Raise OwnerMismatch if the segments of a plan have several owners."""
    owners = {piece.segment.stored.metadata.get("owner") for piece in planned.slices} - {None}
    if len(owners) > 1:
        raise OwnerMismatch(
            f"the archive has session {planned.session_id!r} of {len(owners)} owners; nobody may read it"
        )


def _readable(reader: SegmentReader, segments: Sequence[Segment]) -> tuple[list[Segment], list[Segment]]:
    """The segments of an epoch that can be used, and the damaged ones, whose messages the others have too.

    A worker that died can have left a damaged upload, which the session has outgrown since. Raises SegmentDamaged if
    the others do not have its messages. Reads content only if segments overlap.
    """
    faults: dict[SegmentName, SegmentDamaged] = {}
    overlapping = overlap(segments)
    for segment in segments:
        try:
            reader.metadata(segment)
            if overlapping:
                deque(reader.pages(segment), maxlen=0)
        except SegmentDamaged as damage:
            faults[segment.name] = damage
    sound = [segment for segment in segments if segment.name not in faults]
    reached = 0
    for segment in sound:
        reached = max(reached, segment.name.stop) if segment.name.start <= reached else reached
    for name, fault in faults.items():
        if name.stop > reached:
            raise fault
    return sound, [segment for segment in segments if segment.name in faults]


def _check_complete(reader: SegmentReader, epoch: int, segments: Sequence[Segment], before: int) -> int:
    """Check that no message is missing before any segment of an epoch; raises SegmentMissing.

    `before` counts the messages of earlier epochs, also of divergent segments. Returns how many messages the epoch had
    at most.
    """
    reached = 0
    for segment in segments:
        if segment.name.start > reached:
            raise SegmentMissing(
                f"the archive of session {reader.session_id!r} has a gap: messages {reached} to "
                f"{segment.name.start - 1} of epoch {epoch} are missing before {segment.stored.name}"
            )
        base = reader.metadata(segment).base
        if before < base:
            raise SegmentMissing(
                f"the archive of session {reader.session_id!r} has a gap: {base - before} messages are missing "
                f"before epoch {epoch}, which followed {base}"
            )
        reached = max(reached, segment.name.stop)
    return reached


def _origin(reader: SegmentReader, segments: Sequence[Segment]) -> Origin:
    """The earliest creation, newest expiry and newest owner of a session, by the metadata of its segments."""
    origins = [reader.metadata(segment).origin for segment in segments]
    return Origin(
        created=min((each.created for each in origins if each.created), default=None),
        expiry=origins[-1].expiry if origins else Expiry(),
        owner=next((each.owner for each in reversed(origins) if each.owner is not None), None),
    )
