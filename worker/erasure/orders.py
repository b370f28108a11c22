"""The orders in the archive. One stays there until its purge has a receipt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from torpor.history.protocol import InvalidArgument
from torpor.worker.archive import names
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import documents
from torpor.worker.erasure.order import ID, Order
from torpor.worker.errors import ArchiveConflict, ArchiveRefused, PurgeNotFound


def place(services: Services, order: Order) -> Order:
    """Write an order to the archive; from then on workers carry it out, whoever began it. Repeatable.

    Returns the order that was placed first under this id, if both are for the same sessions; else raises
    InvalidArgument.
    """
    placed = _finished(services, order.id)
    if placed is None:
        with suppress(ArchiveConflict):
            documents.put(services.archive, names.order_name(order.id), order)
        try:
            placed = read(services, order.id)
        except PurgeNotFound:  # finished since
            placed = _finished(services, order.id) or order
    if (placed.target, placed.scope) != (order.target, order.scope):
        raise InvalidArgument(f"purge {order.id} is another one: it is of {placed.target.fields()}, {placed.scope}")
    return placed


def is_placed(services: Services, purge: str) -> bool:
    """True if an order was placed under this id, finished or not."""
    return any(any(services.archive.list(name)) for name in (names.order_name(purge), names.receipt_name(purge)))


def _finished(services: Services, purge: str) -> Order | None:
    """The order that the receipt of a purge repeats, if there is a receipt."""
    with suppress(PurgeNotFound):
        return documents.read(services.archive, names.receipt_name(purge), Order)
    return None


def read(services: Services, purge: str) -> Order:
    """An order that is not finished; raises PurgeNotFound and DocumentDamaged."""
    return documents.read(services.archive, names.order_name(purge), Order)


def open_orders(services: Services) -> Iterator[str]:
    """The ids of the purges that are not finished, in the order of their ids."""
    for stored in services.archive.list(names.ORDERS):
        purge = stored.name.removeprefix(names.ORDERS).removesuffix(".json")
        if ID.fullmatch(purge) and stored.name == names.order_name(purge):
            undeletable = stored.held or stored.retained_until is not None  # such an order outlives its purge
            if not undeletable or _finished(services, purge) is None:
                yield purge


def finish(services: Services, purge: str) -> None:
    """Delete the order of a purge that has its receipt; if the archive refuses, the receipt says that it is done."""
    for stored in services.archive.list(names.order_name(purge), generations=True):
        with suppress(ArchiveRefused):
            services.archive.delete(stored)
