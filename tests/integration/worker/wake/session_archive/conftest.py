"""Services, connections and watched archives of sessions that wake up when they are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from support.client_kinds import Connection, Kind
from support.observed import Points
from support.servers import RedisServer
from support.waking import services_of, watched
from torpor.history.protocol import SessionStore
from torpor.worker.deployment.services import Services
from torpor.worker.wake.session_archive import SessionArchive


@pytest.fixture
def services(redis_server: RedisServer, sessions: SessionStore, scratch: Path) -> Services:
    return services_of(redis_server, sessions, (scratch / "archive").as_uri())


@pytest.fixture(params=[False, True], ids=["blocking", "asyncio"])
def connection(client: redis.Redis, redis_server: RedisServer, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """An application's client of the same Redis, of either kind."""
    kind = Kind("redis", "cluster" if "redis_cluster" in redis_server.settings else "node", request.param)
    user = {"username": redis_server.user, "password": redis_server.password} if redis_server.user else {}
    connected = Connection(kind, redis_server.port, **user)
    yield connected
    connected.close()


@pytest.fixture
def points() -> Points:
    return Points()


@pytest.fixture
def archive(services: Services, points: Points) -> SessionArchive:
    """An application's archive, with a point before and after each call."""
    return watched(services, points)
