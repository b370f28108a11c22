"""What Torpor costs a user and saves: arithmetic over the figures that were measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.chats import ours, plain
from bench.harness import Result, Side

from worker.transcript import pack

SIZES = (1_000_000, 100_000_000, 10_000_000_000)

# What is assumed; the page says so beside the table.
KEPT_DAYS = 30  # how long a user may come back: the TTL that lists in Redis would need
LIVE_HOURS = 1.5  # in Redis: the conversation and an idle timeout of an hour
WOKEN = 0.05  # of the sessions, once
PEAK = 3  # times the mean rate
OBJECTS = 2  # a segment, and the marker of its owner
BUCKET_WRITES = 1_000  # a second, to begin with
LIVE_IN_A_SHARD = 100_000

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
    """A day's sessions, in figures."""

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
        """Sessions in Redis at the busiest time."""
        return self.peak * LIVE_HOURS * 3600

    @property
    def redis_alone(self) -> float:
        """Bytes of lists that expire when nobody may come back any more."""
        return self.sessions * KEPT_DAYS * self.measured.peer_bytes

    @property
    def redis(self) -> float:
        """Bytes, at the busiest time."""
        return self.live * self.measured.ours_bytes

    @property
    def writes(self) -> float:
        """Requests a day that write or list: the objects, and of those that wake up a listing each way."""
        return self.archived * OBJECTS + self.sessions * WOKEN * 2

    @property
    def reads(self) -> float:
        """Requests a day that read an object."""
        return self.sessions * WOKEN

    @property
    def ramp_minutes(self) -> float:
        """From what a bucket bears at first to the peak, doubling every 20 minutes."""
        return 20 * max(0, math.ceil(math.log2(self.peak * OBJECTS / BUCKET_WRITES)))

    @property
    def workers(self) -> int:
        """Processes of 64 threads at the busiest time, as uploads take 75 ms."""
        return math.ceil(self.peak * OBJECTS / self.measured.uploads)

    @property
    def worker_cores(self) -> float:
        """At the busiest time."""
        return self.peak * (self.measured.archive_us + self.measured.celery_us) / 1e6

    @property
    def redis_cores(self) -> float:
        """At the busiest time."""
        return self.peak * self.measured.ours_redis_us / 1e6

    @property
    def redis_cores_alone(self) -> float:
        """Likewise, of lists that expire."""
        return self.sessions / DAY * PEAK * self.measured.peer_redis_us / 1e6

    @property
    def shards(self) -> int:
        """A power of two, 256 at least."""
        return 1 << max(8, math.ceil(math.log2(self.live / LIVE_IN_A_SHARD)))

    @property
    def sweep_ms(self) -> float:
        """One sweep that finds nothing."""
        return self.measured.sweep_ms * self.shards / 256


_ROWS: list[tuple[str, Callable[[Load], str]]] = [
    ("archives a second, mean and peak", lambda load: f"{load.mean:,.0f}, {load.peak:,.0f}"),
    ("sessions in Redis at the peak", lambda load: f"{load.live:,.0f}"),
    ("Memorystore without Torpor: lists kept for 30 days", lambda load: _size(load.redis_alone)),
    ("Memorystore with Torpor, at the peak", lambda load: _size(load.redis)),
    ("**Memorystore saved**", lambda load: f"**{_size(load.redis_alone - load.redis)}**"),
    ("added to the bucket a day", lambda load: _size(load.archived * load.measured.segment_bytes)),
    ("object writes and listings a day (class A)", lambda load: f"{load.writes:,.0f}"),
    ("object reads a day (class B)", lambda load: f"{load.reads:,.0f}"),
    ("object writes a second at the peak", lambda load: f"{load.peak * OBJECTS:,.0f}"),
    ("minutes in which a new bucket is brought there", lambda load: f"{load.ramp_minutes:.0f}"),
    ("worker processes of 64 threads at the peak", lambda load: f"{load.workers:,}"),
    ("worker cores at the peak", lambda load: f"{load.worker_cores:,.2f}"),
    ("Redis cores at the peak", lambda load: f"{load.redis_cores:,.2f}"),
    ("Redis cores at the peak without Torpor", lambda load: f"{load.redis_cores_alone:,.2f}"),
    ("shards", lambda load: f"{load.shards:,}"),
    ("an idle sweep, ms", lambda load: f"{load.sweep_ms:,.0f}"),
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

    packed = pack("00000000-0000-4000-8000-000000000000", 1, 0, 0, ours(plain(10)))
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


def _size(size: float) -> str:
    for unit, name in ((1024 * GIB, "TiB"), (GIB, "GiB")):
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size / 1024**2:,.0f} MiB"
