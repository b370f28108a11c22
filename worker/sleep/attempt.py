"""Putting claimed sessions to sleep: the steps, in the order snapshot -> upload -> verify -> commit."""

from __future__ import annotations

import logging
import random
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from torpor.history.protocol import (
    ClaimOutcome,
    CommitOutcome,
    EraseOutcome,
    Lease,
    Page,
    SessionDamaged,
    SessionInfo,
    Status,
    TorporError,
    TransientError,
)
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment.events import Event, EventKind, record_events
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import erase
from torpor.worker.errors import ArchiveRefused, AttemptsExhausted
from torpor.worker.failpoints import Failpoint, reach
from torpor.worker.retention import legal_hold
from torpor.worker.sleep import upload
from torpor.worker.sleep.leases import LeaseKeeper
from torpor.worker.sleep.upload import Claimed, Superseded

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
class AttemptResult:
    """What was done about one session. `error` says why where it failed."""

    session_id: str
    outcome: Outcome
    owner: str | None = None
    messages: int = 0
    object_name: str | None = None
    generation: int | None = None
    error: TorporError | None = None


# Of a session that was verified: what its commit has made of it. Every other reply to a commit is of another session.
COMMITTED: Mapping[CommitOutcome | TorporError | None, Outcome] = {
    CommitOutcome.DELETED: Outcome.ARCHIVED,
    CommitOutcome.KEPT: Outcome.KEPT,
}
_TOLD = {
    Outcome.ARCHIVED: EventKind.ARCHIVED,
    Outcome.FAILED: EventKind.FAILED,
    Outcome.QUARANTINED: EventKind.QUARANTINED,
}


def events_of(results: Iterable[AttemptResult], archived: EventKind = EventKind.ARCHIVED) -> list[Event]:
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


@dataclass(frozen=True, slots=True)
class Verified:
    """A claimed session of which the archive has all: what is left is to delete it from Redis."""

    claimed: Claimed
    sent: Sequence[StoredObject]


def archive_session(services: Services, session_id: str) -> AttemptResult:
    """Archive one session now, due or not; a clear or a hold that is pending is finished first."""
    with LeaseKeeper(services.sessions, services.settings.lease) as keeper:
        while True:
            lease = services.sessions.claim_one(session_id, services.settings.lease)
            if isinstance(lease, ClaimOutcome):
                return AttemptResult(session_id, Outcome(lease.value))
            keeper.keep([lease])
            with returned(services, keeper, [lease]):
                [snapshot] = services.sessions.snapshots([lease])
                rewound_before = services.sessions.rewound_before()
            result = archive_claimed(services, keeper, lease, snapshot, rewound_before=rewound_before)
            record_events(services, events_of([result]))
            if result.outcome not in (Outcome.CLEANED, Outcome.HELD):
                return result


def archive_claimed(
    services: Services,
    keeper: LeaseKeeper,
    lease: Lease,
    snapshot: SessionInfo | TorporError | None,
    *,
    rewound_before: int,
) -> AttemptResult:
    """Archive a claimed session that `snapshot` describes: `verify`, `commit` and `end` of this one alone."""
    done = verify(services, keeper, lease, snapshot, rewound_before=rewound_before)
    if isinstance(done, AttemptResult):
        return done
    [outcome] = commit(services, keeper, [done])
    return end(services, keeper, done, outcome)


def verify(
    services: Services,
    keeper: LeaseKeeper,
    lease: Lease,
    snapshot: SessionInfo | TorporError | None,
    head: Page | None = None,
    *,
    rewound_before: int,
) -> Verified | AttemptResult:
    """Have all of a claimed session in the archive; whatever else happens to it, what is pending too, is its outcome.

    `head` has the first messages that are to be sent, where they were read already.
    Of epochs before `rewound_before` Redis, asked after the claim, may lack writes that others have seen, such as a
    clear.

    Killed anywhere, it is due again when the lease ends; run again, it finishes the job: a segment that is there
    already counts as sent. Two workers at once end with one archive.
    """
    try:
        if isinstance(snapshot, TorporError):
            raise snapshot
        if snapshot is None:
            raise Superseded
        if snapshot.attempts > services.settings.max_attempts and snapshot.floor is None:
            raise AttemptsExhausted(f"{snapshot.attempts - 1} attempts ended without a word: their workers died")
        if snapshot.floor is not None:
            return _clean(services, keeper, lease, snapshot, snapshot.floor)
        if snapshot.hold_pending:
            return _hold(services, keeper, lease, snapshot)
        if snapshot.epoch == 0:
            raise SessionDamaged(f"the metadata of session {snapshot.session_id!r} was lost: see torpor doctor")
        reach(Failpoint.ARCHIVE_BEGUN)
        with _taking_back(services, snapshot) as sent:
            claimed = Claimed(lease, snapshot, head)
            upload.send(services, keeper, claimed, sent, rewound_before=rewound_before)
            reach(Failpoint.ARCHIVE_VERIFIED)
        return Verified(claimed, sent)
    except Exception as error:  # one bad session never stops the others
        return _ended(services, keeper, lease, snapshot, error)


def commit(
    services: Services, keeper: LeaseKeeper, verified: Sequence[Verified]
) -> list[CommitOutcome | TorporError | None]:
    """Delete verified sessions from Redis, each if it is still exactly what was archived; one pipeline.

    None where the lease is lost; where a commit has failed, its session is still leased. `end` comes after it.
    """
    newest = [keeper.take(each.claimed.lease) for each in verified]
    ours = [(lease, each.claimed.snapshot) for lease, each in zip(newest, verified, strict=True) if lease]
    outcomes: Sequence[CommitOutcome | TorporError]
    try:
        outcomes = services.sessions.commits(ours)
    except TorporError as error:
        outcomes = [error] * len(ours)
    keeper.keep(lease for (lease, _), outcome in zip(ours, outcomes, strict=True) if isinstance(outcome, TorporError))
    answered = iter(outcomes)
    return [next(answered) if lease else None for lease in newest]


