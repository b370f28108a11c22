"""Known: refuses a purge of a session or an owner of whom nothing is known, which may be a name with a wrong letter.

A purge of idle sessions that names no owner finds what it finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from torpor.history.protocol import SessionNotFound, TransientError
from torpor.worker.deployment import catalog
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders
from torpor.worker.erasure import purge as purging
from torpor.worker.erasure.order import Order, Target
from torpor.worker.errors import DocumentDamaged, OwnerNotFound, PurgeNotFound
from torpor.worker.transfer import adopt


def place(services: Services, order: Order, *, record_nothing_found: bool = False) -> Order:
    """As `orders.place`, if something is known of whom the order names, or if it was placed before; see `check`."""
    if not orders.is_placed(services, order.id):
        adopt.finish(services, order.session)
        check(services, order, record_nothing_found=record_nothing_found)
    return orders.place(services, order)


def check(services: Services, order: Order, *, record_nothing_found: bool = False) -> None:
    """Raise SessionNotFound or OwnerNotFound if nothing is known of whom an order names, unless that is to be recorded.

    Of a session, something is known if the purge would find something of it. Of an owner, if a session in Redis or in
    the archive is the owner's, in the scope of the order or not: a legal hold, which may come first, is not enough.
    Raises TransientError if nothing is known any more because another purge of the same target is not finished yet.
    """
    if _is_known(services, order):
        return
    for open_purge in unfinished(services, order.target):
        raise TransientError(
            f"purge {open_purge} of the same target is not finished: torpor purge --resume {open_purge}"
        )
    if record_nothing_found:
        return
    if order.session is not None:
        raise SessionNotFound(f"there is nothing of session {order.session!r} to purge")
    raise OwnerNotFound(
        f"nothing is known of owner {order.owner!r}: check the name; an earlier purge is in torpor receipts"
    )


def _is_known(services: Services, order: Order) -> bool:
    if order.session is not None:
        return any(True for _ in purging.preview(services, order))
    if order.owner is None or any(True for _ in catalog.owned(services, order.owner)):
        return True
    return any(adoption.owner == order.owner for adoption in services.sessions.adoptions())


def unfinished(services: Services, target: Target) -> Iterator[str]:
    """The purges of the same session or owner that have no receipt yet."""
    for purge in orders.open_orders(services):
        with suppress(PurgeNotFound, DocumentDamaged):  # finished since, or of nobody knows whom: doctor names it
            other = orders.read(services, purge).target
            if (other.session, other.owner) == (target.session, target.owner):
                yield purge
