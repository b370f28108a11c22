"""One shard, and pages of a few messages."""

from __future__ import annotations

import pytest
import redis

from torpor.history.protocol import (
    SessionStore,
)


@pytest.fixture
def sessions(client: redis.Redis) -> SessionStore:
    """Few shards, so that a sweep over all of them costs little."""
    return SessionStore(client, shards=4)


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torpor.worker.archive.lines._READ_BYTES", 250)  # three messages
