"""Purges whose order is in the archive, and that nobody carries out: Redis has lost what it knew of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders
from torpor.worker.erasure.order import Order
from torpor.worker.errors import DocumentDamaged, PurgeNotFound

# A sweep continues an interrupted purge within a minute or so, if workers and beat are running.
_PATIENCE = timedelta(minutes=5)


def find(services: Services) -> Iterator[Order]:
    """The orders of which Redis knows neither that a process carries them out, nor why they failed.

    A worker continues such a purge at its next sweep; no repair does, because a purge destroys. Damaged orders are left
    out.
    """
    latest = services.sessions.now() - _PATIENCE
    for purge in orders.open_orders(services):
        if services.sessions.purge_progress(purge) == (False, None):
            with suppress(PurgeNotFound, DocumentDamaged):  # finished since
                order = orders.read(services, purge)
                if order.requested_at < latest:
                    yield order
