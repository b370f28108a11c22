"""Four shards, and no failpoint armed afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from torpor.history.protocol import (
    SessionStore,
)
from torpor.worker import failpoints


@pytest.fixture
def sessions(client: redis.Redis) -> SessionStore:
    return SessionStore(client, shards=4)


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.arm()
