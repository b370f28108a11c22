"""Putting a claimed session to sleep: the one place of the order snapshot -> upload -> verify -> commit."""

from __future__ import annotations

import io
import logging
import random
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from history import (
    CleanOutcome,
    CommitOutcome,
    Lease,
    Origin,
    SeizeOutcome,
    SessionDamaged,
    SessionInfo,
    Status,
    TorporError,
    TransientError,
)
from worker import erase, hold, holdings, layout, retention, transcript
from worker.errors import ArchiveRefused, AttemptsExhausted, ClearForgotten, SegmentMissing
from worker.events import Event, EventKind, tell
from worker.failpoints import Failpoint, reach
from worker.holdings import Holdings
from worker.leases import LeaseKeeper
from worker.services import Services
from worker.stores import StoredObject

log = logging.getLogger("torpor.archive")

# When to try again to erase what the archive refuses to delete: never given up, but it may have to wait for months.
_ERASE_AGAIN = timedelta(hours=1)


class Outcome(StrEnum):
    """What became of a session that a worker took in hand."""

    ARCHIVED = "archived"  # verified in the archive and gone from Redis
    KEPT = "kept"  # verified as far as it was, but the session has been used meanwhile and stays
    CLEANED = "cleaned"  # what the archive held from before a clear is erased
    ERASING = "erasing"  # likewise, and looked for again when a lease that was running at the clear has ended
    HELD = "held"  # its objects in the archive carry its legal hold, or do so no more
    SUPERSEDED = "superseded"  # cleared, purged, restored or archived by somebody else meanwhile
    POSTPONED = "postponed"  # a failure that may pass: tried again later
    FAILED = "failed"  # a failure that won't pass, counted; tried again later
    QUARANTINED = "quarantined"  # put aside, untouched, after too many failures
    BUSY = "busy"  # another worker has it in hand
    MISSING = "missing"  # not in Redis


@dataclass(frozen=True, slots=True)
class Archived:
    """What was done about one session. `error` says why where it failed."""

    session_id: str
    outcome: Outcome
    owner: str | None = None
    messages: int = 0
    object_name: str | None = None
    generation: int | None = None
    error: TorporError | None = None


_TOLD = {
    Outcome.ARCHIVED: EventKind.ARCHIVED,
    Outcome.FAILED: EventKind.FAILED,
    Outcome.QUARANTINED: EventKind.QUARANTINED,
}


def events_of(results: Iterable[Archived], archived: EventKind = EventKind.ARCHIVED) -> list[Event]:
    """What is to be told of results; `archived` is the kind for those that went to sleep."""
    return [
        Event(
            archived if result.outcome is Outcome.ARCHIVED else _TOLD[result.outcome],
            result.session_id,
            result.owner,
            result.messages,
            result.object_name,
            result.generation,
            None if result.error is None else str(result.error),
        )
        for result in results
        if result.outcome in _TOLD and (result.messages or result.error)
    ]


class _Superseded(Exception):
    """The session is no longer the one that was claimed."""


def archive_session(services: Services, session_id: str) -> Archived:
    """Archive one session now, due or not; a clear or a hold that is pending is finished first."""
    with LeaseKeeper(services.sessions, services.settings.lease) as keeper:
        while True:
            lease = services.sessions.seize(session_id, services.settings.lease)
            if isinstance(lease, SeizeOutcome):
                return Archived(session_id, Outcome(lease.value))
            keeper.hold([lease])
            with returned(services, keeper, [lease]):
                [snapshot] = services.sessions.snapshots([lease])
                rewound_before = services.sessions.rewound_before()
            result = archive_claimed(services, keeper, lease, snapshot, rewound_before=rewound_before)
            tell(services, events_of([result]))
            if result.outcome not in (Outcome.CLEANED, Outcome.HELD):
                return result


