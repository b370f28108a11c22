"""Upload: sends a claimed session's messages to the archive, and checks that the archive has all of them."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from torpor.history.protocol import ANY_OWNER, Attempt, Lease, Origin, SessionInfo
from torpor.worker import tracing
from torpor.worker.archive import contents, names, parts, transcript
from torpor.worker.archive.contents import Contents
from torpor.worker.archive.segment import pack
from torpor.worker.archive.segment_metadata import SegmentMetadata
from torpor.worker.archive.stores import RETRIED, Confirm, StoredObject
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ClearForgotten, SegmentMissing
from torpor.worker.failpoints import Failpoint, reach
from torpor.worker.retention import expiry, legal_hold
from torpor.worker.sleep.leases import LeaseKeeper
from torpor.worker.sleep.outcome import Superseded


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claimed session and the attempt at it; `begun` is the moment of its begin, of the monotonic clock."""

    lease: Lease
    attempt: Attempt
    begun: float = field(default_factory=time.monotonic)

    @property
    def snapshot(self) -> SessionInfo:
        """The session as it was when the attempt began."""
        return self.attempt.session


def send(
    services: Services, keeper: LeaseKeeper, claimed: Claimed, sent: list[StoredObject], *, rewound_before: int
) -> None:
    """Upload the messages that the archive lacks, and check that it has the complete session; adds objects to `sent`.

    Raises Superseded if the session is no longer the one that was claimed, SegmentMissing if the archive lost
    messages, and ClearForgotten if Redis lost a clear.
    """
    snapshot = claimed.snapshot
    remembered = None
    if snapshot.message_count > snapshot.archived_count:
        with tracing.span("upload", messages=snapshot.message_count - snapshot.archived_count):
            sent.append(_send(services, keeper, claimed, snapshot.archived_count))
    relies_on_older = snapshot.archived_count > 0 or snapshot.epoch < rewound_before
    if relies_on_older or (sent and expiry.may_expire(services.settings, snapshot)):
        archived = expiry.expire_together(services, snapshot)
    if relies_on_older:
        with tracing.span("verify"):
            remembered = _verify_covered(services, snapshot, archived)
    # A sleeping session that a hold or a restore has put into Redis, without messages, does not know its expiry.
    knows_expiry = snapshot.message_count > 0 or snapshot.complete
    if remembered and knows_expiry and not _remembers(remembered, snapshot):
        # A segment without messages, after the others, records what was changed without a write.
        sent.append(_send(services, keeper, claimed, snapshot.message_count))
    if snapshot.owner is not None and not snapshot.message_count:
        sent += _record_owner(services, keeper, claimed, snapshot.owner)


def _remembers(archived: Origin, snapshot: SessionInfo) -> bool:
    """True if a restore would give the session the expiry and the owner that it has."""
    return archived.expiry == snapshot.expiry and snapshot.owner in (None, archived.owner)


def _send(services: Services, keeper: LeaseKeeper, claimed: Claimed, first: int) -> StoredObject:
    """Upload the messages from number `first` on as one segment; returns once it is verified."""
    snapshot = claimed.snapshot
    until = expiry.ends_at(services.settings, snapshot)
    packed = pack(
        snapshot.session_id,
        snapshot.epoch,
        first - snapshot.restored_count,
        round(snapshot.last_written.timestamp() * 1000),
        _pages(services, keeper, claimed, first),
    )
    confirm = _confirming(keeper, claimed)
    described = SegmentMetadata.of(snapshot, packed).stored() | _tries(snapshot)
    with packed.body:
        if packed.count != snapshot.message_count - first or keeper.lost(claimed.lease):
            raise Superseded  # its messages left Redis while they were read
        reach(Failpoint.ARCHIVE_PACKED)
        if snapshot.owner is not None and not _is_marked(services, snapshot):
            _mark(services, snapshot, snapshot.owner, until, confirm)
        services.uploads.wait()
        stored = services.archive.put(
            names.segment_name(snapshot.session_id, packed.name),
            packed.body,
            packed.size,
            metadata=legal_hold.described(services, snapshot, described),
            custom_time=until,
            held=snapshot.hold is not None,
            confirm=confirm,
        )
    reach(Failpoint.ARCHIVE_SENT)
    return stored


def _confirming(keeper: LeaseKeeper, claimed: Claimed) -> Confirm:
    """Let the attempt that Redis knows as the newest one decide about an object that another one has left."""

    def confirm() -> None:
        if not keeper.still_owns(claimed.lease):
            raise Superseded

    return confirm


def _is_marked(services: Services, snapshot: SessionInfo) -> bool:
    """True if the archive has the owner's marker of this epoch, because it has committed segments that came after it.

    One listing, in place of the three requests for a marker that is there. Nobody discards such a marker, and whoever
    prolongs or holds the segments does so with their marker.
    """
    committed = snapshot.archived_count - snapshot.restored_count
    return committed > 0 and any(
        segment.name.epoch == snapshot.epoch
        and segment.name.stop <= committed
        and segment.stored.metadata.get("owner") == snapshot.owner
        for segment in contents.look(services.archive, snapshot.session_id).segments
    )


