"""Every kind of client that an application may have, and a chat history with the same methods for all of them."""

from __future__ import annotations

import asyncio
import importlib
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import redis
import redis.sentinel
from langchain_core.messages import BaseMessage

from support.clusters import ClusterServer, start_cluster
from support.ports import free_port
from support.servers import RedisServer, server_binary, start_redis
from support.waiting import wait_until
from torpor import MemorystoreChatMessageHistory

REPLIES = [{"decode_responses": decode, "protocol": protocol} for decode in (False, True) for protocol in (2, 3)]


@dataclass(frozen=True)
class Kind:
    """A kind of client: its package, its kind of server, blocking or of asyncio."""

    package: str
    place: str
    asynchronous: bool

    def __str__(self) -> str:
        return f"{self.package}{'.asyncio' if self.asynchronous else ''}-{self.place}"

    def module(self, name: str, *, asynchronous: bool = False) -> Any:
        return importlib.import_module(f"{self.package}{'.asyncio' if asynchronous else ''}.{name}")

    def client(self, port: int, **options: Any) -> Any:
        """A client of the server, or the Sentinel, at this port."""
        name = self.package.capitalize()
        if self.place == "sentinel":
            sentinel = self.module("sentinel", asynchronous=self.asynchronous).Sentinel([("127.0.0.1", port)])
            return sentinel.master_for("chats", **options)
        where = {"node": "client", "cluster": "cluster"}[self.place]
        made = getattr(self.module(where, asynchronous=self.asynchronous), name + "Cluster" * (where == "cluster"))
        return made(host="127.0.0.1", port=port, **options)

    @property
    def no_retry(self) -> dict[str, Any]:
        """Options of a client that never tries again."""
        once = self.module("retry", asynchronous=self.asynchronous).Retry(self.module("backoff").NoBackoff(), 0)
        if self.place == "cluster" and self.package == "valkey":
            return {"retry": once, "cluster_error_retry_attempts": 0}
        return {"retry": once}


KINDS = [
    Kind(package, place, asynchronous)
    for package in ("redis", "valkey")
    for place in ("node", "cluster", "sentinel")
    for asynchronous in (False, True)
]

# Each kind once, with the ways to read replies in turn; and each kind with each way.
SOME = list(zip(KINDS, cycle([REPLIES[0], REPLIES[3], REPLIES[1], REPLIES[2], REPLIES[3]]), strict=False))
ALL = [(kind, replies) for kind in KINDS for replies in REPLIES]


@dataclass(frozen=True)
class Place:
    """A server for the clients of one kind of place, which connect to `port`."""

    server: RedisServer
    port: int

    @property
    def nodes(self) -> Sequence[RedisServer]:
        """Each server process that has keys."""
        return self.server.nodes if isinstance(self.server, ClusterServer) else [self.server]


@contextmanager
def started(place: str, folder: Path, *, primaries: int = 3) -> Iterator[Place]:
    """A server of this kind of place."""
    folder.mkdir()
    server: RedisServer = start_cluster(folder, primaries) if place == "cluster" else start_redis(folder)
    try:
        if place == "sentinel":
            with _sentinel(folder, server) as port:
                yield Place(server, port)
        else:
            yield Place(server, server.port)
    finally:
        server.stop()


@contextmanager
def _sentinel(folder: Path, primary: RedisServer) -> Iterator[int]:
    port = free_port()
    configuration = folder / "sentinel.conf"
    configuration.write_text(f"port {port}\ndir {folder}\nsentinel monitor chats 127.0.0.1 {primary.port} 1\n")
    with (folder / "sentinel.log").open("wb") as log:
        process = subprocess.Popen([server_binary(), str(configuration), "--sentinel"], stdout=log, stderr=log)
    sentinel = RedisServer(port, process)
    try:
        wait_until(lambda: _primary_of(port) == primary.port, what="the Sentinel knows the primary")
        yield port
    finally:
        sentinel.stop()


def _primary_of(port: int) -> int | None:
    asked: Any = redis.sentinel.Sentinel(  # type: ignore[no-untyped-call]
        [("127.0.0.1", port)], retry=None
    )
    try:
        return int(asked.discover_master("chats")[1])
    except redis.exceptions.ConnectionError:
        return None
    finally:
        asked.sentinels[0].close()


class Connection:
    """A client, with its event loop if it has one. A client is made, used and closed in the same loop."""

    def __init__(self, kind: Kind, port: int, **options: Any) -> None:
        self.kind = kind
        self._runner = asyncio.Runner() if kind.asynchronous else None
        self.client: Any = self.wait(self._made(port, options))

    async def _made(self, port: int, options: dict[str, Any]) -> Any:
        return self.kind.client(port, **options)

    def wait(self, result: Awaitable[Any]) -> Any:
        """Run a coroutine in the connection's own event loop, and return its result."""

        async def awaited() -> Any:
            return await result

        return self._runner.run(awaited()) if self._runner else asyncio.run(awaited())

    def chat(self, session_id: str = "s", **options: Any) -> Chat:
        return Chat(self, MemorystoreChatMessageHistory(self.client, session_id, **{"owner": "ann"} | options))

    def at_once(self, acts: Sequence[Callable[[], Any]]) -> list[Any]:
        """Run calls at the same time, by tasks of one event loop or by threads; returns their results."""
        if not self._runner:
            with ThreadPoolExecutor(len(acts)) as threads:
                return [each.result() for each in [threads.submit(act) for act in acts]]

        async def gathered() -> list[Any]:
            return list(await asyncio.gather(*(act() for act in acts)))

        return list(self.wait(gathered()))

    def close(self) -> None:
        if self._runner:
            self.wait(self._closed())
            self._runner.close()
        else:
            self.client.close()
            for each in self._sentinels():
                each.close()

    async def _closed(self) -> None:
        await self.client.aclose()
        for each in self._sentinels():
            await each.aclose()

    def _sentinels(self) -> list[Any]:
        if self.kind.place != "sentinel":
            return []
        return list(self.client.connection_pool.sentinel_manager.sentinels)


class Chat:
    """A history whose operations have their blocking names with every kind of client."""

    def __init__(self, connection: Connection, history: MemorystoreChatMessageHistory) -> None:
        self.history = history
        self._connection = connection

    def act(self, name: str, *args: Any, **options: Any) -> Any:
        """The operation: its result, or a coroutine."""
        if self._connection.kind.asynchronous:
            return getattr(self.history, f"a{name}")(*args, **options)
        return getattr(self.history, name)(*args, **options)

    def __getattr__(self, name: str) -> Any:
        def called(*args: Any, **options: Any) -> Any:
            result = self.act(name, *args, **options)
            return self._connection.wait(result) if self._connection.kind.asynchronous else result

        return called

    @property
    def messages(self) -> list[BaseMessage]:
        if self._connection.kind.asynchronous:
            return list(self._connection.wait(self.history.aget_messages()))
        return self.history.messages

    def __len__(self) -> int:
        if self._connection.kind.asynchronous:
            return int(self._connection.wait(self.history.alen()))
        return len(self.history)

    def pages(self, size: int, **options: Any) -> list[list[BaseMessage]]:
        if not self._connection.kind.asynchronous:
            return list(self.history.pages(size, **options))

        async def collected() -> list[list[BaseMessage]]:
            return [page async for page in self.history.apages(size, **options)]

        return list(self._connection.wait(collected()))
