"""The orders of purges in the archive. One stays there until its purge has a receipt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from torpor.history.protocol import InvalidArgument
from torpor.worker.archive import names
from torpor.worker.deployment.services import Services
from torpor.worker.erasure.order import Order
from torpor.worker.errors import ObjectNotFound, PurgeNotFound
from torpor.worker.jobs.orders import Orders

ORDERS = Orders(names.PURGES, Order, "purge")


def place(services: Services, order: Order) -> Order:
    """Write an order to the archive; from then on workers carry it out, whoever began it. Repeatable.

    Returns the order that was placed first under this id, if both are for the same sessions; else raises
    InvalidArgument, as it does for an order of more than 64 KiB.
    """
    placed = _finished(services, order.id)
    if placed is None:
        ORDERS.write(services.archive, order)
        try:
            placed = read(services, order.id)
        except PurgeNotFound:  # finished since
            placed = _finished(services, order.id) or order
    if (placed.target, placed.scope) != (order.target, order.scope):
        raise InvalidArgument(f"purge {order.id} is another one: it is of {placed.target.fields()}, {placed.scope}")
    return placed


def is_placed(services: Services, purge: str) -> bool:
    """True if an order was placed under this id, finished or not."""
    order = names.PURGES.order(purge)
    return any(services.archive.list(order)) or ORDERS.is_finished(services.archive, purge)


def _finished(services: Services, purge: str) -> Order | None:
    """The order that the receipt of a purge repeats, if there is a receipt."""
    with suppress(ObjectNotFound):
        return ORDERS.finished(services.archive, purge, Order)
    return None


def read(services: Services, purge: str) -> Order:
    """An order that is not finished; raises PurgeNotFound and DocumentDamaged."""
    with of_purges():
        return ORDERS.read(services.archive, purge)


@contextmanager
def of_purges() -> Iterator[None]:
    """Raise PurgeNotFound for a document that is not there."""
    try:
        yield
    except ObjectNotFound as exc:
        raise PurgeNotFound(str(exc)) from exc


def open_orders(services: Services) -> Iterator[str]:
    """The ids of the purges that are not finished, in the order of their ids."""
    return (names.PURGES.job_of(stored.name) for stored in ORDERS.open(services.archive))
