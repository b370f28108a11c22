"""Removal: deletes the sessions of a purge from Redis, and from the archive below a floor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import timedelta

from torpor.history.protocol import (
    ANY_OWNER,
    ClaimOutcome,
    Lease,
    PurgeOutcome,
    PurgeTarget,
    Purging,
    SessionInfo,
    TorporError,
    TransientError,
)
from torpor.worker.archive import contents
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import erase, survey
from torpor.worker.erasure.erase import Erased
from torpor.worker.erasure.inventory import Found
from torpor.worker.erasure.order import Order, Scope
from torpor.worker.erasure.survey import Surveyed
from torpor.worker.failpoints import Failpoint, reach
from torpor.worker.retention import legal_hold

_TRIES = 5


@dataclass(frozen=True, slots=True)
class Removal:
    """Removes sessions in the scope of an order. Each step is repeatable."""

    services: Services
    order: Order
    pool: Executor

    def survey(self, session_ids: Iterable[str]) -> list[Surveyed]:
        """Look at sessions, at each once."""
        return survey.survey(self.services, self.pool, list(dict.fromkeys(session_ids)), self.order)

    def remove(self, surveyed: Sequence[Surveyed]) -> list[Found]:
        """Remove sessions; returns those that could be removed. The recheck deals with the others."""
        founds = [each.found for each in surveyed if each.kept is None]
        if self.order.scope is Scope.LIVE:
            outcomes = zip(founds, self.pool.map(self.drop, founds), strict=True)
            return [found for found, outcome in outcomes if outcome is PurgeOutcome.PURGED]
        forbidden = self.forbid(founds)
        self.erase(forbidden)
        return [found for found, _ in forbidden]

    def forbid(self, founds: Sequence[Found]) -> list[tuple[Found, int]]:
        """Give sessions a floor in Redis, and empty them there unless the scope is the archive.

        Returns each session that was not refused, with its floor.
        """
        forbidden: list[tuple[Found, int]] = []
        waiting = list(founds)
        for _ in range(_TRIES):
            outcomes = list(zip(waiting, self._purge_in_redis(waiting), strict=True))
            forbidden += [(found, done.floor) for found, done in outcomes if done.floor is not None]
            changed = [found.session for found, done in outcomes if done.outcome is PurgeOutcome.CHANGED]
            if not changed:
                reach(Failpoint.PURGE_DROPPED)
                return forbidden
            waiting = [each.found for each in self.survey(changed) if each.kept is None]
        raise TransientError(f"session {waiting[0].session!r} keeps changing its owner; try again")

    def erase(self, forbidden: Sequence[tuple[Found, int]]) -> list[Erased]:
        """Erase sessions from the archive, each below its floor."""
        return list(self.pool.map(lambda each: self._erase(*each), forbidden))

    def _erase(self, found: Found, floor: int) -> Erased:
        kept = found.live_messages if self.order.scope is Scope.ARCHIVE else 0
        return erase.below_floor(self.services, found.session, floor, found.owners, kept=kept)

    def drop(self, found: Found) -> PurgeOutcome:
        """Delete a session from Redis under a lease of this purge, and its uncommitted uploads from the archive.

        CHANGED if a worker has claimed it or an erasure is pending: try again later.
        """
        sessions, lease_time = self.services.sessions, self.services.settings.lease
        lease = sessions.claim_one(found.session, lease_time)
        if lease is ClaimOutcome.QUARANTINED and sessions.requeue(found.session):
            lease = sessions.claim_one(found.session, lease_time)
        if not isinstance(lease, Lease):
            return PurgeOutcome.PURGED if lease is ClaimOutcome.MISSING else PurgeOutcome.CHANGED
        outcome = PurgeOutcome.CHANGED
        info = sessions.info(found.session, owner=ANY_OWNER)
        if info is not None and info.hold is not None:
            outcome = PurgeOutcome.HELD
        elif info is not None and info.floor is None:
            if info.hold_pending:  # nothing would remind a worker of it any more
                legal_hold.apply_hold(self.services, found.session)
            trimmed = self._trim(info)
            reach(Failpoint.PURGE_TRIMMED)
            if trimmed:
                outcome = sessions.drop_live(
                    lease, epoch=info.epoch, idle=self.order.idle, seen_owner=info.owner
                ).outcome
        if outcome is not PurgeOutcome.PURGED:
            sessions.release(lease, timedelta(), counted=False)
        return outcome

    def _trim(self, info: SessionInfo) -> bool:
        """Discard segments that were uploaded and never committed: they would bring the dropped messages back.

        False if somebody else has put or changed one of them meanwhile: it may be committed by now.
        """
        committed = info.archived_count - info.restored_count
        return all(
            self.services.archive.discard(segment.stored)
            for segment in contents.look(self.services.archive, info.session_id).segments
            if segment.name.epoch == info.epoch and segment.name.stop > committed
        )

    def _purge_in_redis(self, founds: Sequence[Found]) -> list[Purging]:
        """One pipeline; raises the error that Redis replies for a session."""
        sessions, idle = self.services.sessions, self.order.idle
        named = [PurgeTarget(found.session, found.owner, found.owners) for found in founds]
        if self.order.scope is Scope.ARCHIVE:
            return [_checked(each) for each in sessions.rebase(named, idle=idle)]
        tombstone = timedelta(seconds=self.services.settings.tombstone_seconds)
        return [_checked(each) for each in sessions.purge(named, self.order.id, tombstone=tombstone, idle=idle)]


def _checked(reply: Purging | TorporError) -> Purging:
    if isinstance(reply, TorporError):
        raise reply
    return reply
