"""Four shards, an archive that enforces holds, and no failpoint armed afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from support.held import Holder
from support.storage_proxy import StorageProxy
from torpor.history.protocol import (
    SessionStore,
)
from torpor.worker import failpoints


@pytest.fixture
def archive_url(request: pytest.FixtureRequest, archive_url: str) -> str:
    """An empty archive that heeds holds."""
    if archive_url.startswith("gs://"):
        proxy: StorageProxy = request.getfixturevalue("proxy")
        proxy.fail(Holder().act)
    return archive_url


@pytest.fixture
def sessions(client: redis.Redis) -> SessionStore:
    return SessionStore(client, shards=4)


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.arm()