def archive_claimed(
    services: Services,
    keeper: LeaseKeeper,
    lease: Lease,
    snapshot: SessionInfo | TorporError | None,
    *,
    rewound_before: int,
) -> Archived:
    """Archive a claimed session that `snapshot` describes; whatever happens ends in an outcome.

    Of epochs before `rewound_before` Redis, asked after the claim, may lack writes that others have seen, such as a
    clear.

    Killed anywhere, it is due again when the lease ends; run again, it finishes the job: a segment that is there
    already counts as sent. Two workers at once end with one archive.
    """
    try:
        if isinstance(snapshot, TorporError):
            raise snapshot
        if snapshot is None:
            raise _Superseded
        if snapshot.attempts > services.settings.max_attempts and snapshot.floor is None:
            raise AttemptsExhausted(f"{snapshot.attempts - 1} attempts ended without a word: their workers died")
        return _work_on(services, keeper, lease, snapshot, rewound_before)
    except _Superseded:
        keeper.take(lease)
        return Archived(lease.session_id, Outcome.SUPERSEDED)
    except (TransientError, OSError, MemoryError) as error:  # this machine's disk and memory are no session's fault
        return _give_back(services, keeper, lease, error, attempts=None)
    except Exception as error:  # one bad session never stops the others
        attempts = snapshot.attempts if isinstance(snapshot, SessionInfo) else services.settings.max_attempts
        erasing = isinstance(snapshot, SessionInfo) and (
            snapshot.purge is not None or isinstance(error, ArchiveRefused)
        )
        delay = _ERASE_AGAIN if erasing else None
        return _give_back(services, keeper, lease, error, attempts=0 if erasing else attempts, delay=delay)


def _work_on(
    services: Services, keeper: LeaseKeeper, lease: Lease, snapshot: SessionInfo, rewound_before: int
) -> Archived:
    """What is pending comes before the archive: an erasure, then a legal hold."""
    if snapshot.floor is not None:
        return _clean(services, keeper, lease, snapshot, snapshot.floor)
    if snapshot.hold_pending:
        return _hold(services, keeper, lease, snapshot)
    return _archive(services, keeper, lease, snapshot, rewound_before)


@contextmanager
def returned(services: Services, keeper: LeaseKeeper, leases: Sequence[Lease]) -> Iterator[None]:
    """Give claimed sessions back untried where what is done with all of them fails."""
    try:
        yield
    except TorporError:
        for lease in leases:
            release(services, keeper, lease)
        raise


def release(services: Services, keeper: LeaseKeeper, lease: Lease) -> Archived:
    """Give a claimed session back untried; an attempt that was begun does not count."""
    newest = keeper.take(lease)
    try:
        if newest and services.sessions.release(newest, timedelta(), counted=False):
            return Archived(lease.session_id, Outcome.POSTPONED)
    except TorporError as failed:
        log.warning("session %r is due again when its lease ends: %s", lease.session_id, failed)
    return Archived(lease.session_id, Outcome.SUPERSEDED)


def _archive(
    services: Services, keeper: LeaseKeeper, lease: Lease, snapshot: SessionInfo, rewound_before: int
) -> Archived:
    if snapshot.epoch == 0:
        raise SessionDamaged(f"the metadata of session {snapshot.session_id!r} was lost: see torpor doctor")
    reach(Failpoint.ARCHIVE_BEGUN)
    sent: list[StoredObject] = []
    try:
        remembered = None
        if snapshot.message_count > snapshot.archived_count:
            sent.append(_send(services, keeper, lease, snapshot, snapshot.archived_count))
            remembered = holdings.recalled(services.archive, sent[0])
        relies_on_older = snapshot.archived_count > 0 or snapshot.epoch < rewound_before
        if relies_on_older or (sent and retention.is_used(services.settings, snapshot)):
            held = retention.see_to(services, snapshot)
        if relies_on_older:
            covered = _verify_covered(services, snapshot, held)
            remembered = remembered or covered
        # What a hold or a restore has made of a sleeping session knows nothing of its expiry.
        tells = snapshot.message_count > 0 or snapshot.whole
        if remembered and tells and remembered.expiry != snapshot.expiry:
            sent.append(_remember(services, keeper, lease, snapshot))
        reach(Failpoint.ARCHIVE_VERIFIED)
        with keeper.taken(lease) as newest:
            if newest is None:
                raise _Superseded
            outcome = services.sessions.commit(newest, snapshot)
        reach(Failpoint.ARCHIVE_COMMITTED)
        if outcome in (CommitOutcome.GONE, CommitOutcome.SUPERSEDED):
            raise _Superseded
    except Exception:
        if sent:
            erase.take_back(services, snapshot, sent)
        raise
    done = Outcome.ARCHIVED if outcome is CommitOutcome.DELETED else Outcome.KEPT
    result = Archived(
        snapshot.session_id,
        done,
        snapshot.owner,
        snapshot.message_count,
        sent[0].name if sent else None,
        sent[0].generation if sent else None,
    )
    log.info(
        "session %r: %s, %d messages, %s#%s",
        result.session_id,
        done,
        result.messages,
        result.object_name,
        result.generation,
    )
    return result


