"""Giving claimed sessions back to Redis: untried, after a failure, or into quarantine."""

from __future__ import annotations

import logging
import random
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from torpor.history.protocol import Ending, Lease, SessionDamaged, SessionInfo, TorporError, TransientError
from torpor.worker.archive.probe import probe
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveRefused, ArchiveUnavailable, AttemptsExhausted, ClearForgotten
from torpor.worker.logs import outages
from torpor.worker.sleep.leases import LeaseKeeper
from torpor.worker.sleep.outcome import AttemptResult, Outcome, Superseded

log = logging.getLogger("torpor.archive")

# The archive may refuse a deletion for months. Such an erasure is never given up, and is tried once an hour.
_ERASE_AGAIN = timedelta(hours=1)
# What may pass: Redis, the archive, and the disk and the memory of this machine.
_PASSING = (TransientError, OSError, MemoryError)
# Failures that are a session's own, or an object's, however the archive is.
_PROVED = (SessionDamaged, AttemptsExhausted, ClearForgotten, ArchiveRefused)


@contextmanager
def returned(services: Services, keeper: LeaseKeeper, leases: Sequence[Lease]) -> Iterator[None]:
    """Release all these sessions if the block raises a TorporError."""
    try:
        yield
    except TorporError:
        for lease in leases:
            release(services, keeper, lease)
        raise


def release(services: Services, keeper: LeaseKeeper, lease: Lease) -> AttemptResult:
    """Give a claimed session back untried: it is due at once, and an attempt that was begun does not count."""
    newest = keeper.take(lease)
    try:
        if newest and services.sessions.release(newest, timedelta(), counted=False):
            return AttemptResult(lease.session_id, Outcome.POSTPONED)
    except TorporError as error:
        _warn_of_lease(lease, error)
    return AttemptResult(lease.session_id, Outcome.SUPERSEDED)


def give_back(
    services: Services,
    keeper: LeaseKeeper,
    lease: Lease,
    snapshot: SessionInfo | TorporError | None,
    error: Exception,
) -> AttemptResult:
    """Give a session back after an error, and return the outcome of its attempt.

    A failure that may pass is not counted, nor is an erasure that the archive refuses, nor one that a small test
    object meets too: none of them ends in quarantine.
    """
    if isinstance(error, Superseded):
        keeper.take(lease)
        return AttemptResult(lease.session_id, Outcome.SUPERSEDED)
    seen = snapshot if isinstance(snapshot, SessionInfo) else None
    error = _archives_fault(services, error) or error if seen else error
    if isinstance(error, _PASSING):
        return _give_back(services, keeper, lease, error, Outcome.POSTPONED, counted=False)
    if seen and (seen.purge is not None or isinstance(error, ArchiveRefused)):
        return _give_back(services, keeper, lease, error, Outcome.FAILED, counted=False, delay=_ERASE_AGAIN)
    most = services.settings.max_attempts
    attempts = seen.attempts if seen else most
    outcome = Outcome.QUARANTINED if attempts >= most else Outcome.FAILED
    return _give_back(services, keeper, lease, error, outcome, counted=attempts > 0)


def _archives_fault(services: Services, error: Exception) -> ArchiveUnavailable | None:
    """The failure of a probe after an error that seems to be a session's own; None if the archive works."""
    if isinstance(error, (*_PASSING, *_PROVED)):
        return None
    try:
        probe(services.archive)
    except ArchiveUnavailable as unavailable:
        return unavailable
    return None


def _give_back(
    services: Services,
    keeper: LeaseKeeper,
    lease: Lease,
    error: Exception,
    outcome: Outcome,
    *,
    counted: bool,
    delay: timedelta | None = None,
) -> AttemptResult:
    # The text of an error that is not Torpor's could have a message, so only its kind and its place are told.
    known = error if isinstance(error, TorporError) else TorporError(type(error).__name__)
    if outcome is not Outcome.POSTPONED:
        where = "" if known is error else "\n" + "".join(traceback.format_tb(error.__traceback__))
        log.error("session %r: %s: %s%s", lease.session_id, outcome, known, where)
    delay = delay or timedelta(seconds=services.settings.retry_delay_seconds * random.uniform(0.5, 1.5))
    newest = keeper.take(lease)
    try:
        if newest is None:
            ours = False
        elif outcome is Outcome.QUARANTINED:
            ours = services.sessions.quarantine(newest, str(known))
        else:
            waiting = delay is not _ERASE_AGAIN
            ending = Ending(outcome)
            ours = services.sessions.release(
                newest, delay, counted=counted, error=str(known), waiting=waiting, ending=ending
            )
    except TorporError as failed:
        _warn_of_lease(lease, failed)
        ours = True
    return AttemptResult(lease.session_id, outcome if ours else Outcome.SUPERSEDED, error=known)


def _warn_of_lease(lease: Lease, error: TorporError) -> None:
    log.log(outages.level(error), "session %r is due again when its lease ends: %s", lease.session_id, error)
