"""What of a claimed session goes to the archive, and whether all of it is there then."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

from torpor.history.protocol import Lease, Origin, Page, SessionInfo
from torpor.worker.archive import contents, names
from torpor.worker.archive.contents import Contents
from torpor.worker.archive.segment import pack
from torpor.worker.archive.segment_metadata import SegmentMetadata
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveRefused, ClearForgotten, SegmentMissing
from torpor.worker.failpoints import Failpoint, reach
from torpor.worker.retention import expiry
from torpor.worker.sleep.leases import LeaseKeeper
from torpor.worker.sleep.outcome import Superseded


@dataclass(frozen=True, slots=True)
class Claimed:
    """A session as it was when work on it began, and the first messages to be sent where they were read."""

    lease: Lease
    snapshot: SessionInfo
    head: Page | None = None


def send(
    services: Services, keeper: LeaseKeeper, claimed: Claimed, sent: list[StoredObject], *, rewound_before: int
) -> None:
    """Upload what the archive has not got of a session, and make sure that it has all of it; adds to `sent`.

    Raises Superseded where the session is not what was claimed any more, SegmentMissing and ClearForgotten where the
    archive lacks what it should have.
    """
    snapshot = claimed.snapshot
    remembered = None
    if snapshot.message_count > snapshot.archived_count:
        sent.append(_send(services, keeper, claimed, snapshot.archived_count))
        remembered = SegmentMetadata.read(services.archive, sent[0]).origin
    relies_on_older = snapshot.archived_count > 0 or snapshot.epoch < rewound_before
    if relies_on_older or (sent and expiry.is_used(services.settings, snapshot)):
        held = expiry.see_to(services, snapshot)
    if relies_on_older:
        covered = _verify_covered(services, snapshot, held)
        remembered = remembered or covered
    # What a hold or a restore has made of a sleeping session knows nothing of its expiry.
    tells = snapshot.message_count > 0 or snapshot.complete
    if remembered and tells and remembered.expiry != snapshot.expiry:
        sent.append(_remember(services, keeper, claimed))


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
    with packed.body:
        if packed.count != snapshot.message_count - first or keeper.lost(claimed.lease):
            raise Superseded  # it left Redis while it was read
        reach(Failpoint.ARCHIVE_PACKED)
        if snapshot.owner is not None:
            marker = names.owner_marker(snapshot.owner, snapshot.session_id, snapshot.epoch)
            described = {"session": snapshot.session_id, "owner": snapshot.owner}
            services.archive.put(
                marker,
                io.BytesIO(),
                0,
                metadata=described,
                custom_time=expiry.of_marker(until),
                held=snapshot.hold is not None,
            )
            reach(Failpoint.ARCHIVE_MARKED)
        services.uploads.wait()
        stored = services.archive.put(
            names.segment_name(snapshot.session_id, packed.name),
            packed.body,
            packed.size,
            metadata=SegmentMetadata.of(snapshot, packed).stored(),
            custom_time=until,
            held=snapshot.hold is not None,
        )
    reach(Failpoint.ARCHIVE_SENT)
    return stored


def _remember(services: Services, keeper: LeaseKeeper, claimed: Claimed) -> StoredObject:
    """Upload a segment without messages, later than the others, for an expiry that was changed since."""
    snapshot = claimed.snapshot
    stored = _send(services, keeper, claimed, snapshot.message_count)
    if SegmentMetadata.read(services.archive, stored).origin.expiry != snapshot.expiry:
        try:
            services.archive.delete(stored)  # it has the same name each time; nothing but the older expiry is lost
        except ArchiveRefused:
            return stored  # the older expiry stays for as long as the hold does
        stored = _send(services, keeper, claimed, snapshot.message_count)
    return stored


def _pages(services: Services, keeper: LeaseKeeper, claimed: Claimed, first: int) -> Iterator[list[bytes]]:
    """The messages from number `first` on, all of the state that was claimed."""
    snapshot, head = claimed.snapshot, claimed.head
    if head and head.start == first:
        yield _of_the_claimed(snapshot, head)
        first = head.stop
    if first >= snapshot.message_count:
        return
    for page in services.sessions.pages(snapshot.session_id, first, snapshot.message_count):
        if keeper.lost(claimed.lease):
            raise Superseded
        yield _of_the_claimed(snapshot, page)


def _of_the_claimed(snapshot: SessionInfo, page: Page) -> list[bytes]:
    if page.state != (snapshot.epoch, snapshot.restored_count):
        raise Superseded
    return page.messages


def _verify_covered(services: Services, snapshot: SessionInfo, held: Contents) -> Origin:
    """As `_check_covered`; where a part has expired that Redis has, the session is to be archived anew."""
    try:
        return _check_covered(services, snapshot, held)
    except SegmentMissing:
        if expiry.begin_anew(services, snapshot, held):
            raise Superseded from None
        raise


def _check_covered(services: Services, snapshot: SessionInfo, held: Contents) -> Origin:
    """Does the archive hold what was archived at other times too? Only then may Redis forget it.

    Returns what the archive remembers of the session.
    """
    if held.floor > snapshot.epoch:
        raise ClearForgotten(
            f"the archive has a clear of session {snapshot.session_id!r} that Redis has forgotten in a failover: "
            "export what it has now if it is wanted, then purge it"
        )
    planned = contents.plan(services.archive, held, below=snapshot.epoch + 1)
    own = sum(piece.take for piece in planned.slices if piece.segment.name.epoch == snapshot.epoch)
    older = planned.count - own
    restored, added = snapshot.restored_count, snapshot.message_count - snapshot.restored_count
    if older < restored or own < added:
        raise SegmentMissing(
            f"the archive of session {snapshot.session_id!r} holds {older} + {own} messages where "
            f"{restored} + {added} were archived; Redis keeps them"
        )
    return planned.origin