def _send(services: Services, keeper: LeaseKeeper, lease: Lease, snapshot: SessionInfo, first: int) -> StoredObject:
    """Upload the messages from number `first` on as one segment; returns once it is verified."""
    until = retention.ends_at(services.settings, snapshot)
    packed = transcript.pack(
        snapshot.session_id,
        snapshot.epoch,
        first - snapshot.base,
        round(snapshot.last_written.timestamp() * 1000),
        _messages(services, keeper, lease, snapshot, first),
    )
    with packed.body:
        if packed.count != snapshot.message_count - first or keeper.lost(lease):
            raise _Superseded  # it left Redis while it was read
        reach(Failpoint.ARCHIVE_PACKED)
        if snapshot.owner is not None:
            marker = layout.owner_marker(snapshot.owner, snapshot.session_id, snapshot.epoch)
            described = {"session": snapshot.session_id, "owner": snapshot.owner}
            services.archive.put(
                marker,
                io.BytesIO(),
                0,
                metadata=described,
                custom_time=retention.of_marker(until),
                held=snapshot.hold is not None,
            )
            reach(Failpoint.ARCHIVE_MARKED)
        services.uploads.wait()
        stored = services.archive.put(
            layout.segment_name(snapshot.session_id, packed.name),
            packed.body,
            packed.size,
            metadata=holdings.metadata(snapshot, packed),
            custom_time=until,
            held=snapshot.hold is not None,
        )
    reach(Failpoint.ARCHIVE_SENT)
    return stored


def _remember(services: Services, keeper: LeaseKeeper, lease: Lease, snapshot: SessionInfo) -> StoredObject:
    """Upload a segment without messages, later than the others, for an expiry that was changed since."""
    stored = _send(services, keeper, lease, snapshot, snapshot.message_count)
    if holdings.recalled(services.archive, stored).expiry != snapshot.expiry:
        try:
            services.archive.delete(stored)  # it has the same name each time; nothing but the older expiry is lost
        except ArchiveRefused:
            return stored  # the older expiry stays for as long as the hold does
        stored = _send(services, keeper, lease, snapshot, snapshot.message_count)
    return stored


def _messages(
    services: Services, keeper: LeaseKeeper, lease: Lease, snapshot: SessionInfo, first: int
) -> Iterator[bytes]:
    """The messages from number `first` on, page by page, all of the state that was claimed."""
    pages = services.sessions.pages(snapshot.session_id, first, snapshot.message_count)
    for page in pages:
        if (page.epoch, page.base) != (snapshot.epoch, snapshot.base) or keeper.lost(lease):
            raise _Superseded
        yield from page.messages


def _verify_covered(services: Services, snapshot: SessionInfo, held: Holdings) -> Origin:
    """As `_check_covered`; where a part has expired that Redis has, the session is to be archived anew."""
    try:
        return _check_covered(services, snapshot, held)
    except SegmentMissing:
        if retention.begin_anew(services, snapshot, held):
            raise _Superseded from None
        raise


