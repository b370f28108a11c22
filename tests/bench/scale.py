"""Measures how a three-node Cluster with up to ten million sessions is swept, drained and woken.

    python tests/bench/scale.py --sessions 100000 1000000 10000000          make scale-bench

The sessions are small, of one message each, and are written by a script of this file as an application's first message
leaves them; 10,000,000 need about 6 GiB. At each size the same work is measured: a sweep with nothing due, a sweep and
a claim of 1,000 due sessions, and four workers that archive --archived sessions to an emulator 20 ms away and
wake them up. Cluster and bucket are new ones each time, because the emulator slows down with the objects in it. Redis's
CPU is that of its three processes (INFO cpu).
"""

# ruff: noqa: T201 - a program prints its results

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

from bench.delayed import delayed
from support.clusters import ClusterServer, start_cluster
from support.compose import deployment_of, image
from support.emulator import new_bucket, storage_emulator
from support.waiting import wait_until
from torpor.worker.app import app
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import environment

WORKERS, LATENCY, ROUNDS, CLAIMED = 4, 0.020, 7, 1_000
LEASE = timedelta(minutes=5)
_AT_ONCE = 2_000
# KEYS[1] the due index; ARGV: what stands before the id in the two other keys, now (ms), the message, ids.
_WRITE = """
for number = 5, #ARGV do
  redis.call('RPUSH', ARGV[1] .. ARGV[number], ARGV[4])
  redis.call('HSET', ARGV[2] .. ARGV[number], 'epoch', ARGV[3] .. '000', 'active', ARGV[3])
  redis.call('ZADD', KEYS[1], ARGV[3] + 864000000 + number, ARGV[number])
end
"""
_MESSAGE = b'{"type":"human","data":{"content":"Where is my order?"}}'
_HEAD = (
    "sessions",
    "Redis, bytes a session",
    "empty sweep, ms",
    "its Redis CPU, ms",
    "sweep and claim of 1,000, ms",
    "archived a second",
    "Redis CPU for each, µs",
    "woken a second",
)


@dataclass
class Fleet:
    """A deployment on a Cluster, with sessions that are due in ten days."""

    server: ClusterServer
    services: Services
    written: int = 0

    def fill(self, sessions: int) -> None:
        """Write sessions until there are so many."""
        keyspace, write = self.services.sessions.deployment.keyspace, self._script()
        for first in range(self.written, sessions, 256 * _AT_ONCE):
            shares: dict[int, list[bytes]] = {}
            for session in self.ids(first, min(first + 256 * _AT_ONCE, sessions)):
                shares.setdefault(keyspace.shard_of(session), []).append(session)
            now = round(time.time() * 1_000)
            for number, ids in shares.items():
                shard = keyspace.shard(number)
                for at in range(0, len(ids), _AT_ONCE):
                    some = ids[at : at + _AT_ONCE]
                    write(keys=[shard.due], args=[shard.messages(b""), shard.metadata(b""), now, _MESSAGE, *some])
        self.written = sessions

    def _script(self) -> Any:
        return self.services.sessions.client.register_script(_WRITE)

    @staticmethod
    def ids(first: int, end: int) -> list[bytes]:
        return [b"session-%08d" % number for number in range(first, end)]

    def make_due(self, sessions: Sequence[bytes]) -> None:
        keyspace, moment = self.services.sessions.deployment.keyspace, time.time() * 1_000 - 60_000
        pipeline = self.services.sessions.client.pipeline()
        for session in sessions:
            pipeline.zadd(keyspace.of(session).due, {session: int(moment)})
        pipeline.execute()

    def of_nodes(self, section: str, *names: str) -> float:
        """The sum of some figures of INFO over all nodes."""
        found = 0.0
        for node in self.server.nodes:
            with node.client() as client:
                told: dict[str, Any] = client.info(section)
                found += sum(float(told[name]) for name in names)
        return found

    def cpu_ms(self) -> float:
        return 1_000 * self.of_nodes("cpu", "used_cpu_user", "used_cpu_sys")

    def empty_sweep(self) -> tuple[float, float]:
        """Milliseconds of a sweep with nothing due, and Redis's CPU of it."""
        before = self.cpu_ms()
        taken = median_ms(lambda: self._assert_due(0))
        return taken, (self.cpu_ms() - before) / ROUNDS

    def _assert_due(self, expected: int) -> None:
        assert sum(self.services.sessions.due_counts().values()) == expected

    def claim(self) -> float:
        """Milliseconds of a sweep that finds 1,000 due sessions, and of their claim."""

        def seconds() -> float:
            self.make_due(self.ids(0, CLAIMED))
            began = time.perf_counter()
            due = self.services.sessions.due_counts()
            leases = self.services.sessions.claim(list(due), max(due.values()), LEASE)
            taken = time.perf_counter() - began
            assert len(leases) == CLAIMED, len(leases)
            return taken

        taken = 1_000 * statistics.median(seconds() for _ in range(ROUNDS))
        keyspace, far = self.services.sessions.deployment.keyspace, round(time.time() * 1_000) + 864_000_000
        pipeline = self.services.sessions.client.pipeline()
        for session in self.ids(0, CLAIMED):
            pipeline.zadd(keyspace.of(session).due, {session: far})
        pipeline.execute()
        return taken

    def sleep_and_wake(self, count: int) -> tuple[float, float, float]:
        """By the workers: archived and woken a second, and Redis's CPU for an archived session (µs)."""
        sessions = self.ids(self.written - count, self.written)
        asleep, woken = self.counted("archived"), self.counted("restored")
        self.make_due(sessions)
        before, began = self.cpu_ms(), time.perf_counter()
        app.send_task("torpor.sweep")
        until(lambda: self.counted("archived") == asleep + count)
        slept, spent = time.perf_counter() - began, self.cpu_ms() - before
        began = time.perf_counter()
        for session in sessions:
            app.send_task("torpor.restore_session", (session.decode(),))
        until(lambda: self.counted("restored") == woken + count)
        return count / slept, count / (time.perf_counter() - began), 1_000 * spent / count

    def counted(self, what: str) -> int:
        """What the shards have counted since the beginning. An overview would look at thousands of sessions."""
        return self.services.sessions.figures().counts[what]


