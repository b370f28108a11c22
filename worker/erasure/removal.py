"""Removing sessions for a purge: out of Redis, and out of the archive below a floor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import timedelta

from torpor.history.protocol import ClaimOutcome, Lease, PurgeOutcome, PurgeTarget, Purging, TorporError, TransientError
from torpor.worker.archive import contents
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import erase, inventory
from torpor.worker.erasure.erase import Erased
from torpor.worker.erasure.inventory import Found, Surveyed
from torpor.worker.erasure.orders import Order, Scope
from torpor.worker.failpoints import Failpoint, reach
from torpor.worker.retention import legal_hold

_TRIES = 5


@dataclass(frozen=True, slots=True)
class Removal:
    """Removes sessions from where an order says. Each step is repeatable."""

    services: Services
    order: Order
    pool: Executor

    def survey(self, session_ids: Iterable[str]) -> list[Surveyed]:
        """What there is of sessions, each once."""
        return inventory.survey(self.services, self.pool, list(dict.fromkeys(session_ids)), self.order)

    def is_others(self, found: Found) -> bool:
        """Is a session of an owner's purge in Redis another owner's, who had the same id?"""
        return self.order.owner is not None and found.owner not in (None, self.order.owner)

    def remove(self, listed: Sequence[Found]) -> list[Found]:
        """Remove sessions; returns those that could be removed. What is in the way is left to the second look."""
        founds = [found for found in listed if not self.is_others(found)]
        if self.order.scope is Scope.LIVE:
            outcomes = zip(founds, self.pool.map(self.drop, founds), strict=True)
            return [found for found, outcome in outcomes if outcome is PurgeOutcome.PURGED]
        forbidden = self.forbid(founds)
        self.erase(forbidden)
        return [found for found, _ in forbidden]

    def forbid(self, founds: Sequence[Found]) -> list[tuple[Found, int]]:
        """Empty sessions in Redis, or forbid what the archive has of them; returns the floor of each that could be."""
        forbidden: list[tuple[Found, int]] = []
        waiting = list(founds)
        for _ in range(_TRIES):
            outcomes = list(zip(waiting, self._purge_in_redis(waiting), strict=True))
            forbidden += [(found, done.floor) for found, done in outcomes if done.floor is not None]
            changed = [found.session for found, done in outcomes if done.outcome is PurgeOutcome.CHANGED]
            if not changed:
                reach(Failpoint.PURGE_DROPPED)
                return forbidden
            waiting = [each.found for each in self.survey(changed)]
        raise TransientError(f"session {waiting[0].session!r} keeps changing its owner; try again")

    def erase(self, forbidden: Sequence[tuple[Found, int]]) -> list[Erased]:
        """Erase what the archive has of sessions, each below its floor."""
        return list(
            self.pool.map(
                lambda each: erase.below_floor(self.services, each[0].session, each[1], each[0].owners), forbidden
            )
        )

    def drop(self, found: Found) -> PurgeOutcome:
        """Drop a session from Redis under a lease of our own, with what was uploaded of it and not committed.

        CHANGED where a worker has it in hand or an erasure is pending: it can be tried again.
        """
        sessions, lease_time = self.services.sessions, self.services.settings.lease
        lease = sessions.claim_one(found.session, lease_time)
        if lease is ClaimOutcome.QUARANTINED and sessions.requeue(found.session):
            lease = sessions.claim_one(found.session, lease_time)
        if not isinstance(lease, Lease):
            return PurgeOutcome.PURGED if lease is ClaimOutcome.MISSING else PurgeOutcome.CHANGED
        outcome = PurgeOutcome.CHANGED
        info = sessions.info(found.session)
        if info is not None and info.hold is not None:
            outcome = PurgeOutcome.HELD
        elif info is not None and info.floor is None:
            if info.hold_pending:  # with the session goes what tells the worker to see to its objects
                legal_hold.see_to(self.services, found.session)
            for segment in contents.look(self.services.archive, found.session).segments:
                if segment.name.epoch == info.epoch and segment.name.stop > info.archived_count - info.restored_count:
                    self.services.archive.delete(segment.stored)
            reach(Failpoint.PURGE_TRIMMED)
            outcome = sessions.drop_live(lease, epoch=info.epoch, idle=self.order.idle, owner=info.owner).outcome
        if outcome is not PurgeOutcome.PURGED:
            sessions.release(lease, timedelta(), counted=False)
        return outcome

    def _purge_in_redis(self, founds: Sequence[Found]) -> list[Purging]:
        """One pipeline; raises what Redis answers for a session."""
        sessions, idle = self.services.sessions, self.order.idle
        named = [PurgeTarget(found.session, found.owner, found.owners) for found in founds]
        if self.order.scope is Scope.ARCHIVE:
            return [_done(outcome) for outcome in sessions.rebase(named, idle=idle)]
        tombstone = timedelta(seconds=self.services.settings.tombstone_seconds)
        return [_done(each) for each in sessions.purge(named, self.order.id, tombstone=tombstone, idle=idle)]


def _done(outcome: Purging | TorporError) -> Purging:
    if isinstance(outcome, TorporError):
        raise outcome
    return outcome
