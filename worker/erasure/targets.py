"""Targets: the sessions that a purge order is for."""

from __future__ import annotations

from collections.abc import Iterator

from torpor.worker.deployment import catalog
from torpor.worker.deployment.services import Services
from torpor.worker.erasure.order import Order, Scope


def targets(services: Services, order: Order) -> Iterator[str]:
    """Walk the ids of the order's sessions; deployment.catalog says how.

    The removal checks the idle time of a session in Redis again.
    """
    if order.session is not None:
        return iter([order.session])
    archived = order.scope is not Scope.LIVE
    if order.idle is None:
        assert order.owner is not None, "an order names a session, an owner or an idle time"
        return catalog.owned(services, order.owner, archived=archived)
    since = services.sessions.now() - order.idle
    if order.owner is None:
        return catalog.idle(services, since, archived=archived)
    return catalog.owned_and_idle(services, order.owner, since, archived=archived)
