"""Calculates what Torpor costs and saves, from the measured figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.chats import ours, plain
from bench.harness import Result, Side
from torpor.history.ids import DEFAULT_SHARDS, MAX_SHARDS
from torpor.worker.archive.segment import pack
from torpor.worker.sleep.sweep import DRAIN_SESSIONS

SIZES = (1_000_000, 100_000_000, 10_000_000_000)

# Assumptions; the page names them beside the table.
KEPT_DAYS = 30  # how long a user may come back: the TTL that lists in Redis would need
LIVE_HOURS = 1.5  # in Redis: the conversation and an idle timeout of an hour
WOKEN = 0.05  # of the sessions, once
PEAK = 3  # times the mean rate
OBJECTS = 2  # a segment, and the marker of its owner
BUCKET_WRITES = 1_000  # a second, to begin with: https://cloud.google.com/storage/docs/request-rate
LIVE_IN_A_SHARD = 100_000
# redis-highmem-xlarge: https://cloud.google.com/memorystore/docs/cluster/cluster-node-specification
NODE_BYTES = 46.4e9
NODE_LOAD = 0.5  # of one core

GIB = 1024**3
DAY = 86_400


@dataclass(frozen=True)
class Measured:
    """The figures of a run."""

    ours_bytes: float  # in Redis, of a session
    peer_bytes: float
    ours_redis_us: float  # of Redis's CPU, for a session
    peer_redis_us: float
    archive_us: float  # of a worker's CPU, for a session with an owner
    celery_us: float
    uploads: float  # a second, by a process
    sweep_ms: float  # over 256 shards
    segment_bytes: float


@dataclass(frozen=True)
class Load:
    """The figures for a number of sessions a day. Those of Redis and the workers are for the busiest time."""

    measured: Measured
    sessions: int

    @property
    def archived(self) -> float:
        """Archives a day: a session that wakes up is archived twice."""
        return self.sessions * (1 + WOKEN)

    @property
    def mean(self) -> float:
        """Archives a second."""
        return self.archived / DAY

    @property
    def peak(self) -> float:
        """Archives a second, at the busiest time."""
        return self.mean * PEAK

    @property
    def live(self) -> float:
        """Sessions in Redis."""
        return self.peak * LIVE_HOURS * 3600

    @property
    def redis_bytes_alone(self) -> float:
        """Bytes of lists that expire when no user may come back any more."""
        return self.sessions * KEPT_DAYS * self.measured.peer_bytes

    @property
    def redis_bytes(self) -> float:
        """Bytes of the live sessions."""
        return self.live * self.measured.ours_bytes

    @property
    def redis_cores(self) -> float:
        """Cores of Redis, for the turns and for the archive."""
        return self.peak * self.measured.ours_redis_us / 1e6

    @property
    def redis_cores_alone(self) -> float:
        """Likewise, of lists that expire."""
        return self.sessions / DAY * PEAK * self.measured.peer_redis_us / 1e6

    @property
    def nodes(self) -> int:
        """Primaries; each works on one core."""
        return _nodes(self.redis_bytes, self.redis_cores)

    @property
    def nodes_alone(self) -> int:
        """Likewise, of lists that expire."""
        return _nodes(self.redis_bytes_alone, self.redis_cores_alone)

    @property
    def writes(self) -> float:
        """Requests a day that write or list: one for each object, and two listings for each session that wakes up."""
        return self.archived * OBJECTS + self.sessions * WOKEN * 2

    @property
    def reads(self) -> float:
        """Requests a day that read an object."""
        return self.sessions * WOKEN

    @property
    def ramp_minutes(self) -> float:
        """Minutes in which a new bucket gets from its first rate to the peak; the rate doubles every 20 minutes."""
        return 20 * max(0, math.ceil(math.log2(self.peak * OBJECTS / BUCKET_WRITES)))

    @property
    def workers(self) -> int:
        """Processes of 64 threads, if an upload takes 75 ms."""
        return math.ceil(self.peak * OBJECTS / self.measured.uploads)

    @property
    def worker_cores(self) -> float:
        """Cores of all workers."""
        return self.peak * (self.measured.archive_us + self.measured.celery_us) / 1e6

    @property
    def shards(self) -> int:
        """A power of two, so that a shard has about LIVE_IN_A_SHARD sessions at most, if that is possible."""
        wanted = math.ceil(math.log2(self.live / LIVE_IN_A_SHARD))
        return min(MAX_SHARDS, DEFAULT_SHARDS << max(0, wanted - int(math.log2(DEFAULT_SHARDS))))

    @property
    def sweep_ms(self) -> float:
        """Milliseconds of a sweep that finds nothing."""
        return self.measured.sweep_ms * self.shards / DEFAULT_SHARDS


def _nodes(size: float, cores: float) -> int:
    return math.ceil(max(size / NODE_BYTES, cores / NODE_LOAD))


_ROWS: list[tuple[str, Callable[[Load], str]]] = [
    ("archives a second, mean and peak", lambda load: f"{load.mean:,.0f}, {load.peak:,.0f}"),
    ("sessions in Redis", lambda load: f"{load.live:,.0f}"),
    ("Memorystore without Torpor", lambda load: _size(load.redis_bytes_alone)),
    ("Memorystore with Torpor", lambda load: _size(load.redis_bytes)),
    ("**Memorystore saved**", lambda load: f"**{_size(load.redis_bytes_alone - load.redis_bytes)}**"),
    ("Redis cores, without and with", lambda load: f"{_few(load.redis_cores_alone)}, {_few(load.redis_cores)}"),
    ("Redis primaries, without and with", lambda load: f"{load.nodes_alone:,}, {load.nodes:,}"),
    ("shards", lambda load: f"{load.shards:,}"),
    ("an idle sweep of one Redis, ms", lambda load: f"{load.sweep_ms:,.0f}"),
    ("worker processes", lambda load: f"{load.workers:,}"),
    ("worker cores", lambda load: _few(load.worker_cores)),
    ("drains a second", lambda load: _few(load.peak / DRAIN_SESSIONS)),
    ("object writes a second", lambda load: f"{load.peak * OBJECTS:,.0f}"),
    ("minutes in which a new bucket gets there", lambda load: f"{load.ramp_minutes:.0f}"),
    ("object writes and listings a day (class A)", lambda load: f"{load.writes:,.0f}"),
    ("object reads a day (class B)", lambda load: f"{load.reads:,.0f}"),
    ("added to the bucket a day", lambda load: _size(load.archived * load.measured.segment_bytes)),
]


def table(results: Mapping[str, Result]) -> str:
    """One column for each size, in Markdown."""
    loads = [Load(_measured(results), size) for size in SIZES]
    lines = [["sessions a day", *(f"{size:,}" for size in SIZES)], ["---"] * (len(SIZES) + 1)]
    lines += [[name, *map(cell, loads)] for name, cell in _ROWS]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _measured(results: Mapping[str, Result]) -> Measured:
    def figure(row: str, side: Side = Side.OURS) -> float:
        value = results[row].median(side)
        assert value is not None
        return value

    packed = pack("00000000-0000-4000-8000-000000000000", 1, 0, 0, [ours(plain(10))])
    packed.body.close()
    return Measured(
        ours_bytes=figure("bytes"),
        peer_bytes=figure("bytes", Side.PEER),
        ours_redis_us=figure("redis-cpu"),
        peer_redis_us=figure("redis-cpu", Side.PEER),
        archive_us=figure("archive-owned"),
        celery_us=figure("celery") * 1_000,
        uploads=figure("rate"),
        sweep_ms=figure("sweep"),
        segment_bytes=packed.size,
    )


def _few(number: float) -> str:
    return f"{number:,.2f}" if number < 1 else f"{number:,.1f}" if number < 100 else f"{number:,.0f}"


def _size(size: float) -> str:
    for unit, name in ((1024 * GIB, "TiB"), (GIB, "GiB")):
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size / 1024**2:,.0f} MiB"
