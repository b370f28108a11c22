"""What the archive holds of a session: its segments by epoch, and how they make up the transcript."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from itertools import groupby, pairwise

from torpor.history.protocol import Expiry, Origin, OwnerMismatch
from torpor.worker.archive import names
from torpor.worker.archive.names import FloorName, SegmentName
from torpor.worker.archive.segment import unpack
from torpor.worker.archive.segment_metadata import SegmentMetadata
from torpor.worker.archive.stores import ArchiveStore, StoredObject
from torpor.worker.errors import SegmentDamaged, SegmentMissing


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment as the archive lists it."""

    name: SegmentName
    stored: StoredObject


@dataclass(frozen=True, slots=True)
class Slice:
    """Messages `[skip, skip + take)` of a segment, counted from the segment's own first."""

    segment: Segment
    skip: int
    take: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What to read, in order, for a transcript. `forks` names segments that a rewound Redis has left aside."""

    session_id: str
    slices: Sequence[Slice]
    forks: Sequence[str]
    origin: Origin

    @property
    def count(self) -> int:
        """How many messages the transcript has."""
        return sum(piece.take for piece in self.slices)


@dataclass(frozen=True, slots=True)
class Contents:
    """A session's objects. Epochs below `floor` were cleared: what is left of them is `erasable`."""

    session_id: str
    floor: int
    segments: Sequence[Segment]
    erasable: Sequence[StoredObject]

    def __bool__(self) -> bool:
        return bool(self.segments)


def look(archive: ArchiveStore, session_id: str, *, generations: bool = False) -> Contents:
    """List a session's objects; one listing. With `generations`, what is not current any more is `erasable` too."""
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
    """The markers by which an owner's session is found, each after its epoch; `generations` as in ArchiveStore.list."""
    return [
        (epoch, stored)
        for stored in archive.list(names.owner_markers(owner, session_id), generations=generations)
        if (epoch := names.marked_epoch(owner, session_id, stored.name)) is not None
    ]


def last_active(objects: Iterable[StoredObject]) -> datetime:
    """When a session in the archive was last active, as its objects tell; reads without a write may be missing."""
    return max(map(_active, objects))


def _active(stored: StoredObject) -> datetime:
    try:
        return datetime.fromisoformat(stored.metadata["active"])
    except (KeyError, ValueError):
        return stored.created or datetime.now(UTC)


def plan(archive: ArchiveStore, holdings: Contents, *, below: int | None = None) -> Plan:
    """How the segments of the epochs `below` one make up the transcript: in order, each from its first message on.

    Segments of one epoch that overlap agree. Where they do not, since Redis was rewound by a failover, the one
    that was archived later counts, and `forks` names the other. It names segments of epochs above `below` too, where
    Redis was rewound to a time before them. Reads segments only where they overlap.
    Raises SegmentMissing, naming the gap, and SegmentDamaged.
    """
    slices: list[Slice] = []
    before = 0
    used = [segment for segment in holdings.segments if below is None or segment.name.epoch < below]
    forks = [segment.stored.name for segment in holdings.segments if below is not None and segment.name.epoch > below]
    for epoch, group in groupby(used, key=lambda segment: segment.name.epoch):
        segments = list(group)
        before += _check_complete(archive, holdings.session_id, epoch, segments, before)
        if any(earlier.name.stop > later.name.start for earlier, later in pairwise(segments)):
            pieces, aside = _resolve(archive, holdings.session_id, segments)
            slices += pieces
            forks += aside
        else:
            slices += [Slice(segment, 0, segment.name.stop - segment.name.start) for segment in segments]
    return Plan(holdings.session_id, slices, forks, _origin(archive, used))


def read(archive: ArchiveStore, planned: Plan) -> Iterator[list[bytes]]:
    """The stored bytes of every message of a plan, in order, some at a time.

    Raises OwnerMismatch where they are of several owners, who had the same session id at different times, and
    SegmentDamaged, naming the object, at the latest at the end: use nothing before that.
    """
    owners = {piece.segment.stored.metadata.get("owner") for piece in planned.slices} - {None}
    if len(owners) > 1:
        raise OwnerMismatch(
            f"the archive has session {planned.session_id!r} of {len(owners)} owners; nobody may read it"
        )
    for piece in (piece for piece in planned.slices if piece.take):
        before = 0
        for page in _pages(archive, planned.session_id, piece.segment):
            if wanted := page[max(piece.skip - before, 0) : max(piece.skip + piece.take - before, 0)]:
                yield wanted
            before += len(page)


def _origin(archive: ArchiveStore, segments: Sequence[Segment]) -> Origin:
    """What the segments remember: the earliest creation, the newest one's expiry, and the newest owner."""
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
    """Does each segment follow on what is there, `before` counting the messages of earlier epochs, forks included?

    Returns how many messages the epoch has had at most.
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


def _pages(archive: ArchiveStore, session_id: str, segment: Segment) -> Iterator[list[bytes]]:
    described = SegmentMetadata.read(archive, segment.stored)
    try:
        if described.session not in (None, session_id):
            raise SegmentDamaged("it belongs to another session")
        with archive.open(segment.stored) as body:
            yield from unpack(session_id, segment.name, described.sha256, body)
    except SegmentDamaged as exc:
        raise SegmentDamaged(f"{archive.url}/{segment.stored.name} is damaged: {exc}") from exc


def _resolve(archive: ArchiveStore, session_id: str, segments: Sequence[Segment]) -> tuple[list[Slice], list[str]]:
    """Lay overlapping segments of one epoch over each other in the order in which they were archived."""
    laid: list[tuple[bytes, Segment]] = []  # for each position: digest of the message, whence it is taken
    forks: list[str] = []
    waiting = sorted(segments, key=lambda segment: segment.stored.generation)
    while waiting:
        # The earliest that touches what is laid. There is one unless a fork has cut off what it followed.
        segment = next((each for each in waiting if each.name.start <= len(laid)), None)
        if segment is None:
            raise SegmentMissing(
                f"the archive of session {session_id!r} has a gap: a fork has cut off what came before "
                f"{waiting[0].stored.name}"
            )
        waiting.remove(segment)
        start = segment.name.start
        pages = _pages(archive, session_id, segment)
        digests = [sha256(element).digest() for page in pages for element in page]
        overlap = list(zip(laid[start:], digests, strict=False))
        differs = next((at for at, ((old, _), new) in enumerate(overlap) if old != new), None)
        if differs is not None:
            forks += dict.fromkeys(each.stored.name for _, each in laid[start + differs :])
            del laid[start + differs :]
        laid += [(digest, segment) for digest in digests[len(laid) - start :]]
    slices: list[Slice] = []
    position = 0
    for segment, run in groupby((each for _, each in laid), key=lambda each: each):
        take = len(list(run))
        slices.append(Slice(segment, position - segment.name.start, take))
        position += take
    return slices, forks
