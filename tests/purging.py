"""A purge of one session, as `torpor purge --session` orders it."""

from __future__ import annotations

from torpor.worker.deployment.services import Services
from torpor.worker.erasure.orders import Order
from torpor.worker.erasure.purge import purge
from torpor.worker.erasure.receipts import Standing


def purge_session(services: Services, session_id: str) -> Standing:
    return purge(services, Order(session=session_id))
