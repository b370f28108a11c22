"""Changes to sessions that the product has no operation for, and short forms."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import redis

from support.keyspace import raw
from torpor.history.protocol import CommitOutcome, Lease, SessionInfo, SessionStore, TorporError
from torpor.worker.deployment.services import Services
from torpor.worker.erasure.order import Order
from torpor.worker.erasure.purge import purge
from torpor.worker.erasure.receipts import Standing


def age(client: redis.Redis, session_id: str, by: timedelta) -> None:
    """Move a session's last activity into the past by the span `by`."""
    [key] = raw(client, "KEYS", f"*:s:{session_id}")
    active = int(raw(client, "HGET", key, "active")) - by // timedelta(milliseconds=1)
    raw(client, "HSET", key, "active", active)


def commit(sessions: SessionStore, lease: Lease, archived: SessionInfo) -> CommitOutcome:
    """The outcome of one commit; raises its error."""
    [outcome] = sessions.commits([(lease, archived)])
    if isinstance(outcome, TorporError):
        raise outcome
    return outcome


def with_settings(services: Services, **settings: Any) -> Services:
    """The same services with other settings."""
    return replace(services, settings=services.settings.model_copy(update=settings))


def purge_session(services: Services, session_id: str) -> Standing:
    """Purge one session, as `torpor purge --session` orders it."""
    return purge(services, Order.of(session=session_id))
