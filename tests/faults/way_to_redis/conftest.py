"""A server of its own, a proxy before it, and services that go through the proxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.faulty_redis import NO_RETRY, services_at
from support.redis_proxy import Proxy
from support.servers import RedisServer, start_redis
from torpor.worker.deployment.services import Services


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pages in each direction for a few messages."""
    monkeypatch.setattr("torpor.history.store.reading.PAGE_BYTES", 100)
    monkeypatch.setattr("torpor.worker.archive.lines._READ_BYTES", 350)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    started = start_redis(tmp_path_factory.mktemp("redis"))
    yield started
    started.stop()


@pytest.fixture
def direct(server: RedisServer, scratch: Path) -> Services:
    """Services without faults, on an empty Redis and an empty archive."""
    services = services_at(server.url, scratch / "archive")
    services.sessions.client.flushall()
    services.sessions.load_scripts()
    return services


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with Proxy(server.port) as started:
        yield started


@pytest.fixture
def through(proxy: Proxy, direct: Services, scratch: Path) -> Services:
    """The same services through the proxy."""
    return services_at(proxy.url, scratch / "archive", Retry(NoBackoff(), 5))


@pytest.fixture
def _nothing_resent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torpor sends nothing again."""
    monkeypatch.setattr("torpor.history.clients.resending.PAUSES_SECONDS", ())


@pytest.fixture
def unretried(proxy: Proxy, direct: Services, scratch: Path, _nothing_resent: None) -> Services:
    """The same services through the proxy, with nothing that sends a command again: neither the client nor Torpor."""
    return services_at(proxy.url, scratch / "archive", NO_RETRY)