def until(done: Callable[[], bool]) -> None:
    """Look twice a second, because a look costs Redis something."""
    while not done():
        time.sleep(0.5)


def median_ms(act: Callable[[], object]) -> float:
    def seconds() -> float:
        began = time.perf_counter()
        act()
        return time.perf_counter() - began

    return 1_000 * statistics.median(seconds() for _ in range(ROUNDS))


@contextmanager
def workers(services: Services, folder: Path) -> Iterator[None]:
    """Four workers, each with four tasks at a time, and eight sessions in each."""
    with ExitStack() as running:
        for number in range(WORKERS):
            place = folder / f"worker-{number}"
            place.mkdir()
            running.enter_context(image("worker", services, place, "-c", "4", "-n", f"worker-{number}@%h"))
        wait_until(lambda: seen(services) == WORKERS, 120, "all workers are there")
        yield


def seen(services: Services) -> int:
    return sum(name.startswith("seen:worker:") for name in services.sessions.measures().seen)


def measure(folder: Path, emulator: str, sessions: int, count: int) -> str:
    """A row of the table, of a Cluster and a bucket of its own."""
    server = start_cluster(folder)
    try:
        services = deployment_of(
            server, f"gs://{new_bucket(emulator)}/chats", idle_timeout_seconds=864_000, concurrency=8
        )
        fleet = Fleet(server, services)
        empty = fleet.of_nodes("memory", "used_memory")
        fleet.fill(sessions)
        each = (fleet.of_nodes("memory", "used_memory") - empty) / sessions
        sweep, sweep_cpu = fleet.empty_sweep()
        claim = fleet.claim()
        with patch.dict(os.environ, environment(services.settings)), workers(services, folder):
            slept, woken, cpu = fleet.sleep_and_wake(count)
    finally:
        server.stop()
    return (
        f"| {sessions:,} | {each:,.0f} | {sweep:.1f} | {sweep_cpu:.1f} | {claim:.1f} | {slept:,.0f} | {cpu:,.0f} "
        f"| {woken:,.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Many sessions on a three-node Cluster.")
    parser.add_argument("--sessions", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--archived", type=int, default=4_000, help="sessions that are archived and woken at each size")
    given = parser.parse_args()
    print(f"| {' | '.join(_HEAD)} |\n|{' --- |' * len(_HEAD)}", flush=True)
    with tempfile.TemporaryDirectory() as name, storage_emulator(Path(name)) as emulator, ExitStack() as distant:
        port = distant.enter_context(delayed(Path(name), int(emulator.rpartition(":")[2]), LATENCY))
        distant.enter_context(patch.dict(os.environ, STORAGE_EMULATOR_HOST=f"http://127.0.0.1:{port}"))
        # A process for each size, because Celery's app keeps the connections to its first broker.
        apart = distant.enter_context(ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1))
        for sessions in given.sessions:
            folder = Path(name) / str(sessions)
            folder.mkdir()
            print(apart.submit(measure, folder, emulator, sessions, given.archived).result(), flush=True)


if __name__ == "__main__":
    main()
