"""Purging: list -> write down -> remove -> look again -> receipt. The one place with that order.

An order lies in the archive until its receipt does, so a purge that is killed anywhere is carried on by the next sweep.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TypeVar

from history import (
    Lease,
    PurgeLock,
    PurgeOutcome,
    PurgeTarget,
    Purging,
    SeizeOutcome,
    Status,
    TorporError,
    TransientError,
)
from worker import erase, holdings, inventory, orders, receipts
from worker.errors import ArchiveRefused, PurgeNotFound, PurgeOvertaken
from worker.events import Event, EventKind, tell
from worker.failpoints import Failpoint, reach
from worker.inventory import Found, Surveyed, Tally
from worker.orders import Order, Scope
from worker.receipts import Kept, Remainder, Standing
from worker.services import Services
from worker.stores import StoredObject
from worker.targets import targets

T = TypeVar("T")

log = logging.getLogger("torpor.purge")

_BATCH = 100
_TRIES = 5


def purge(services: Services, order: Order, told: Callable[[Tally], None] = lambda _: None) -> Standing:
    """Place an order and carry it out; see `carry_out`. Repeatable: an order is known by its id."""
    return carry_out(services, orders.place(services, order).id, told)


def carry_out(services: Services, purge_id: str, told: Callable[[Tally], None] = lambda _: None) -> Standing:
    """Carry an order out as far as is possible now, and tell where it stands; `told` gets what was found up to now.

    Killed anywhere, run again it goes on where it was; of two at once one works. It is `running` still where a worker
    may be uploading one of its sessions: the second look must wait until that worker's lease has ended. Raises what
    stands in its way, which is noted: the next sweep tries again. Raises PurgeNotFound.
    """
    with services.sessions.purging(purge_id, services.settings.lease) as lock:
        try:
            order = orders.read(services, purge_id)
        except PurgeNotFound:
            return receipts.standing(services, purge_id)
        if lock is not None:
            retry = timedelta(seconds=services.settings.retry_delay_seconds)
            with lock.noting_failure(retry), ThreadPoolExecutor(services.settings.concurrency) as pool:
                _Run(services, order, lock, pool, told).run()
    return receipts.standing(services, purge_id)


def preview(services: Services, order: Order) -> Iterator[Surveyed]:
    """What a purge would find, session by session; nothing is changed.

    Holds all session ids, since a session comes twice that is in Redis and in the archive.
    """
    seen: set[str] = set()
    with ThreadPoolExecutor(services.settings.concurrency) as pool:
        for batch in _batches(targets(services, order)):
            fresh = [session for session in batch if session not in seen]
            seen.update(batch)
            yield from (each for each in _survey(services, pool, order, fresh) if each.found)


def _survey(services: Services, pool: Executor, order: Order, session_ids: Iterable[str]) -> list[Surveyed]:
    return inventory.survey(services, pool, list(dict.fromkeys(session_ids)), order)


@dataclass
class _Run:
    """One run of a purge: from the list to the receipt, or to where it must wait."""

    services: Services
    order: Order
    lock: PurgeLock
    pool: Executor
    told: Callable[[Tally], None]
    found: Tally = field(default_factory=Tally)
    held: Remainder = field(default_factory=Remainder)

    def run(self) -> None:
        listed = list(map(inventory.tally_of, inventory.written(self.services, self.order.id)))
        self.found = sum(listed, Tally())
        # Where another run was killed, what it has listed is removed first, so that nothing is listed twice.
        look = self._look_again()
        if look.waits_until is None and self._list_and_remove(len(listed)):
            look = self._look_again()
        if look.waits_until is not None:
            log.info("purge %s looks again at %s", self.order.id, look.waits_until)
            self.lock.keep(look.waits_until - datetime.now(UTC))
            return
        removed = self.found - look.spared
        receipts.write(self.services, self.order, removed, Remainder(self.held, look.kept))
        reach(Failpoint.PURGE_RECEIPTED)
        orders.finish(self.services, self.order.id)
        log.info("purge %s: %s", self.order.id, removed)

    # The list, and the removal of what it names

    def _list_and_remove(self, before: int) -> bool:
        """Go through the targets; what is found of each is written down before it is removed.

        `before` inventories are there; False where there is nothing more to list.
        """
        number = before
        for batch in _batches(targets(self.services, self.order)):
            founds = self._admitted(_survey(self.services, self.pool, self.order, batch), named=number == 0)
            if founds:
                number += 1
                inventory.write(self.services, self.order.id, number, founds)
                reach(Failpoint.PURGE_LISTED)
                self.found += sum((found.tally for found in founds), Tally())
                self._remove(founds)
                self.told(self.found)
        return number > before

    def _admitted(self, surveyed: Iterable[Surveyed], *, named: bool) -> list[Found]:
        """What is to be removed; a session that was asked for by name is so even where there is nothing of it."""
        founds = []
        for each in surveyed:
            if each.hold and each.found:
                self.held.add(Kept(each.found.session, f"legal hold: {each.hold.reason}"))
            elif each.found or (named and self.order.session and not each.hold):
                founds.append(each.found)
        return founds

    def _remove(self, founds: Sequence[Found]) -> None:
        """Remove sessions from where the order says; what is in the way is left to the second look."""
        if self.order.scope is Scope.LIVE:
            removed = [found for found, gone in zip(founds, self.pool.map(self._drop, founds), strict=True) if gone]
        else:
            forbidden = self._forbid(founds)
            list(self.pool.map(self._erase, forbidden))
            removed = [found for found, _ in forbidden]
        reach(Failpoint.PURGE_ERASED)
        if not self.lock.extend(self.services.settings.lease):
            raise PurgeOvertaken(f"purge {self.order.id} is carried out by another worker by now")
        tell(
            self.services,
            [Event(EventKind.PURGED, found.session, found.owner, found.messages) for found in removed],
        )

    def _forbid(self, founds: Sequence[Found]) -> list[tuple[Found, int]]:
        """Empty sessions in Redis, or forbid what the archive has of them; the floor of each that could be."""
        forbidden: list[tuple[Found, int]] = []
        waiting = list(founds)
        for _ in range(_TRIES):
            outcomes = list(zip(waiting, self._purge_in_redis(waiting), strict=True))
            forbidden += [(found, done.floor) for found, done in outcomes if done.floor is not None]
            changed = [found.session for found, done in outcomes if done.outcome is PurgeOutcome.CHANGED]
            if not changed:
                reach(Failpoint.PURGE_DROPPED)
                return forbidden
            waiting = [each.found for each in _survey(self.services, self.pool, self.order, changed)]
        raise TransientError(f"session {waiting[0].session!r} keeps changing its owner; try again")

    def _purge_in_redis(self, founds: Sequence[Found]) -> list[Purging]:
        """One pipeline; raises what Redis answers for a session."""
        sessions, idle = self.services.sessions, self.order.idle
        named = [PurgeTarget(found.session, found.owner, found.owners) for found in founds]
        if self.order.scope is Scope.ARCHIVE:
            return [_done(outcome) for outcome in sessions.rebase(named, idle=idle)]
        tombstone = timedelta(seconds=self.services.settings.tombstone_seconds)
        return [_done(each) for each in sessions.purge(named, self.order.id, tombstone=tombstone, idle=idle)]

    def _erase(self, forbidden: tuple[Found, int]) -> erase.Erased:
        found, floor = forbidden
        return erase.below_floor(self.services, found.session, floor, found.owners)

    def _drop(self, found: Found) -> bool:
        """Drop a session from Redis under a lease of our own, with what was uploaded of it and not committed.

        False where a worker has it in hand or it may not be dropped.
        """
        sessions, lease_time = self.services.sessions, self.services.settings.lease
        lease = sessions.seize(found.session, lease_time)
        if lease is SeizeOutcome.QUARANTINED and sessions.requeue(found.session):
            lease = sessions.seize(found.session, lease_time)
        if not isinstance(lease, Lease):
            return lease is SeizeOutcome.MISSING
        info = sessions.info(found.session)
        if info is not None and info.hold is None:
            for segment in holdings.look(self.services.archive, found.session).segments:
                if segment.name.epoch == info.epoch and segment.name.stop > info.archived_count - info.base:
                    self.services.archive.delete(segment.stored)
            reach(Failpoint.PURGE_TRIMMED)
            done = sessions.drop(lease, epoch=info.epoch, idle=self.order.idle, owner=info.owner)
            if done.outcome is PurgeOutcome.PURGED:
                return True
        sessions.release(lease, timedelta(), counted=False)
        return False

    # The second look

    def _look_again(self) -> _Look:
        """Look for whatever is left of what was found, and remove it, until a look finds nothing or must wait."""
        for _ in range(_TRIES):
            look = _Look()
            for stored in inventory.written(self.services, self.order.id):
                for founds in _batches(inventory.read(self.services, stored)):
                    self._look_at(founds, look)
            if not look.back or look.waits_until:
                return look
        raise TransientError(f"purge {self.order.id}: something of its sessions keeps coming back; it goes on")

    def _look_at(self, founds: Sequence[Found], look: _Look) -> None:
        listed = {found.session: found for found in founds}
        surveyed = _survey(self.services, self.pool, self.order, listed)
        waits = [each.info.looks_again_at for each in surveyed if each.info and each.info.looks_again_at]
        look.wait(*waits)
        left = list(self._left(surveyed, listed))
        for each in left:
            if each.hold:
                look.spare(each.found, f"legal hold: {each.hold.reason}")
        free = [each for each in left if not each.hold]
        if self.order.scope is Scope.LIVE:
            self._drop_again(free, look)
        else:
            self._erase_again([each.found for each in free], look)

    def _left(self, surveyed: Sequence[Surveyed], listed: Mapping[str, Found]) -> Iterator[Surveyed]:
        """Those of which something is there; with the owners that the inventory has, whose markers may be all of it."""

        def marked(found: Found, below: int) -> bool:
            return any(erase.owner_markers(self.services, owner, found.session, below) for owner in found.owners)

        before = [listed[each.found.session] for each in surveyed]
        below = [max(found.epoch + 1, each.floor) for found, each in zip(before, surveyed, strict=True)]
        erased = self.order.scope is not Scope.LIVE
        still_marked = self.pool.map(marked, before, below) if erased else [False] * len(before)
        for each, found, is_marked in zip(surveyed, before, still_marked, strict=True):
            if is_marked or each.is_left_of(found):
                owners = sorted({*found.owners, *each.found.owners})
                yield replace(each, found=replace(each.found, owners=owners))

    def _erase_again(self, left: Sequence[Found], look: _Look) -> None:
        forbidden = self._forbid(left)
        reached = {found.session for found, _ in forbidden}
        for found in left:
            if found.session not in reached:
                look.spare(found)  # used meanwhile
        for (found, _), erased in zip(forbidden, self.pool.map(self._erase, forbidden), strict=True):
            look.back += erased.objects
            for stored, refused in erased.refused:
                look.keep(found.session, stored, refused)

    def _drop_again(self, left: Sequence[Surveyed], look: _Look) -> None:
        for each in left:
            if self._drop(each.found):
                look.back += 1
            elif each.info and each.info.status is Status.IN_WORK:
                look.wait(*filter(None, [each.info.due_at]))
            else:
                look.spare(each.found)  # used meanwhile


@dataclass
class _Look:
    """What a second look has found: what may not be removed, what was spared, how much was back, when to look again."""

    kept: Remainder = field(default_factory=Remainder)
    spared: Tally = field(default_factory=Tally)
    back: int = 0
    waits_until: datetime | None = None

    def wait(self, *moments: datetime) -> None:
        self.waits_until = max(filter(None, [self.waits_until, *moments]), default=None)

    def spare(self, found: Found, why: str | None = None) -> None:
        """A session that is not removed: it was used meanwhile, or has come under a legal hold."""
        self.spared += found.tally
        if why is not None:
            self.kept.add(Kept(found.session, why))

    def keep(self, session: str, stored: StoredObject, refused: ArchiveRefused) -> None:
        """An object that the archive refuses to delete."""
        self.spared += Tally(objects=1, bytes=stored.size)
        self.kept.add(Kept(session, str(refused), stored.name, refused.until))


def _batches(things: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(things)
    while batch := list(islice(iterator, _BATCH)):
        yield batch


def _done(outcome: Purging | TorporError) -> Purging:
    if isinstance(outcome, TorporError):
        raise outcome
    return outcome
