"""The orders in the archive. One stays there until its purge has a receipt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TypeVar

from torpor.history.protocol import InvalidArgument
from torpor.worker.archive import names
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import documents
from torpor.worker.erasure.order import ID, Order
from torpor.worker.errors import ArchiveConflict, ArchiveRefused, DocumentDamaged, PurgeNotFound

AnOrder = TypeVar("AnOrder", bound=Order)


# Free text included. A sweep reads all orders, so none may take much memory.
_MOST_BYTES = 64 * 1024


def place(services: Services, order: Order) -> Order:
    """Write an order to the archive; from then on workers carry it out, whoever began it. Repeatable.

    Returns the order that was placed first under this id, if both are for the same sessions; else raises
    InvalidArgument, as it does for an order of more than 64 KiB.
    """
    placed = _finished(services, order.id)
    if placed is None:
        with suppress(ArchiveConflict):
            documents.put(services.archive, names.order_name(order.id), order, most=_MOST_BYTES)
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
        return check_is_of(purge, documents.read(services.archive, names.receipt_name(purge), Order))
    return None


def read(services: Services, purge: str) -> Order:
    """An order that is not finished; raises PurgeNotFound and DocumentDamaged."""
    return check_is_of(purge, documents.read(services.archive, names.order_name(purge), Order, most=_MOST_BYTES))


def check_is_of(purge: str, document: AnOrder) -> AnOrder:
    """The order or receipt itself; raises DocumentDamaged if it is another purge's than its name says."""
    if document.id != purge:
        raise DocumentDamaged(f"the document of purge {purge} is damaged: it is of purge {document.id}")
    return document


def open_orders(services: Services) -> Iterator[str]:
    """The ids of the purges that are not finished, in the order of their ids."""
    return (names.purge_of(stored.name) for stored in open_objects(services))


def open_objects(services: Services) -> Iterator[StoredObject]:
    """The objects of their orders."""
    for stored in services.archive.list(names.ORDERS):
        purge = names.purge_of(stored.name)
        if ID.fullmatch(purge) and stored.name == names.order_name(purge):
            undeletable = stored.held or stored.retained_until is not None  # such an order outlives its purge
            if not undeletable or not any(services.archive.list(names.receipt_name(purge))):
                yield stored


def finish(services: Services, purge: str) -> None:
    """Delete the order of a purge that has its receipt; if the archive refuses, the receipt says that it is done."""
    for stored in services.archive.list(names.order_name(purge), generations=True):
        with suppress(ArchiveRefused):
            services.archive.delete(stored)
