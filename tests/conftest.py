"""Fixtures of every test: a Redis server, the Cloud Storage emulator, archives, and the services over them."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import redis

from support.clusters import start_cluster
from support.command import Torpor, command
from support.compressing import compress_everything
from support.emulator import new_bucket, storage_emulator
from support.identity import bind
from support.servers import KIND, KINDS, RedisServer, as_memorystore_allows, start_redis
from support.storage_proxy import StorageProxy
from support.waiting import scaled, wait_until
from support.watched_clients import WatchedRedis
from torpor.history.protocol import SessionStore
from torpor.worker import failpoints
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import Settings

# Slow generation of values says that the machine is busy, not that a test is wrong.
hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-tables", action="store_true", help="Write the tables that tests see into the docs.")
    parser.addoption("--compression", action="store_true", help="Have deployments compress their messages.")
    parser.addoption("--server", choices=KINDS, default="redis", help="The kind of server that has the sessions.")


def pytest_configure(config: pytest.Config) -> None:
    os.environ[KIND] = config.getoption("--server")
    if config.getoption("--compression"):
        compress_everything()
    config.addinivalue_line("markers", "slow: takes seconds, for its processes or its size; `make slow` runs it")
    config.addinivalue_line("markers", "every_server: slow, but `make versions` runs it")
    config.addinivalue_line("markers", "single_node: needs a feature that a Cluster does not have")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--server") == "cluster":
        for item in items:
            for mark in item.iter_markers("single_node"):
                item.add_marker(pytest.mark.skip(reason=f"not on a Cluster: {mark.kwargs['reason']}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many pairs of faults were tried; see tests/pairs."""
    reports = [
        each for reports in terminalreporter.stats.values() for each in reports if getattr(each, "when", "") == "call"
    ]
    tried = [
        value for report in reports for name, value in getattr(report, "user_properties", ()) if name == "fault_pairs"
    ]
    if tried:
        cases, met_both = map(sum, zip(*tried, strict=True))
        terminalreporter.write_line(f"pairs of faults: {cases:,} cases, of which {met_both:,} met both")


@pytest.hookimpl(tryfirst=True, wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Give tests with real servers more time on a busy machine, before pytest-timeout reads their time-outs."""
    if "redis_server" in getattr(item, "fixturenames", ()):
        own = item.get_closest_marker("timeout")
        seconds = float(own.args[0] if own else item.config.getini("timeout"))
        item.add_marker(pytest.mark.timeout(scaled(seconds)), append=False)
    return (yield)


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The server that has the sessions, of the kind that `--server` names."""
    folder = tmp_path_factory.mktemp("redis")
    kind = request.config.getoption("--server")
    server: RedisServer = start_cluster(folder) if kind == "cluster" else start_redis(folder)
    with server.client() as admin:
        # A session that seems as old as the server costs the worker another listing.
        wait_until(lambda: SessionStore(admin).rewound_before() < time.time() * 1_000_000 - 1_000_000)
    yield as_memorystore_allows(server) if kind == "acl" else server
    server.stop()


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of an empty Redis. A test may leave sessions behind, but no staging lists."""
    with redis_server.client() as connected:
        connected.flushall()
        yield connected
        leaked = list(connected.scan_iter(b"*:r:*"))
        connected.flushall()
        assert not leaked, f"a restore left its staging lists: {leaked}"


@pytest.fixture
def watched(client: redis.Redis, redis_server: RedisServer) -> Iterator[WatchedRedis]:
    """A watched client of the same, empty Redis."""
    with redis_server.watched() as connected:
        yield connected


@pytest.fixture
def sessions(client: redis.Redis) -> SessionStore:
    return SessionStore(client)


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a running fake-gcs-server."""
    with storage_emulator(tmp_path_factory.mktemp("gcs")) as url:
        yield url


@pytest.fixture
def bucket(emulator: str) -> str:
    """A fresh bucket."""
    return new_bucket(emulator)


@pytest.fixture
def proxy(emulator: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageProxy]:
    """A proxy between the client and the emulator, which notes requests and makes some fail."""
    with StorageProxy(emulator).running() as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        yield running


@pytest.fixture
def scratch() -> Iterator[Path]:
    """An empty folder, in memory if the machine has such a file system: fsync costs nothing there."""
    in_memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=in_memory if in_memory.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture(params=["folder", "gcs"])
def archive_url(request: pytest.FixtureRequest, scratch: Path) -> str:
    """An empty archive, in a folder and in a bucket of the emulator."""
    if request.param == "folder":
        return (scratch / "archive").as_uri()
    return f"gs://{request.getfixturevalue('bucket')}/chats"


@pytest.fixture
def as_in_cloud_storage(request: pytest.FixtureRequest, archive_url: str) -> None:
    """Preconditions, holds and the removal of metadata, which the emulator lacks."""
    if archive_url.startswith("gs://"):
        request.getfixturevalue("proxy")


@pytest.fixture
def archive(archive_url: str) -> ArchiveStore:
    return open_archive(archive_url)


@pytest.fixture
def unused(redis_server: RedisServer, sessions: SessionStore, archive: ArchiveStore) -> Services:
    """A deployment that nobody has used yet."""
    settings = Settings(**redis_server.settings, archive_url=archive.url, lease_seconds=30)
    return Services(settings, sessions, archive)


@pytest.fixture
def services(unused: Services) -> Services:
    """A deployment of Redis and the archive."""
    bind(unused)
    return unused


@pytest.fixture
def variables(services: Services, redis_server: RedisServer) -> dict[str, str]:
    """The settings by which the command finds the services, without the prefix of each name."""
    return {"ARCHIVE_URL": services.archive.url} | {
        name.upper(): str(value) for name, value in redis_server.settings.items()
    }


@pytest.fixture
def torpor(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Torpor:
    """The command, run in this process."""
    return command(variables, monkeypatch, capfd)


@pytest.fixture(autouse=True)
def _closed_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reset the circuit breaker, which one test's archive may have set, before the next test."""
    monkeypatch.setattr("torpor.worker.sleep.breaker._open", threading.Event())


@pytest.fixture(autouse=True)
def _disarmed_failpoints() -> Iterator[None]:
    """Disarm the failpoints after each test."""
    yield
    failpoints.arm()
