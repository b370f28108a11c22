"""Purge: list -> write down -> remove -> recheck -> receipt. This module alone knows that sequence.

The order stays in the archive until the receipt is there, so the next sweep carries on a purge that was killed.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

from torpor.history.protocol import TransientError, WorkLock
from torpor.worker import tracing
from torpor.worker.deployment.events import Event, EventKind, record_events
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import inventory, orders, receipts
from torpor.worker.erasure.inventory import Found, Tally
from torpor.worker.erasure.order import Order, check_id
from torpor.worker.erasure.receipts import Standing
from torpor.worker.erasure.recheck import Recheck
from torpor.worker.erasure.removal import Removal
from torpor.worker.erasure.survey import Surveyed
from torpor.worker.erasure.targets import targets
from torpor.worker.errors import PurgeNotFound, PurgeOvertaken
from torpor.worker.failpoints import Failpoint, reach
from torpor.worker.jobs import batches
from torpor.worker.jobs.renewing import renewed
from torpor.worker.transfer import adopt

log = logging.getLogger("torpor.purge")

_BATCH = 100
_RECHECKS = 5


def purge(services: Services, order: Order, progress: Callable[[Tally], None] = lambda _: None) -> Standing:
    """Place an order and carry it out; see `carry_out`. Repeatable: an order is known by its id."""
    return carry_out(services, orders.place(services, order).id, progress)


def carry_out(services: Services, purge_id: str, progress: Callable[[Tally], None] = lambda _: None) -> Standing:
    """As `go_on`, without saying whether this run has done something."""
    standing, _ = go_on(services, purge_id, progress)
    return standing


def go_on(
    services: Services, purge_id: str, progress: Callable[[Tally], None] = lambda _: None
) -> tuple[Standing, bool]:
    """Carry an order out as far as is possible now; returns where it stands, and True if this run has worked on it.

    A run does not work on a purge that was finished before, or that another process carries out.
    `progress` gets the counts of what was found up to now, and may end the run by an exception. Repeatable: a run
    continues one that was killed, and of two runs at once one works. The state stays `running` while a worker may be
    uploading one of the sessions, because the recheck must wait until that worker's lease has ended. An error is noted
    for `standing`, and the next sweep tries again. Raises InvalidArgument and PurgeNotFound too.
    """
    check_id(purge_id)
    worked = False
    with services.sessions.purging(purge_id, services.settings.lease) as lock:
        if lock is not None:
            with (
                tracing.span("purge", purge=purge_id),
                lock.noting_failure(timedelta(seconds=services.settings.retry_delay_seconds)),
                ThreadPoolExecutor(services.settings.concurrency) as pool,
                suppress(PurgeNotFound),  # it is finished
            ):
                order = orders.read(services, purge_id)
                worked = True
                with renewed(lock, services.settings.lease):
                    _Run(services, order, lock, Removal(services, order, pool), progress).run()
    return receipts.standing(services, purge_id), worked


def preview(services: Services, order: Order) -> Iterator[Surveyed]:
    """Survey the sessions that a purge would find; nothing is changed.

    Keeps all session ids in memory, because the targets name a session that is in Redis and in the archive twice.
    """
    return look_at(services, order, _unique(targets(services, order)))


def look_at(services: Services, order: Order, session_ids: Iterable[str]) -> Iterator[Surveyed]:
    """As `preview`, of these sessions alone, which may be a part of those that a purge would find."""
    with ThreadPoolExecutor(services.settings.concurrency) as pool:
        removal = Removal(services, order, pool)
        for batch in batches.of(session_ids, _BATCH):
            yield from (each for each in removal.survey(batch) if each.found)


def sums(surveyed: Iterable[Surveyed]) -> tuple[Tally, Counter[str]]:
    """What would be removed, and how many sessions are kept for each reason."""
    total, kept = Tally(), Counter[str]()
    for each in surveyed:
        if each.kept:
            kept[each.kept] += 1
        else:
            total += each.found.tally
    return total, kept


def _unique(session_ids: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for session_id in session_ids:
        if session_id not in seen:
            seen.add(session_id)
            yield session_id


@dataclass
class _Run:
    """One run of a purge: until the receipt, or until it has to wait."""

    services: Services
    order: Order
    lock: WorkLock
    removal: Removal
    progress: Callable[[Tally], None]
    found: Tally = field(default_factory=Tally)

    def run(self) -> None:
        if not receipts.is_written(self.services, self.order.id):
            adopt.finish(self.services)
            self._list_and_remove()
            recheck = self._recheck()
            if recheck.waits_until is not None:
                log.info("purge %s is rechecked at %s", self.order.id, recheck.waits_until)
                self.lock.keep(recheck.waits_until - self.services.sessions.redis_time())
                return
            removed = self.found - recheck.spared
            receipts.write(self.services, self.order, removed, recheck.kept)
            log.info("purge %s: %s", self.order.id, removed)
            reach(Failpoint.PURGE_RECEIPTED)
        orders.ORDERS.finish(self.services.archive, self.order.id)

    def _list_and_remove(self) -> None:
        """List the sessions, and write each batch to an inventory before it is removed.

        Each session is listed once: after the list is complete, later runs list nothing, and a session that is created
        then is not part of the purge. Before that, a run continues the list, and the removals, of a killed one.
        """
        if inventory.is_complete(self.services, self.order.id):
            tallies = map(inventory.tally_of, inventory.written(self.services, self.order.id))
            self.found = sum(tallies, Tally())
        else:
            number, listed = self._remove_listed()
            self._list_others(number, listed)
        inventory.complete(self.services, self.order.id)
        reach(Failpoint.PURGE_REMOVED)

    def _remove_listed(self) -> tuple[int, set[str]]:
        """Remove what a killed run had listed; returns its number of inventories, and the sessions in them."""
        number = 0
        listed: set[str] = set()
        for stored in inventory.written(self.services, self.order.id):
            number += 1
            self.found += inventory.tally_of(stored)
            founds = list(inventory.read(self.services, stored))
            listed.update(found.session for found in founds)
            if not inventory.is_removed(self.services, self.order.id, number):
                self._remove(number, self._as_listed(founds))
        return number, listed

    def _list_others(self, number: int, listed: Collection[str]) -> None:
        for batch in batches.of(targets(self.services, self.order), _BATCH):
            surveyed = self.removal.survey(session for session in batch if session not in listed)
            admitted = list(self._admitted(surveyed, named=number == 0))
            if admitted:
                founds = [each.found for each in admitted]
                number += 1
                inventory.write(self.services, self.order.id, number, founds)
                reach(Failpoint.PURGE_LISTED)
                self.found += sum((found.tally for found in founds), Tally())
                self._remove(number, admitted)
                self.progress(self.found)

    def _as_listed(self, founds: Sequence[Found]) -> list[Surveyed]:
        """The sessions of an inventory: what was listed of them, and what keeps them now."""
        now = self.removal.survey(found.session for found in founds)
        return [replace(each, found=found) for each, found in zip(now, founds, strict=True)]

    def _admitted(self, surveyed: Iterable[Surveyed], *, named: bool) -> Iterator[Surveyed]:
        """The sessions to list; a session that the order names is listed even if there is nothing of it."""
        idle = self.order.idle
        cutoff = None if idle is None else self.services.sessions.now() - idle
        for each in surveyed:
            if cutoff and each.last_active and each.last_active > cutoff:
                continue  # used since the walk came to it
            if each.found or (named and self.order.session and not each.holds):
                yield each

    def _remove(self, number: int, surveyed: Sequence[Surveyed]) -> None:
        removed = self.removal.remove(surveyed)
        inventory.note_removed(self.services, self.order.id, number)
        reach(Failpoint.PURGE_ERASED)
        self._extend_lock()
        events = [
            Event(EventKind.PURGED, found.session, next(iter(found.owners), None), found.messages) for found in removed
        ]
        record_events(self.services, events)

    def _recheck(self) -> Recheck:
        """Recheck until nothing is there again, or until a recheck has to wait."""
        for _ in range(_RECHECKS):
            recheck = Recheck(self.removal)
            for stored in inventory.written(self.services, self.order.id):
                for founds in batches.of(inventory.read(self.services, stored), _BATCH):
                    recheck.look_at(founds)
                    self._extend_lock()
                    self.progress(self.found)
            if not recheck.back or recheck.waits_until:
                return recheck
        raise TransientError(f"purge {self.order.id}: its sessions keep coming back; the next sweep tries again")

    def _extend_lock(self) -> None:
        """Extend the lock by a lease; raises PurgeOvertaken if it is lost."""
        if not self.lock.extend(self.services.settings.lease):
            raise PurgeOvertaken(f"another worker carries out purge {self.order.id} now")