def _check_covered(services: Services, snapshot: SessionInfo, held: Holdings) -> Origin:
    """Does the archive hold what was archived at other times too? Only then may Redis forget it.

    Returns what the archive remembers of the session.
    """
    if held.floor > snapshot.epoch:
        raise ClearForgotten(
            f"the archive has a clear of session {snapshot.session_id!r} that Redis has forgotten in a failover: "
            "export what it has now if it is wanted, then purge it"
        )
    planned = holdings.plan(services.archive, held, below=snapshot.epoch + 1)
    own = sum(piece.take for piece in planned.slices if piece.segment.name.epoch == snapshot.epoch)
    older = planned.count - own
    if older < snapshot.base or own < snapshot.message_count - snapshot.base:
        raise SegmentMissing(
            f"the archive of session {snapshot.session_id!r} holds {older} + {own} messages where "
            f"{snapshot.base} + {snapshot.message_count - snapshot.base} were archived; Redis keeps them"
        )
    return planned.origin


def _clean(services: Services, keeper: LeaseKeeper, lease: Lease, snapshot: SessionInfo, floor: int) -> Archived:
    """Erase what is older than a clear, a purge or a rebase; a tombstone whose time is over goes with its marker."""
    erased = erase.below_floor(services, lease.session_id, floor, [snapshot.owner] if snapshot.owner else [])
    if erased.refused:
        raise erased.refused[0][1]
    if snapshot.purge is not None and snapshot.status is not Status.PURGED:
        erase.floor_markers(services, lease.session_id)
    reach(Failpoint.CLEAN_ERASED)
    with keeper.taken(lease) as newest:
        outcome = services.sessions.cleaned(newest, floor) if newest else CleanOutcome.OTHER
    if outcome is CleanOutcome.OTHER:
        raise _Superseded
    reach(Failpoint.CLEAN_NOTED)
    log.info("erased %d objects of session %r from before its clear or purge", erased.objects, lease.session_id)
    return Archived(lease.session_id, Outcome.CLEANED if outcome is CleanOutcome.DONE else Outcome.ERASING)


def _hold(services: Services, keeper: LeaseKeeper, lease: Lease, snapshot: SessionInfo) -> Archived:
    """See to a session's objects after a legal hold was set or released."""
    hold.see_to(services, lease.session_id)
    reach(Failpoint.HOLD_SEEN_TO)
    with keeper.taken(lease) as newest:
        noted = newest is not None and services.sessions.held(newest, snapshot)
    if not noted:
        raise _Superseded
    return Archived(lease.session_id, Outcome.HELD, snapshot.owner)


def _give_back(
    services: Services,
    keeper: LeaseKeeper,
    lease: Lease,
    error: Exception,
    *,
    attempts: int | None,
    delay: timedelta | None = None,
) -> Archived:
    """Release after a failure; `attempts` is None for one that may pass, 0 for one that is never given up on."""
    settings = services.settings
    delay = delay or timedelta(seconds=settings.retry_delay_seconds * random.uniform(0.5, 1.5))
    # The text of an error that is not ours could hold a message.
    known = error if isinstance(error, TorporError) else TorporError(type(error).__name__)
    outcome = Outcome.POSTPONED
    if attempts is not None:
        outcome = Outcome.QUARANTINED if attempts >= settings.max_attempts else Outcome.FAILED
        where = "".join(traceback.format_tb(error.__traceback__))
        log.error("session %r: %s: %s\n%s", lease.session_id, outcome, known, where)
    newest = keeper.take(lease)
    try:
        if newest is None:
            ours = False
        elif outcome is Outcome.QUARANTINED:
            ours = services.sessions.quarantine(newest, str(known))
        else:
            ours = services.sessions.release(newest, delay, counted=bool(attempts), error=str(known))
    except TorporError as failed:
        log.warning("session %r is due again when its lease ends: %s", lease.session_id, failed)
        ours = True
    return Archived(lease.session_id, outcome if ours else Outcome.SUPERSEDED, error=known)