def end(
    services: Services, keeper: LeaseKeeper, verified: Verified, outcome: CommitOutcome | TorporError | None
) -> AttemptResult:
    """What has become of a session that was committed, or not; takes its upload back where it is forbidden by now."""
    lease, snapshot, sent = verified.claimed.lease, verified.claimed.snapshot, verified.sent
    try:
        with _taking_back(services, snapshot, sent):
            reach(Failpoint.ARCHIVE_COMMITTED)
            if isinstance(outcome, TorporError):
                raise outcome
            if outcome not in COMMITTED:
                raise Superseded
    except Exception as error:
        return _ended(services, keeper, lease, snapshot, error)
    object_name, generation = (sent[0].name, sent[0].generation) if sent else (None, None)
    count = snapshot.message_count
    done = COMMITTED[outcome]
    log.info("session %r: %s, %d messages, %s#%s", snapshot.session_id, done, count, object_name, generation)
    return AttemptResult(snapshot.session_id, done, snapshot.owner, count, object_name, generation)


@contextmanager
def _taking_back(
    services: Services, snapshot: SessionInfo, sent: Iterable[StoredObject] | None = None
) -> Iterator[list[StoredObject]]:
    """Take uploads back where what is done after them fails, if their epoch was cleared or purged meanwhile."""
    uploads = list(sent or ())
    try:
        yield uploads
    except Exception:
        if uploads:
            erase.take_back(services, snapshot, uploads)
        raise


def _ended(
    services: Services,
    keeper: LeaseKeeper,
    lease: Lease,
    snapshot: SessionInfo | TorporError | None,
    error: Exception,
) -> AttemptResult:
    """The outcome of an attempt that an error has ended; what this machine's disk or memory lacks may pass."""
    if isinstance(error, Superseded):
        keeper.take(lease)
        return AttemptResult(lease.session_id, Outcome.SUPERSEDED)
    if isinstance(error, (TransientError, OSError, MemoryError)):
        return _give_back(services, keeper, lease, error, attempts=None)
    attempts = snapshot.attempts if isinstance(snapshot, SessionInfo) else services.settings.max_attempts
    erasing = isinstance(snapshot, SessionInfo) and (snapshot.purge is not None or isinstance(error, ArchiveRefused))
    delay = _ERASE_AGAIN if erasing else None
    return _give_back(services, keeper, lease, error, attempts=0 if erasing else attempts, delay=delay)


@contextmanager
def returned(services: Services, keeper: LeaseKeeper, leases: Sequence[Lease]) -> Iterator[None]:
    """Give claimed sessions back untried where what is done with all of them fails."""
    try:
        yield
    except TorporError:
        for lease in leases:
            release(services, keeper, lease)
        raise


def release(services: Services, keeper: LeaseKeeper, lease: Lease) -> AttemptResult:
    """Give a claimed session back untried; an attempt that was begun does not count."""
    newest = keeper.take(lease)
    try:
        if newest and services.sessions.release(newest, timedelta(), counted=False):
            return AttemptResult(lease.session_id, Outcome.POSTPONED)
    except TorporError as failed:
        log.warning("session %r is due again when its lease ends: %s", lease.session_id, failed)
    return AttemptResult(lease.session_id, Outcome.SUPERSEDED)


def _clean(services: Services, keeper: LeaseKeeper, lease: Lease, snapshot: SessionInfo, floor: int) -> AttemptResult:
    """Erase what is older than a clear, a purge or a rebase; a tombstone whose time is over goes with its marker."""
    erased = erase.below_floor(services, lease.session_id, floor, [snapshot.owner] if snapshot.owner else [])
    if erased.refused:
        raise erased.refused[0][1]
    if snapshot.purge is not None and snapshot.status is not Status.PURGED:
        erase.floor_markers(services, lease.session_id)
    reach(Failpoint.CLEAN_ERASED)
    with keeper.taken(lease) as newest:
        outcome = services.sessions.note_erased(newest, floor) if newest else EraseOutcome.OTHER
    if outcome is EraseOutcome.OTHER:
        raise Superseded
    reach(Failpoint.CLEAN_NOTED)
    log.info("erased %d objects of session %r from before its clear or purge", erased.objects, lease.session_id)
    return AttemptResult(lease.session_id, Outcome.CLEANED if outcome is EraseOutcome.DONE else Outcome.ERASING)


def _hold(services: Services, keeper: LeaseKeeper, lease: Lease, snapshot: SessionInfo) -> AttemptResult:
    """See to a session's objects after a legal hold was set or released."""
    legal_hold.see_to(services, lease.session_id)
    reach(Failpoint.HOLD_SEEN_TO)
    with keeper.taken(lease) as newest:
        noted = newest is not None and services.sessions.note_hold_applied(newest, snapshot)
    if not noted:
        raise Superseded
    return AttemptResult(lease.session_id, Outcome.HELD, snapshot.owner)


def _give_back(
    services: Services,
    keeper: LeaseKeeper,
    lease: Lease,
    error: Exception,
    *,
    attempts: int | None,
    delay: timedelta | None = None,
) -> AttemptResult:
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
    return AttemptResult(lease.session_id, outcome if ours else Outcome.SUPERSEDED, error=known)
