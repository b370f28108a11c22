"""A purge of one session, as `torpor purge --session` orders it."""

from __future__ import annotations

from worker.orders import Order
from worker.purge import purge
from worker.receipts import Standing
from worker.services import Services


def purge_session(services: Services, session_id: str) -> Standing:
    return purge(services, Order(session=session_id))
