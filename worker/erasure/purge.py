"""Purging: list -> write down -> remove -> look again -> receipt. The one place with that order.

An order lies in the archive until its receipt does, so a purge that is killed anywhere is carried on by the next sweep.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TypeVar

from torpor.history.protocol import PurgeLock, TransientError
from torpor.worker.deployment.events import Event, EventKind, record_events
from torpor.worker.deployment.periodic import PeriodicThread
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import inventory, orders, receipts
from torpor.worker.erasure.inventory import Found, Surveyed, Tally
from torpor.worker.erasure.orders import Order
from torpor.worker.erasure.receipts import Standing
from torpor.worker.erasure.recheck import SecondLook
from torpor.worker.erasure.removal import Removal
from torpor.worker.erasure.targets import targets
from torpor.worker.errors import PurgeNotFound, PurgeOvertaken
from torpor.worker.failpoints import Failpoint, reach
from torpor.worker.transfer import adopt

T = TypeVar("T")

log = logging.getLogger("torpor.purge")

_BATCH = 100
_LOOKS = 5


def purge(services: Services, order: Order, told: Callable[[Tally], None] = lambda _: None) -> Standing:
    """Place an order and carry it out; see `carry_out`. Repeatable: an order is known by its id."""
    return carry_out(services, orders.place(services, order).id, told)


def carry_out(services: Services, purge_id: str, told: Callable[[Tally], None] = lambda _: None) -> Standing:
    """Carry an order out as far as is possible now, and tell where it stands; `told` gets what was found up to now.

    Killed anywhere, run again it goes on where it was; of two at once one works. It is `running` still where a worker
    may be uploading one of its sessions: the second look must wait until that worker's lease has ended. Raises what
    stands in its way, which is noted: the next sweep tries again. Raises InvalidArgument and PurgeNotFound.
    """
    orders.check_id(purge_id)
    with services.sessions.purging(purge_id, services.settings.lease) as lock:
        if lock is not None:
            with (
                lock.noting_failure(timedelta(seconds=services.settings.retry_delay_seconds)),
                ThreadPoolExecutor(services.settings.concurrency) as pool,
                suppress(PurgeNotFound),  # it is finished
            ):
                order = orders.read(services, purge_id)
                with _renewed(lock, services.settings.lease):
                    _Run(services, order, lock, Removal(services, order, pool), told).run()
    return receipts.standing(services, purge_id)


def preview(services: Services, order: Order) -> Iterator[Surveyed]:
    """What a purge would find, session by session; nothing is changed.

    Holds all session ids, since a session comes twice that is in Redis and in the archive.
    """
    seen: set[str] = set()
    with ThreadPoolExecutor(services.settings.concurrency) as pool:
        removal = Removal(services, order, pool)
        for batch in _batches(targets(services, order)):
            fresh = [session for session in batch if session not in seen]
            seen.update(batch)
            yield from (each for each in removal.survey(fresh) if each.found)


@dataclass
class _Run:
    """One run of a purge: from the list to the receipt, or to where it must wait."""

    services: Services
    order: Order
    lock: PurgeLock
    removal: Removal
    told: Callable[[Tally], None]
    found: Tally = field(default_factory=Tally)

    def run(self) -> None:
        if not receipts.is_written(self.services, self.order.id):
            adopt.finish(self.services)
            self._list_and_remove()
            look = self._look_again()
            if look.waits_until is not None:
                log.info("purge %s looks again at %s", self.order.id, look.waits_until)
                self.lock.keep(look.waits_until - datetime.now(UTC))
                return
            removed = self.found - look.spared
            receipts.write(self.services, self.order, removed, look.kept)
            log.info("purge %s: %s", self.order.id, removed)
            reach(Failpoint.PURGE_RECEIPTED)
        orders.finish(self.services, self.order.id)

    def _list_and_remove(self) -> None:
        """Go through the targets; what is found of each is written down before it is removed.

        Once the list is complete, no other run makes one: what comes into being later is not of this purge. A run that
        was killed before is carried on with what it had not removed, and with what it had not listed.
        """
        listed: set[str] = set()
        number = 0
        complete = inventory.is_complete(self.services, self.order.id)
        for stored in inventory.written(self.services, self.order.id):
            number += 1
            self.found += inventory.tally_of(stored)
            founds = [] if complete else list(inventory.read(self.services, stored))
            listed.update(found.session for found in founds)
            if founds and not inventory.is_removed(self.services, self.order.id, number):
                self._remove(number, founds)
        for batch in _batches([] if complete else targets(self.services, self.order)):
            surveyed = self.removal.survey(session for session in batch if session not in listed)
            founds = list(self._admitted(surveyed, named=number == 0))
            if founds:
                number += 1
                inventory.write(self.services, self.order.id, number, founds)
                reach(Failpoint.PURGE_LISTED)
                self.found += sum((found.tally for found in founds), Tally())
                self._remove(number, founds)
                self.told(self.found)
        inventory.complete(self.services, self.order.id)
        reach(Failpoint.PURGE_REMOVED)

    def _admitted(self, surveyed: Iterable[Surveyed], *, named: bool) -> Iterator[Found]:
        """What is to be listed; a session that was asked for by name is so even where there is nothing of it."""
        idle = self.order.idle
        cutoff = None if idle is None else self.services.sessions.now() - idle
        for each in surveyed:
            if cutoff and each.last_active and each.last_active > cutoff:
                continue  # it was used since its name came up
            if each.found or (named and self.order.session and not each.hold):
                yield each.found

    def _remove(self, number: int, founds: list[Found]) -> None:
        removed = self.removal.remove(founds)
        inventory.note_removed(self.services, self.order.id, number)
        reach(Failpoint.PURGE_ERASED)
        self._go_on()
        events = [
            Event(EventKind.PURGED, found.session, next(iter(found.owners), None), found.messages) for found in removed
        ]
        record_events(self.services, events)

    def _look_again(self) -> SecondLook:
        """Look until a look finds nothing, or must wait."""
        for _ in range(_LOOKS):
            look = SecondLook(self.removal)
            for stored in inventory.written(self.services, self.order.id):
                for founds in _batches(inventory.read(self.services, stored)):
                    look.look_at(founds)
                    self._go_on()
            if not look.back or look.waits_until:
                return look
        raise TransientError(f"purge {self.order.id}: something of its sessions keeps coming back; it goes on")

    def _go_on(self) -> None:
        """Keep the lock; raises PurgeOvertaken where it is lost."""
        if not self.lock.extend(self.services.settings.lease):
            raise PurgeOvertaken(f"purge {self.order.id} is carried out by another worker by now")


@contextmanager
def _renewed(lock: PurgeLock, lease: timedelta) -> Iterator[None]:
    """Renew the lock in a thread: a walk over a large archive may find nothing for longer than a lease."""

    def renew() -> None:
        if not lock.kept:
            lock.extend(lease)

    renewals = PeriodicThread(
        "torpor-purge",
        renew,
        pause=lambda: lease.total_seconds() / 3,
        log=log,
        failure="the lock of a purge was not renewed, it may end",
    )
    renewals.start()
    try:
        yield
    finally:
        renewals.stop()


def _batches(things: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(things)
    while batch := list(islice(iterator, _BATCH)):
        yield batch
