"""Four shards."""

from __future__ import annotations

import pytest
import redis

from torpor.history.protocol import (
    SessionStore,
)


@pytest.fixture
def sessions(client: redis.Redis) -> SessionStore:
    return SessionStore(client, shards=4)
