"""A session's contents in the archive: its segments by epoch, and the plan by which they make up the transcript."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from itertools import chain, groupby, pairwise, zip_longest

from torpor.history.protocol import MAX_MESSAGE_BYTES, Expiry, Origin, OwnerMismatch
from torpor.worker.archive import names
from torpor.worker.archive.names import FloorName, SegmentName
from torpor.worker.archive.segment import unpack
from torpor.worker.archive.segment_metadata import SegmentMetadata
from torpor.worker.archive.stores import ArchiveStore, StoredObject
from torpor.worker.errors import SegmentDamaged, SegmentMissing

# How much larger than its object a message above the limit may be.
_EXPANSION = 4
_IN_MEMORY = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment in a listing of the archive."""

    name: SegmentName
    stored: StoredObject


_Pages = Callable[[Segment], Iterator[list[bytes]]]


@dataclass(frozen=True, slots=True)
class Slice:
    """Messages `[skip, skip + take)` of a segment, whose first message is number 0."""

    segment: Segment
    skip: int
    take: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The slices that make up a transcript, in order. `forks` names the segments that the transcript leaves out.

    Forks come from a Redis that was rewound by a failover and then went on differently. `damaged` names the segments
    that can't be read and whose messages are in other segments: uploads that went wrong and were never committed.
    """

    session_id: str
    slices: Sequence[Slice]
    forks: Sequence[str]
    origin: Origin
    damaged: Sequence[str] = ()
    max_message_bytes: int = MAX_MESSAGE_BYTES

    @property
    def count(self) -> int:
        """The number of messages in the transcript."""
        return sum(piece.take for piece in self.slices)


@dataclass(frozen=True, slots=True)
class Contents:
    """A session's objects. Epochs below `floor` were cleared; the objects that are left of them are `erasable`."""

    session_id: str
    floor: int
    segments: Sequence[Segment]
    erasable: Sequence[StoredObject]

    def __bool__(self) -> bool:
        return bool(self.segments)

    @property
    def owners(self) -> set[str]:
        """The owners that the segments name: one at most, unless several people used the same session id."""
        return {each.stored.metadata["owner"] for each in self.segments if "owner" in each.stored.metadata}


def look(archive: ArchiveStore, session_id: str, *, generations: bool = False) -> Contents:
    """List a session's objects, by one listing. With `generations`, `erasable` has those that are not current, too."""
    parsed = [
        (name, stored)
        for stored in archive.list(names.session_prefix(session_id), generations=generations)
        if (name := names.parse(session_id, stored.name))
    ]
    floor = max((name.epoch for name, stored in parsed if isinstance(name, FloorName) and stored.current), default=0)
    segments = [
        Segment(name, stored)
        for name, stored in parsed
        if isinstance(name, SegmentName) and name.epoch >= floor and stored.current
    ]
    erasable = [stored for name, stored in parsed if name.epoch < floor]
    return Contents(session_id, floor, sorted(segments, key=_position), erasable)


def owner_markers(
    archive: ArchiveStore, owner: str, session_id: str, *, generations: bool = False
) -> list[tuple[int, StoredObject]]:
    """The owner markers of a session, each after its epoch; `generations` as in ArchiveStore.list."""
    return [
        (epoch, stored)
        for stored in archive.list(names.owner_markers(owner, session_id), generations=generations)
        if (epoch := names.marked_epoch(owner, session_id, stored.name)) is not None
    ]


def last_active(objects: Iterable[StoredObject]) -> datetime:
    """When a session was last active, by the metadata of its objects. Later reads are not in it."""
    return max(map(_active, objects))


def _active(stored: StoredObject) -> datetime:
    with suppress(KeyError, ValueError):
        active = datetime.fromisoformat(stored.metadata["active"])
        if active.tzinfo is not None:
            return active
    return stored.created or datetime.now(UTC)


