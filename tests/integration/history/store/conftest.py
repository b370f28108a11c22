"""A store with one shard, so all sessions are in one index."""

from __future__ import annotations

import pytest
import redis

from torpor.history.protocol import (
    SessionStore,
)


@pytest.fixture
def store(client: redis.Redis) -> SessionStore:
    store = SessionStore(client, shards=1)
    assert store.deployment.keyspace.shards == 1
    return store