def _mark(services: Services, snapshot: SessionInfo, owner: str, until: datetime | None, confirm: Confirm) -> None:
    """Write the marker by which a purge finds the owner's session, before the segment that it leads to."""
    services.archive.put(
        names.owner_marker(owner, snapshot.session_id, snapshot.epoch),
        io.BytesIO(),
        0,
        metadata=legal_hold.described(
            services, snapshot, {"session": snapshot.session_id, "owner": owner} | _tries(snapshot)
        ),
        custom_time=expiry.marker_ends_at(until),
        held=snapshot.hold is not None,
        confirm=confirm,
    )
    reach(Failpoint.ARCHIVE_MARKED)


def _tries(snapshot: SessionInfo) -> dict[str, str]:
    """What the metadata of an upload says of the ones before it: one of a failed attempt may still arrive."""
    return {RETRIED: "1"} if snapshot.recheck_at else {}


def _record_owner(services: Services, keeper: LeaseKeeper, claimed: Claimed, owner: str) -> list[StoredObject]:
    """Record the owner that a sleeping session was assigned, in a segment without messages; returns what was uploaded.

    The segment is of the epoch that the assignment has given to the session, and repeats the properties of the newest
    segment. Nothing is uploaded if the archive has nothing of the session, or knows its owner: that one counts.
    """
    snapshot, confirm = claimed.snapshot, _confirming(keeper, claimed)
    found = expiry.unexpired(contents.look(services.archive, snapshot.session_id), services.sessions.redis_time)
    if not found or found.owners:
        return []
    newest = found.segments[-1].stored
    until = newest.custom_time
    known = SegmentMetadata.read(services.archive, newest)
    packed = pack(snapshot.session_id, snapshot.epoch, 0, 0, iter(()))
    described = SegmentMetadata.of(snapshot, packed).model_copy(
        update={
            "base": known.base,
            "created": known.created,
            "active": contents.last_active([newest]),
            "idle_ms": known.idle_ms,
            "max_age_ms": known.max_age_ms,
            "retention_ms": known.retention_ms,
        }
    )
    with packed.body:
        _mark(services, snapshot, owner, until, confirm)
        services.uploads.wait()
        stored = services.archive.put(
            names.segment_name(snapshot.session_id, packed.name),
            packed.body,
            packed.size,
            metadata=legal_hold.described(services, snapshot, described.stored()),
            custom_time=until,
            held=snapshot.hold is not None,
            confirm=confirm,
        )
    reach(Failpoint.ARCHIVE_SENT)
    return [stored]


def _pages(services: Services, keeper: LeaseKeeper, claimed: Claimed, first: int) -> Iterator[list[bytes]]:
    """The messages from number `first` on; raises Superseded for a page of another state than was claimed."""
    snapshot = claimed.snapshot
    if first == snapshot.archived_count and (head := claimed.attempt.head):
        yield head
        first += len(head)
    if first >= snapshot.message_count:
        return
    for page in services.sessions.pages(snapshot.session_id, first, snapshot.message_count, owner=ANY_OWNER):
        if keeper.lost(claimed.lease) or page.state != (snapshot.epoch, snapshot.restored_count):
            raise Superseded
        yield page.messages
        del page  # see `pack`


def _verify_covered(services: Services, snapshot: SessionInfo, archived: Contents) -> Origin:
    """As `_check_covered`, but if only an expired part is missing, which Redis has, archive the session anew."""
    try:
        return _check_covered(services, snapshot, archived)
    except SegmentMissing:
        if expiry.begin_anew(services, snapshot, archived):
            raise Superseded from None
        raise


def _check_covered(services: Services, snapshot: SessionInfo, archived: Contents) -> Origin:
    """Raise an error unless the archive has all messages that were archived at other times: Redis may delete them.

    Returns the origin of the session, as the archive has it.
    """
    if archived.floor > snapshot.epoch:
        raise ClearForgotten(
            f"the archive has a clear of session {snapshot.session_id!r} that Redis has forgotten in a failover: "
            "export what it has now if it is wanted, then purge it"
        )
    part = parts.of_first_owner(archived)
    planned = transcript.plan(services.archive, part, below=snapshot.epoch + 1)
    transcript.check_owner(planned)
    own = sum(piece.take for piece in planned.slices if piece.segment.name.epoch == snapshot.epoch)
    older = planned.count - own
    restored, added = snapshot.restored_count, snapshot.message_count - snapshot.restored_count
    if older < restored or own < added:
        raise SegmentMissing(
            f"the archive of session {snapshot.session_id!r} has {older} + {own} messages where "
            f"{restored} + {added} were archived; Redis keeps them"
        )
    return planned.origin
