"""Measures finding and claiming due sessions, among few sessions and among many."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from typing import Any

import redis

from bench.harness import Bench, Reach, Row, Side, Sides
from torpor.history.keys import Keyspace
from torpor.history.protocol import SessionStore

DUE = 1_000
SHARDS = 256
LEASE = timedelta(minutes=5)
_SCANNED = 100_000
_LOADED_AT_ONCE = 2_000
_REPEATED = 7

# A session of one message, its metadata and its place in the index, as append leaves them.
_LOAD = """
for number = 4, #ARGV do
  redis.call('RPUSH', ARGV[1] .. ARGV[number], '{"type":"human","data":{"content":"x"}}')
  redis.call('HSET', ARGV[2] .. ARGV[number], 'epoch', ARGV[3] .. '000', 'active', ARGV[3])
  redis.call('ZADD', KEYS[1], ARGV[3] + 86400000 + number, ARGV[number])
end
"""

_COUNT = """
local due = 0
for _, key in ipairs(KEYS) do due = due + redis.call('ZCOUNT', key, '-inf', 0) end
return due
"""


class Index:
    """A deployment with `sessions` sessions; 1,000 of them can be made due."""

    def __init__(self, bench: Bench, client: redis.Redis, namespace: str, sessions: int) -> None:
        self._bench = bench
        self._client = client
        self._keyspace = Keyspace(namespace, SHARDS)
        self._shards = self._shared_out(f"session-{number:08}".encode() for number in range(sessions))
        self._due = self._shared_out(f"session-{number:08}".encode() for number in range(DUE))
        self.sessions = SessionStore(client, namespace=namespace, shards=SHARDS)
        self.sessions.configure(idle=timedelta(days=1), max_age=None)  # as a worker does when it starts
        self._load()

    def milliseconds_to_claim(self) -> float:
        """One `due_counts` over all shards, and one `claim` of the sessions that it has found."""

        def seconds() -> float:
            self._set_due(time.time() * 1_000 - 60_000)
            return self._bench.clock.seconds(self._claim)

        return _median_ms(seconds)

    def milliseconds_to_sweep(self) -> float:
        """`due_counts` when nothing is due."""
        return _median_ms(lambda: self._bench.clock.seconds(self._sweep))

    def _claim(self) -> None:
        due = self.sessions.due_counts()
        leases = self.sessions.claim(list(due), max(due.values()), LEASE)
        assert len(leases) == sum(due.values()) == DUE

    def _sweep(self) -> None:
        assert not self.sessions.due_counts()

    def _shared_out(self, sessions: Iterator[bytes]) -> dict[int, list[bytes]]:
        shares: dict[int, list[bytes]] = {}
        for session in sessions:
            shares.setdefault(self._keyspace.shard_of(session), []).append(session)
        return shares

    def _set_due(self, moment: float) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for shard, sessions in self._due.items():
            pipeline.zadd(self._keyspace.shard(shard).due, dict.fromkeys(sessions, moment))
        pipeline.execute()

    def _load(self) -> None:
        load: Any = self._client.register_script(_LOAD)
        for number, sessions in self._shards.items():
            shard = self._keyspace.shard(number)
            waiting = iter(sessions)
            while some := list(islice(waiting, _LOADED_AT_ONCE)):
                moment = int(time.time() * 1_000)
                load(keys=[shard.due], args=[shard.messages(b""), shard.metadata(b""), moment, *some])


def _median_ms(seconds: Callable[[], float]) -> float:
    """The median of some repetitions, because one is too short beside the other work of the machine."""
    return statistics.median(seconds() for _ in range(_REPEATED)) * 1_000


@contextmanager
def claims(bench: Bench) -> Iterator[Sides]:
    """A million sessions beside ten thousand, in one Redis."""
    million = bench.size(1_000_000, 50_000)
    with bench.client() as client:
        few = Index(bench, client, "few", 10_000)
        many = Index(bench, client, "many", million)

        def milliseconds_to_scan() -> float:
            return bench.clock.seconds(lambda: _scan(client, _SCANNED)) * 1_000 * million / _SCANNED

        yield Sides(many.milliseconds_to_claim, milliseconds_to_scan, few.milliseconds_to_claim)


def _scan(client: redis.Redis, keys: int) -> None:
    """Walk `keys` keys like a script without an index: the TTL of each key shows how long it has been idle."""
    walked = 0
    cursor = 0
    while walked < keys:
        reply: Any = client.scan(cursor, count=1_000)
        cursor, names = reply
        pipeline = client.pipeline(transaction=False)
        for name in names:
            pipeline.pttl(name)
        pipeline.execute()
        walked += len(names)
        assert cursor or walked >= keys


@contextmanager
def sweeps(bench: Bench) -> Iterator[Sides]:
    """All shards have sessions, and none is due."""
    with bench.client() as client, bench.server.watched() as watched:
        index = Index(bench, client, "few", 10_000)
        SessionStore(watched, namespace="few").due_counts()
        watched.commands.clear()
        SessionStore(watched, namespace="few").due_counts()
        assert watched.commands == ["a pipeline"], watched.commands
        keyspace = Keyspace("few", SHARDS)

        count_all: Any = client.register_script(_COUNT)
        keys = [keyspace.shard(shard).due for shard in range(SHARDS)]

        def count() -> None:
            assert not count_all(keys=keys)

        yield Sides(index.milliseconds_to_sweep, floor=lambda: _median_ms(lambda: bench.clock.seconds(count)))


ROWS = [
    Row(
        "claim",
        "find and claim 1,000 due of 1,000,000 sessions",
        "ms",
        claims,
        [Reach(1.5, Side.FLOOR), Reach(8), Reach(0.01, Side.PEER)],
        "a sweep's `due_counts` over 256 shards and one `claim` of all that it has found",
        f"SCAN with COUNT 1000 and a PTTL for each key, which shows how long it has been idle; {_SCANNED:,} keys are "
        "walked, and their time is taken times 10, for a key space of 1,000,000 keys",
        "ours among 10,000 sessions in the same Redis",
        why="Two pipelines of scripts for 32 shards each. Two thirds of it are Redis's, which looks at 256 sorted sets "
        "that no cache has and moves 1,000 sessions in them; then Python makes 1,000 leases.",
    ),
    Row(
        "sweep",
        "an idle sweep over 256 shards, nothing due",
        "ms",
        sweeps,
        [Reach(4)],
        "`due_counts`: one pipeline, which is checked",
        floor="256 ZCOUNT in one script",
        why="One pipeline of eight scripts, 32 shards each; where the server is a Cluster it is one of 256.",
    ),
]
