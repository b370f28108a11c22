"""One attempt to archive a claimed session: verify -> commit -> end."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torpor.history.protocol import (
    ANY_OWNER,
    Attempt,
    ClaimOutcome,
    CommitOutcome,
    EraseOutcome,
    Lease,
    OwnerMismatch,
    SessionDamaged,
    SessionInfo,
    Status,
    TorporError,
    encode_caller,
    run_sync,
)
from torpor.worker import measures, tracing
from torpor.worker.archive import contents, parts
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment.events import record_events
from torpor.worker.deployment.identity import check_recorded
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import erase
from torpor.worker.errors import AttemptsExhausted
from torpor.worker.failpoints import Failpoint, reach
from torpor.worker.retention import expiry, legal_hold
from torpor.worker.sleep import upload
from torpor.worker.sleep.giving_back import give_back, returned
from torpor.worker.sleep.leases import LeaseKeeper
from torpor.worker.sleep.outcome import COMMITTED, AttemptResult, Outcome, Superseded, events_of
from torpor.worker.sleep.upload import Claimed
from torpor.worker.wake import conflict

log = logging.getLogger("torpor.archive")


@dataclass(frozen=True, slots=True)
class Verified:
    """A claimed session that is complete in the archive; `sent` are the objects that this attempt has uploaded."""

    claimed: Claimed
    sent: Sequence[StoredObject]


def archive_session(services: Services, session_id: str) -> AttemptResult:
    """Archive one session now, due or not, after finishing a pending erasure or legal hold of it.

    Raises DeploymentMismatch if the archive has moved before the session was claimed.
    """
    with LeaseKeeper(services.sessions, services.settings.lease) as keeper:
        while True:
            lease = services.sessions.claim_one(session_id, services.settings.lease)
            if isinstance(lease, ClaimOutcome):
                return AttemptResult(session_id, Outcome(lease.value))
            keeper.keep([lease])
            with returned(services, keeper, [lease]):
                check_recorded(services.sessions, services.archive.url)  # as in Pool.begin
                [attempt] = services.sessions.begin_attempts([lease])
                rewound_before = services.sessions.rewound_before()
            with tracing.span("session", session=session_id):
                result = archive_claimed(services, keeper, lease, attempt, rewound_before=rewound_before)
            record_events(services, events_of([result]))
            if result.outcome not in (Outcome.ERASED, Outcome.HOLD_APPLIED):
                return result


def archive_claimed(
    services: Services,
    keeper: LeaseKeeper,
    lease: Lease,
    attempt: Attempt | TorporError | None,
    *,
    rewound_before: int,
) -> AttemptResult:
    """`verify`, `commit` and `end` for one session; a Pool commits many together."""
    verified = verify(services, keeper, lease, attempt, rewound_before=rewound_before)
    if isinstance(verified, AttemptResult):
        return verified
    [outcome] = commit(services, keeper, [verified])
    return end(services, keeper, verified, outcome)


def verify(
    services: Services,
    keeper: LeaseKeeper,
    lease: Lease,
    attempt: Attempt | TorporError | None,
    *,
    rewound_before: int,
) -> Verified | AttemptResult:
    """Bring a claimed session into the archive completely, or finish its pending erasure or legal hold instead.

    Redis, asked after the claim, may have lost writes to epochs before `rewound_before` that others have seen, such as
    a clear.

    Repeatable: after a kill the session is due again when the lease ends, and a segment that is in the archive already
    counts as sent. Two workers at once produce the same archive.
    """
    snapshot = attempt.session if isinstance(attempt, Attempt) else attempt
    try:
        attempt = _checked(services, attempt)
        info = attempt.session
        if info.floor is not None:
            return _erase(services, keeper, lease, info, info.floor)
        if info.hold_pending:
            return _apply_hold(services, keeper, lease, info)
        if info.epoch == 0:
            raise SessionDamaged(f"the metadata of session {info.session_id!r} was lost: see torpor doctor")
        if info.owner is not None and not info.complete and not info.archived_count:
            _set_aside_others(services, info)
        reach(Failpoint.ARCHIVE_BEGUN)
        with _taking_back(services, info) as sent:
            claimed = Claimed(lease, attempt)
            upload.send(services, keeper, claimed, sent, rewound_before=rewound_before)
            reach(Failpoint.ARCHIVE_VERIFIED)
        return Verified(claimed, sent)
    except Exception as error:  # one bad session never stops the others
        return give_back(services, keeper, lease, snapshot, error)


def _checked(services: Services, attempt: Attempt | TorporError | None) -> Attempt:
    """The attempt itself, if the session may be tried; raises the reason why not."""
    if isinstance(attempt, TorporError):
        raise attempt
    if attempt is None:
        raise Superseded
    count = attempt.session.attempts
    if count > services.settings.max_attempts and attempt.session.floor is None:
        raise AttemptsExhausted(f"{count - 1} attempts ended without a word: their workers died")
    return attempt


def commit(
    services: Services, keeper: LeaseKeeper, verified: Sequence[Verified]
) -> list[CommitOutcome | TorporError | None]:
    """Delete verified sessions from Redis, each only if it still is what was archived; one pipeline.

    The reply is None for a lost lease. After an error the lease is kept. `end` comes next for each session.
    """
    newest = [keeper.take(each.claimed.lease) for each in verified]
    leased = [(lease, each) for lease, each in zip(newest, verified, strict=True) if lease]
    ours = [(lease, each.claimed.snapshot) for lease, each in leased]
    sizes = [sum(stored.size for stored in each.sent) for _, each in leased]
    outcomes: Sequence[CommitOutcome | TorporError]
    try:
        with tracing.span("commit", sessions=len(ours)):
            outcomes = services.sessions.commits(ours, sizes)
    except TorporError as error:
        outcomes = [error] * len(ours)
    keeper.keep(lease for (lease, _), outcome in zip(ours, outcomes, strict=True) if isinstance(outcome, TorporError))
    replies = iter(outcomes)
    return [next(replies) if lease else None for lease in newest]


def end(
    services: Services, keeper: LeaseKeeper, verified: Verified, outcome: CommitOutcome | TorporError | None
) -> AttemptResult:
    """End an attempt after its commit: give the session back, and take its upload back, if the commit failed."""
    snapshot, sent = verified.claimed.snapshot, verified.sent
    try:
        with _taking_back(services, snapshot, sent):
            reach(Failpoint.ARCHIVE_COMMITTED)
            if isinstance(outcome, TorporError):
                raise outcome
            if outcome not in COMMITTED:
                raise Superseded
    except Exception as error:
        return give_back(services, keeper, verified.claimed.lease, snapshot, error)
    object_name, generation = (sent[0].name, sent[0].generation) if sent else (None, None)
    count, ended = snapshot.message_count, COMMITTED[outcome]
    measures.observe("attempt", time.monotonic() - verified.claimed.begun)
    for stored in sent:
        measures.observe("segment", stored.size)
    log.info("session %r: %s, %d messages, %s#%s", snapshot.session_id, ended, count, object_name, generation)
    return AttemptResult(snapshot.session_id, ended, snapshot.owner, count, object_name, generation)


@contextmanager
def _taking_back(
    services: Services, snapshot: SessionInfo, sent: Iterable[StoredObject] = ()
) -> Iterator[list[StoredObject]]:
    """After an error in the block, delete the uploads if their epoch was cleared or purged meanwhile."""
    uploads = list(sent)
    try:
        yield uploads
    except Exception:
        if uploads:
            erase.take_back(services, snapshot, uploads)
        raise


def _set_aside_others(services: Services, snapshot: SessionInfo) -> None:
    """Put a session aside if the archive has its id for another owner; raises Superseded then."""
    found = expiry.unexpired(contents.look(services.archive, snapshot.session_id), services.sessions.redis_time)
    if conflict.is_others(found, snapshot):
        run_sync(conflict.set_aside(services.sessions.operations, snapshot))
        raise Superseded


def _check_alone(services: Services, snapshot: SessionInfo) -> None:
    """Refuse to erase what the archive has of others under the same id; raises OwnerMismatch."""
    if parts.of_others(contents.look(services.archive, snapshot.session_id)):
        raise OwnerMismatch(
            f"the archive has session {snapshot.session_id!r} of several owners, and a clear erases one's alone: "
            "torpor separate"
        )


def _erase(services: Services, keeper: LeaseKeeper, lease: Lease, snapshot: SessionInfo, floor: int) -> AttemptResult:
    """Erase the archive below the floor of a clear, purge or rebase; an expired tombstone goes with its marker."""
    if snapshot.unproven_caller is not None:
        _set_aside_others(services, snapshot)
    if snapshot.purge is None:
        _check_alone(services, snapshot)
    owners = [snapshot.owner] if snapshot.owner else []
    erased = erase.below_floor(services, lease.session_id, floor, owners, kept=snapshot.message_count, at_once=False)
    if erased.refused:
        raise erased.refused[0][1]
    if snapshot.purge is not None and snapshot.status is not Status.PURGED:
        erase.floor_markers(services, lease.session_id, floor)
    reach(Failpoint.ERASE_DONE)
    with keeper.taken(lease) as newest:
        outcome = services.sessions.note_erased(newest, floor, erased.again) if newest else EraseOutcome.OTHER
    if outcome is EraseOutcome.OTHER:
        raise Superseded
    reach(Failpoint.ERASE_NOTED)
    log.info("erased %d objects of session %r from before its clear or purge", erased.objects, lease.session_id)
    return AttemptResult(lease.session_id, Outcome.ERASED if outcome is EraseOutcome.DONE else Outcome.ERASING)


def _apply_hold(services: Services, keeper: LeaseKeeper, lease: Lease, snapshot: SessionInfo) -> AttemptResult:
    """Make the objects of a session follow a legal hold that was set or released.

    A hold that another owner has set while the session slept is released.
    """
    if snapshot.unproven_caller is not None:
        found = expiry.unexpired(contents.look(services.archive, snapshot.session_id), services.sessions.redis_time)
        if found and encode_caller(parts.first_owner(found)) != snapshot.unproven_caller:
            log.warning("session %r: the legal hold of another owner is released", snapshot.session_id)
            services.sessions.release_hold(snapshot.session_id, owner=ANY_OWNER)
            raise Superseded
    legal_hold.apply_hold(services, lease.session_id)
    reach(Failpoint.HOLD_APPLIED)
    with keeper.taken(lease) as newest:
        noted = newest is not None and services.sessions.note_hold_applied(newest, snapshot)
    if not noted:
        raise Superseded
    return AttemptResult(lease.session_id, Outcome.HOLD_APPLIED, snapshot.owner)
