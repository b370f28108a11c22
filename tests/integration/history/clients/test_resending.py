"""What Torpor does beyond a client's own retries: it sends a call again, and it waits for a free connection."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from support.client_kinds import Kind
from support.clusters import ClusterServer, start_cluster
from support.redis_proxy import Fault, Proxy
from support.servers import RedisServer, start_redis
from torpor import AsyncSessionStore
from torpor.history.clients.connect import connect
from torpor.history.protocol import RedisUnavailable, SessionStore
from torpor.history.store import SessionOperations
from torpor.history.store.runner import Runner

pytestmark = [pytest.mark.slow, pytest.mark.single_node(reason="these tests start servers of every kind themselves")]

TURNS = 300
KINDS = [Kind(package, "node", asynchronous) for package in ("redis", "valkey") for asynchronous in (False, True)]
Act = Callable[[SessionOperations], Awaitable[Any]]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = start_redis(tmp_path_factory.mktemp("node"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterServer]:
    server = start_cluster(tmp_path_factory.mktemp("cluster"))
    yield server
    server.stop()


@pytest.fixture(params=["node", "cluster"])
def server(request: pytest.FixtureRequest) -> RedisServer:
    started: RedisServer = request.getfixturevalue(request.param)
    with started.client() as admin:
        admin.flushall()
    return started


# A reply that is lost


def retries(kind: Kind, count: int) -> Any:
    made = kind.module("retry", asynchronous=kind.asynchronous).Retry
    return made(kind.module("backoff").NoBackoff(), count)


@pytest.mark.parametrize("lost", [1, 3])
@pytest.mark.parametrize("own", [None, 0, 1], ids=["default", "none", "one"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_turn_whose_reply_is_lost_is_written_once_whatever_the_client_retries(
    node: RedisServer, kind: Kind, own: int | None, lost: int
) -> None:
    options = {} if own is None else {"retry": retries(kind, own)}
    faults = [Fault.LOSE_REPLY] * lost

    async def say() -> None:
        with Proxy(node.port) as proxy:
            made = kind.module("client", asynchronous=kind.asynchronous)
            client = getattr(made, kind.package.capitalize()).from_url(proxy.url, **options)
            store = operations(client)
            await store.append("s", [b'{"said":"one"}'])
            proxy.plan = lambda name: faults.pop() if name == "append" and faults else None
            await store.append("s", [b'{"said":"two"}'])
            await closed(client, asynchronous=kind.asynchronous)

    with node.client() as admin:
        admin.flushall()
        asyncio.run(say())
        assert not faults
        assert SessionStore(admin).messages("s") == [b'{"said":"one"}', b'{"said":"two"}']


def test_a_server_that_stays_away_is_given_up(node: RedisServer) -> None:
    with Proxy(node.port) as proxy, Kind("redis", "node", asynchronous=False).client(proxy.port, retry=None) as client:
        store = SessionStore(client)
        store.append("s", [b"{}"])
        proxy.plan = lambda _: Fault.CUT_BEFORE
        proxy.commands.clear()
        with pytest.raises(RedisUnavailable):
            store.append("s", [b"{}"])
        assert proxy.commands == ["append"] * 6
        proxy.commands.clear()
        with pytest.raises(RedisUnavailable):
            SessionStore(client, resends=False).append("s", [b"{}"])
        assert proxy.commands == ["append"]


# More turns at once than connections


@pytest.mark.parametrize("many", [False, True], ids=["own client", "connect"])
def test_of_many_turns_at_once_in_threads_each_is_kept(server: RedisServer, *, many: bool) -> None:
    client = limited(server, many=many, asynchronous=False)
    store = SessionStore(client)
    with ThreadPoolExecutor(TURNS) as threads:
        barrier = threading.Barrier(TURNS)

        def say(number: int) -> int:
            barrier.wait()
            return store.append(f"s{number}", [b"{}"])

        assert list(threads.map(say, range(TURNS))) == [1] * TURNS
    found = store.infos([f"s{number}" for number in range(TURNS)])
    assert [info.message_count for info in found] == [1] * TURNS  # type: ignore[union-attr]
    client.close()


@pytest.mark.parametrize("many", [False, True], ids=["own client", "connect"])
def test_of_many_turns_at_once_in_tasks_each_is_kept(server: RedisServer, *, many: bool) -> None:
    async def say() -> list[int]:
        client = limited(server, many=many, asynchronous=True)
        store = AsyncSessionStore(client)
        kept = await asyncio.gather(*(store.append(f"s{number}", [b"{}"]) for number in range(TURNS)))
        await client.aclose()
        return kept

    assert asyncio.run(say()) == [1] * TURNS


def limited(server: RedisServer, *, many: bool, asynchronous: bool) -> Any:
    """A client of fewer connections than turns: of `connect`, or of the application itself with only five."""
    if many:
        options: dict[str, Any] = {"cluster": isinstance(server, ClusterServer), "asynchronous": asynchronous}
        return connect(server.url, **options)
    return (server.asyncio_client if asynchronous else server.client)(max_connections=5)


def test_pipelines_wait_for_a_free_connection_too(server: RedisServer) -> None:
    client = server.client(max_connections=2)
    store = SessionStore(client)
    store.append("s", [b"{}"])
    with ThreadPoolExecutor(40) as threads:
        found = list(threads.map(lambda _: store.infos(["s", "t"]), range(400)))
    assert all(first.message_count == 1 and second is None for first, second in found)  # type: ignore[union-attr]
    client.close()


# A Cluster's node that is away for a moment


@contextmanager
def away(node: RedisServer, seconds: float) -> Iterator[None]:
    """The node's process does nothing for a while."""
    node.process.send_signal(signal.SIGSTOP)
    back = threading.Timer(seconds, node.process.send_signal, [signal.SIGCONT])
    back.start()
    try:
        yield
    finally:
        back.join()


