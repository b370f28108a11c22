"""Purges that a Redis has forgotten, by their receipts: tombstones stand again, and nothing purged comes back."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from torpor.history.protocol import PurgeOutcome, PurgeTarget, SessionInfo, TorporError
from torpor.worker.archive import contents
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import inventory, receipts
from torpor.worker.erasure.inventory import Found
from torpor.worker.erasure.order import Scope
from torpor.worker.erasure.receipt import Receipt
from torpor.worker.errors import DocumentDamaged, PurgeNotFound
from torpor.worker.failpoints import Failpoint, reach
from torpor.worker.ops.reconciling import Reconciled, ReconcileOutcome, drop

log = logging.getLogger("torpor.recovery")

_BATCH = 100


@dataclass(frozen=True, slots=True)
class _Purged:
    """A finished purge. `left` is for how long its tombstones stand; `spared_none` if it removed all that it found."""

    id: str
    scope: Scope
    finished_at: datetime
    left: timedelta
    spared_none: bool

    @classmethod
    def of(cls, receipt: Receipt, now: datetime) -> _Purged:
        """The purge of a receipt; raises DocumentDamaged."""
        try:
            until = receipt.finished_at + timedelta(seconds=receipt.late_writes_refused_for_seconds)
        except OverflowError as exc:
            raise DocumentDamaged(f"the receipt of purge {receipt.id} is damaged: {exc}") from exc
        spared_none = receipt.removed.sessions == receipt.found.sessions
        return cls(receipt.id, receipt.scope, receipt.finished_at, until - now, spared_none)


def rebuild(services: Services, *, dry_run: bool) -> Iterator[Reconciled]:
    """Rebuild the tombstones of finished purges that have not ended, and empty what those purges removed.

    A session that was used again since is left alone. A tombstone that stands already is told too, so that a second run
    says the same as the first. A `dry_run` says what would be done. Repeatable.
    """
    now = services.sessions.now()
    for purge in receipts.finished(services):
        try:
            purged = _Purged.of(receipts.read(services, purge), now)
            if purged.scope is not Scope.ARCHIVE:
                yield from _of_purge(services, purged, dry_run=dry_run)
        except DocumentDamaged as error:
            log.warning("the tombstones of purge %s can't be rebuilt: %s", purge, error)
        except PurgeNotFound:
            log.info("purge %s has no receipt", purge)


def _of_purge(services: Services, purged: _Purged, *, dry_run: bool) -> Iterator[Reconciled]:
    for stored in inventory.written(services, purged.id):
        found = inventory.read(services, stored)
        while batch := list(islice(found, _BATCH)):
            yield from _of_batch(services, purged, batch, dry_run=dry_run)


def _of_batch(services: Services, purged: _Purged, batch: Sequence[Found], *, dry_run: bool) -> Iterator[Reconciled]:
    infos = services.sessions.infos([found.session for found in batch])
    for found, info in zip(batch, infos, strict=True):
        if isinstance(info, TorporError):
            yield Reconciled(found.session, ReconcileOutcome.UNCLEAR, detail=str(info))
        elif info is not None and info.purge == purged.id:  # it stands, perhaps since a run that was interrupted
            yield Reconciled(found.session, ReconcileOutcome.PURGED, info.removed)
        elif info is None or info.purge is None:
            done = _of_session(services, purged, found, info, dry_run=dry_run)
            if done is not None:
                yield done


def _of_session(
    services: Services, purged: _Purged, found: Found, info: SessionInfo | None, *, dry_run: bool
) -> Reconciled | None:
    is_remains = info is None or info.epoch <= found.epoch
    if not is_remains:
        return None
    if purged.scope is Scope.EVERYWHERE and purged.left > timedelta() and _is_forbidden(services, found):
        return _entomb(services, purged, found, info, dry_run=dry_run)
    if info is None or info.hold is not None or not purged.spared_none or not info.message_count:
        return None
    if info.last_written >= purged.finished_at:
        return Reconciled(
            found.session, ReconcileOutcome.UNCLEAR, 0, info.message_count, "it was purged, and written to since"
        )
    emptied = Reconciled(found.session, ReconcileOutcome.EMPTIED, info.message_count)
    return emptied if dry_run else drop(services, info, emptied) or _changing(found)


def _is_forbidden(services: Services, found: Found) -> bool:
    """True if the purge's floor marker is there still, and nothing above it: nobody has used the id again."""
    there = contents.look(services.archive, found.session)
    return there.floor > found.epoch and not there.segments


def _entomb(
    services: Services, purged: _Purged, found: Found, info: SessionInfo | None, *, dry_run: bool
) -> Reconciled | None:
    count = info.message_count if info else 0
    if not dry_run:
        target = PurgeTarget(found.session, info.owner if info else None, found.owners)
        [done] = services.sessions.purge([target], purged.id, tombstone=purged.left)
        if isinstance(done, TorporError):
            raise done
        if done.outcome is PurgeOutcome.HELD:
            return Reconciled(
                found.session, ReconcileOutcome.UNCLEAR, 0, count, "it was purged, and is under a legal hold"
            )
        if done.outcome is not PurgeOutcome.PURGED:
            return _changing(found)
        reach(Failpoint.TOMBSTONE_REBUILT)
    return Reconciled(found.session, ReconcileOutcome.PURGED, count)


def _changing(found: Found) -> Reconciled:
    return Reconciled(found.session, ReconcileOutcome.BUSY, detail="it keeps changing")
