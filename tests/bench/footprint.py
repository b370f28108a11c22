"""Measures what a session costs Redis: bytes while it is live, and CPU from its first turn to its archive."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from bench.chats import session_ids, turn
from bench.harness import Bench, Reach, Row, Side, Sides
from bench.rivals import peer_class
from bench.writing import TTL
from support.servers import RedisServer, start_redis
from torpor import MemorystoreChatMessageHistory
from torpor.worker.sleep.drain import drain

TURNS = 5
# So many that a shard's index is a skip list, as in any real deployment; Redis packs smaller ones.
_SHARDS = 8


def _history(client: redis.Redis, session_id: str) -> MemorystoreChatMessageHistory:
    return MemorystoreChatMessageHistory(client, session_id, TTL, owner=f"user-{session_id[:8]}", shards=_SHARDS)


def _peer(client: redis.Redis, session_id: str) -> Any:
    return peer_class()(client, session_id, ttl=TTL)


@contextmanager
def memory(bench: Bench) -> Iterator[Sides]:
    """`used_memory` before and after."""
    sessions = bench.size(2_000, 1_500)
    said = turn()

    with bench.client() as client:

        def write(make: Callable[[redis.Redis, str], Any]) -> None:
            for session_id in session_ids(sessions):
                history = make(client, session_id)
                for _ in range(TURNS):
                    history.add_messages(said)

        def bytes_each(make: Callable[[redis.Redis, str], Any]) -> float:
            make(client, "first").add_messages(said)  # scripts and configuration are there
            before = used_memory(client)
            write(make)
            taken = used_memory(client) - before
            client.flushall()
            return taken / sessions

        def explain() -> list[str]:
            write(_history)
            lines = _bytes_by_kind(client, sessions)
            client.flushall()
            return lines

        yield Sides(lambda: bytes_each(_history), lambda: bytes_each(_peer), explain=explain)


def start_empty(folder: Path) -> RedisServer:
    """A server that has freed its memory when FLUSHALL answers; Valkey 8 does so later by default."""
    return start_redis(folder, "--lazyfree-lazy-user-flush", "no")


def used_memory(client: redis.Redis) -> int:
    """The bytes that Redis has allocated."""
    memory: Any = client.info("memory")
    return int(memory["used_memory"])


def _bytes_by_kind(client: redis.Redis, sessions: int) -> list[str]:
    """The bytes of each kind of key for one session, by MEMORY USAGE; Redis's tables of keys come on top."""
    kinds: Counter[str] = Counter()
    for key in client.scan_iter(count=1_000):
        kind = key.decode().partition("}:")[2].partition(":")[0]
        kinds[kind] += int(client.memory_usage(key, samples=0) or 0)
    names = {"m": "messages", "s": "metadata", "o": "the owner's set", "due": "the index"}
    return [f"{size / sessions:7,.0f} bytes  {names.get(kind, kind or 'config')}" for kind, size in kinds.most_common()]


@contextmanager
def server_cpu(bench: Bench) -> Iterator[Sides]:
    """`used_cpu` before and after."""
    sessions = bench.size(500, 50)
    said = turn()

    with bench.client() as client, tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        services = bench.services((Path(folder) / "archive").as_uri(), shards=_SHARDS)

        def archive(ids: list[str]) -> None:
            for session_id in ids:
                services.sessions.close(session_id)
            outcomes = drain(services, range(_SHARDS))
            assert outcomes == {"archived": sessions}, outcomes

        def microseconds(make: Callable[[redis.Redis, str], Any], end: Callable[[list[str]], object]) -> float:
            ids = session_ids(sessions)
            client.config_resetstat()
            before = _cpu(client)
            for session_id in ids:
                history = make(client, session_id)
                for _ in range(TURNS):
                    assert history.messages is not None
                    history.add_messages(said)
            end(ids)
            taken = _cpu(client) - before
            client.flushall()
            return taken / sessions * 1e6

        def explain() -> list[str]:
            microseconds(_history, archive)
            return _time_by_command(client, sessions)

        yield Sides(
            ours=lambda: microseconds(_history, archive),
            peer=lambda: microseconds(_peer, lambda ids: client.delete(*ids)),
            explain=explain,
        )


def _cpu(client: redis.Redis) -> float:
    """Seconds of CPU, of all threads of the server; https://redis.io/docs/latest/commands/info."""
    cpu: Any = client.info("cpu")
    return float(cpu["used_cpu_user"] + cpu["used_cpu_sys"])


def _time_by_command(client: redis.Redis, sessions: int) -> list[str]:
    """The time of each command in the server, for one session; a script's time includes the commands that it calls."""
    stats: Any = client.info("commandstats")
    taken = sorted(((each["usec"], each["calls"], name) for name, each in stats.items()), reverse=True)[:15]
    return [
        f"{usec / sessions:7.1f} µs {calls / sessions:6.1f} calls  {name.removeprefix('cmdstat_').upper()}"
        for usec, calls, name in taken
    ]


ROWS = [
    Row(
        "bytes",
        "Redis bytes per session of 10 messages",
        "bytes",
        memory,
        [Reach(0.9, Side.PEER)],
        "5 turns of a session with ttl and owner, all keys and the index included: growth of `used_memory`",
        "the same turns by the peer's class with a ttl",
        why="The messages take less than the peer's; metadata, the owner's set and the index, which the peer has not, "
        "take most of that up. The metadata includes the ids of the requests of the last minute, all 5 here, and is "
        "packed up to 6 of them. The owner's set is packed from Redis 7.2 on only.",
        most_rounds=5,
        warm=False,
    ),
    Row(
        "redis-cpu",
        "Redis CPU per session: 5 turns, each read and written, and its end",
        "µs",
        server_cpu,
        (),
        "`.messages` and `add_messages`, 5 times, then the archive: growth of `used_cpu_user` and `used_cpu_sys`",
        "the same by the peer's class, then DEL",
        most_rounds=5,
    ),
]