ACTS: dict[str, Act] = {
    "append": lambda store: store.append("s", [b"{}"]),
    "read": lambda store: store.transcript("s", 0, None, touch=True),
    "clear": lambda store: store.clear("s"),
    "hold": lambda store: store.hold("s", "why"),
    "update": lambda store: store.close("s"),
}


@pytest.mark.parametrize("asynchronous", [False, True], ids=["blocking", "asyncio"])
@pytest.mark.parametrize("act", ACTS)
def test_a_node_of_a_cluster_that_is_away_for_a_moment_delays_a_call(
    cluster: ClusterServer, act: str, *, asynchronous: bool
) -> None:
    async def call() -> None:
        client = connect_cluster(cluster, asynchronous=asynchronous)
        store = operations(client)
        await store.append("s", [b"{}"])
        with away(node_of(cluster, "s"), 0.3):
            await ACTS[act](store)
        await closed(client, asynchronous=asynchronous)

    with cluster.client() as admin:
        admin.flushall()
    asyncio.run(call())


def test_a_node_of_a_cluster_that_is_away_for_a_moment_delays_a_pipeline(cluster: ClusterServer) -> None:
    client = connect_cluster(cluster, asynchronous=False)
    store = SessionStore(client)
    sessions = [os.urandom(4).hex() for _ in range(20)]
    for session in sessions:
        store.append(session, [b"{}"])
    with away(node_of(cluster, sessions[0]), 0.3):
        assert all(info.message_count == 1 for info in store.infos(sessions))  # type: ignore[union-attr]
    client.close()


def test_a_blocking_client_of_a_cluster_can_be_made_while_its_node_is_away(cluster: ClusterServer) -> None:
    with away(cluster.nodes[0], 0.3):
        connect_cluster(cluster, asynchronous=False).close()


def connect_cluster(cluster: ClusterServer, *, asynchronous: bool) -> Any:
    # The time-out is short, so that redis-py's own six tries are over while the node is away.
    options: dict[str, Any] = {"cluster": True, "asynchronous": asynchronous, "socket_timeout": 0.02}
    return connect(cluster.url, **options)


def node_of(cluster: ClusterServer, session_id: str) -> RedisServer:
    with cluster.client() as admin:
        keyspace = SessionStore(admin).deployment.keyspace
        key = keyspace.shard(keyspace.shard_of(session_id.encode())).due
        port = admin.get_node_from_key(key).port
    return next(node for node in cluster.nodes if node.port == port)


# Both kinds of client


def operations(client: Any) -> SessionOperations:
    """The operations of an application on any client."""
    return SessionOperations(Runner(client))


async def closed(client: Any, *, asynchronous: bool) -> None:
    if asynchronous:
        await client.aclose()
    else:
        client.close()
