"""One shard, and a retention of a month."""

from __future__ import annotations

import pytest
import redis

from support.retained import MONTH_SECONDS
from support.sessions import with_settings
from torpor.history.protocol import SessionStore
from torpor.worker.deployment.services import Services


@pytest.fixture
def sessions(client: redis.Redis) -> SessionStore:
    """Few shards, so that a sweep over all of them costs little."""
    return SessionStore(client, shards=4)


@pytest.fixture
def monthly(services: Services) -> Services:
    """A deployment that keeps archives for thirty days."""
    return with_settings(services, archive_retention_seconds=MONTH_SECONDS)
