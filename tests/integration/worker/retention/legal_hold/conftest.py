"""Four shards, and an archive that enforces holds."""

from __future__ import annotations

import pytest
import redis

from torpor.history.protocol import (
    SessionStore,
)


@pytest.fixture
def archive_url(request: pytest.FixtureRequest, archive_url: str) -> str:
    """An empty archive that enforces holds."""
    if archive_url.startswith("gs://"):
        request.getfixturevalue("proxy")
    return archive_url


@pytest.fixture
def sessions(client: redis.Redis) -> SessionStore:
    return SessionStore(client, shards=4)