def plan(
    archive: ArchiveStore,
    contents: Contents,
    *,
    below: int | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> Plan:
    """Plan the transcript of the epochs `below` one, or of all.

    Segments of one epoch that overlap have the same messages, unless a failover has rewound Redis. Then the segment
    that was archived later counts, and `forks` names the other. `forks` also names segments of epochs above `below`:
    Redis was rewound to a time before them. Reads only segments that overlap.
    Raises SegmentMissing, which names the gap, and SegmentDamaged.
    """

    def pages(segment: Segment) -> Iterator[list[bytes]]:
        return _pages(archive, contents.session_id, segment, max_message_bytes)

    slices: list[Slice] = []
    before = 0
    used: list[Segment] = []
    damaged: list[str] = []
    forks = [segment.stored.name for segment in contents.segments if below is not None and segment.name.epoch > below]
    planned = [segment for segment in contents.segments if below is None or segment.name.epoch < below]
    for epoch, group in groupby(planned, key=lambda segment: segment.name.epoch):
        segments, unreadable = _readable(archive, contents.session_id, list(group), pages)
        before += _check_complete(archive, contents.session_id, epoch, segments, before)
        if any(earlier.name.stop > later.name.start for earlier, later in pairwise(segments)):
            pieces, aside = _resolve(contents.session_id, segments, pages)
            slices += pieces
            forks += aside
        else:
            slices += [Slice(segment, 0, segment.name.stop - segment.name.start) for segment in segments]
        used += segments
        damaged += [segment.stored.name for segment in unreadable]
    return Plan(contents.session_id, slices, forks, _origin(archive, used), damaged, max_message_bytes)


def read(archive: ArchiveStore, planned: Plan) -> Iterator[list[bytes]]:
    """Yield the stored bytes of every message of a plan, in order, some at a time.

    Raises OwnerMismatch if the segments have several owners, who used the same session id at different times. Raises
    SegmentDamaged, which names the object, perhaps only at the end: use no message before the last one has come.
    """
    check_owner(planned)
    for piece in (piece for piece in planned.slices if piece.take):
        before = 0
        for page in _pages(archive, planned.session_id, piece.segment, planned.max_message_bytes):
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


def _readable(
    archive: ArchiveStore, session_id: str, segments: Sequence[Segment], pages: _Pages
) -> tuple[list[Segment], list[Segment]]:
    """The segments of an epoch that can be used, and the damaged ones, whose messages the others have too.

    A worker that died can have left a damaged upload, which the session has outgrown since. Raises SegmentDamaged if
    the others do not have its messages. Reads content only if segments overlap.
    """
    faults: dict[SegmentName, SegmentDamaged] = {}
    overlap = any(earlier.name.stop > later.name.start for earlier, later in pairwise(segments))
    for segment in segments:
        try:
            _described(archive, session_id, segment)
            if overlap:
                deque(pages(segment), maxlen=0)
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


def _origin(archive: ArchiveStore, segments: Sequence[Segment]) -> Origin:
    """The earliest creation, newest expiry and newest owner of a session, by the metadata of its segments."""
    origins = [SegmentMetadata.read(archive, segment.stored).origin for segment in segments]
    return Origin(
        created=min((each.created for each in origins if each.created), default=None),
        expiry=origins[-1].expiry if origins else Expiry(),
        owner=next((each.owner for each in reversed(origins) if each.owner is not None), None),
    )


def _position(segment: Segment) -> tuple[int, int, int]:
    return segment.name.epoch, segment.name.start, segment.name.stop


def _check_complete(
    archive: ArchiveStore, session_id: str, epoch: int, segments: Sequence[Segment], before: int
) -> int:
    """Check that no message is missing before any segment of an epoch; raises SegmentMissing.

    `before` counts the messages of earlier epochs, forks included. Returns how many messages the epoch had at most.
    """
    reached = 0
    for segment in segments:
        if segment.name.start > reached:
            raise SegmentMissing(
                f"the archive of session {session_id!r} has a gap: messages {reached} to "
                f"{segment.name.start - 1} of epoch {epoch} are missing before {segment.stored.name}"
            )
        base = SegmentMetadata.read(archive, segment.stored).base
        if before < base:
            raise SegmentMissing(
                f"the archive of session {session_id!r} has a gap: {base - before} messages are missing "
                f"before epoch {epoch}, which followed {base}"
            )
        reached = max(reached, segment.name.stop)
    return reached


def _pages(archive: ArchiveStore, session_id: str, segment: Segment, max_message_bytes: int) -> Iterator[list[bytes]]:
    most_bytes = max(max_message_bytes, _EXPANSION * segment.stored.size)
    described = _described(archive, session_id, segment)
    try:
        with archive.open(segment.stored) as body:
            yield from unpack(session_id, segment.name, described.sha256, body, most_bytes)
    except SegmentDamaged as exc:
        raise SegmentDamaged(f"{archive.url}/{segment.stored.name} is damaged: {exc}") from exc


def _described(archive: ArchiveStore, session_id: str, segment: Segment) -> SegmentMetadata:
    described = SegmentMetadata.read(archive, segment.stored)
    if described.session not in (None, session_id):
        raise SegmentDamaged(f"{archive.url}/{segment.stored.name} is damaged: it belongs to another session")
    return described


def _resolve(session_id: str, segments: Sequence[Segment], pages: _Pages) -> tuple[list[Slice], list[str]]:
    """Slice overlapping segments of one epoch; a message that was archived later counts. Returns slices and forks.

    The digests of the messages stand in a temporary file, because a segment may have millions.
    """
    runs: list[tuple[int, Segment]] = []  # from which position on a segment's messages count
    forks: list[str] = []
    reached = 0
    waiting = sorted(segments, key=lambda segment: segment.stored.generation)
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as digests:
        while waiting:
            segment = _next(session_id, waiting, reached)
            waiting.remove(segment)
            position = segment.name.start
            for element in chain.from_iterable(pages(segment)):
                digest = sha256(element).digest()
                digests.seek(position * len(digest))
                if position < reached and digests.read(len(digest)) != digest:
                    forks += dict.fromkeys(each.stored.name for each in _after(runs, position))
                    runs = [run for run in runs if run[0] < position]
                    reached = position
                if position == reached:
                    digests.seek(position * len(digest))
                    digests.write(digest)
                    reached += 1
                    if not runs or runs[-1][1] is not segment:
                        runs.append((position, segment))
                position += 1
    return _slices(runs, reached), forks


def _after(runs: Sequence[tuple[int, Segment]], position: int) -> list[Segment]:
    """The segments whose messages count at a position or after it."""
    ends = [first for first, _ in runs[1:]]
    return [segment for (_, segment), end in zip_longest(runs, ends) if end is None or end > position]


def _next(session_id: str, waiting: Sequence[Segment], reached: int) -> Segment:
    """The earliest segment that starts at or before position `reached`.

    There is one, unless a fork has cut off the messages that a segment followed: raises SegmentMissing.
    """
    for segment in waiting:
        if segment.name.start <= reached:
            return segment
    raise SegmentMissing(
        f"the archive of session {session_id!r} has a gap: a fork has cut off what came before {waiting[0].stored.name}"
    )


def _slices(runs: Sequence[tuple[int, Segment]], reached: int) -> list[Slice]:
    """Slices by the segment of each position."""
    ends = [*(first for first, _ in runs[1:]), reached]
    return [
        Slice(segment, first - segment.name.start, end - first)
        for (first, segment), end in zip(runs, ends, strict=True)
        if end > first
    ]
