"""The rows of `make bench`: Torpor, a peer and a floor take turns in each round."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import redis

from bench.profiling import Profile
from support.compose import deployment_of
from support.emulator import new_bucket
from support.identity import bind
from support.servers import RedisServer
from torpor.worker.deployment.services import Services


class Side(StrEnum):
    """The sides that are measured."""

    OURS = "ours"
    PEER = "peer"
    FLOOR = "floor"


@dataclass
class Clock:
    """Measures times; with a profile, it also shows where the time goes."""

    profile: Profile | None = None

    def seconds(self, act: Callable[[], object], *, threaded: bool = False) -> float:
        """The seconds of a call. The profile of a `threaded` one counts CPU, because some thread always waits."""
        return self._measured(act, time.perf_counter, threaded=threaded)

    def cpu_seconds(self, act: Callable[[], object]) -> float:
        """The seconds of CPU that this process takes for a call, in all threads together."""
        return self._measured(act, time.process_time, threaded=True)

    def _measured(self, act: Callable[[], object], timer: Callable[[], float], *, threaded: bool) -> float:
        gc.collect()  # garbage of others
        begun = timer()
        if self.profile:
            self.profile.run(act, time.thread_time if threaded else timer)
        else:
            act()
        return timer() - begun


@dataclass(frozen=True)
class Bench:
    """The servers for a row. Each row finds Redis empty, and leaves it empty."""

    server: RedisServer
    emulator: str
    folder: Path
    quick: bool = False
    clock: Clock = field(default_factory=Clock)

    def size(self, full: int, quick: int) -> int:
        """The size of a measurement; `quick` is for runs that only show that everything works."""
        return quick if self.quick else full

    @contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """A client of Redis; Redis is empty afterwards."""
        with self.server.client() as connected:
            try:
                yield connected
            finally:
                connected.flushall()

    def bucket_url(self) -> str:
        """The URL of a fresh bucket, because the emulator gets slower with each object in a bucket."""
        return f"gs://{new_bucket(self.emulator)}/chats"

    def services(self, archive_url: str, **settings: Any) -> Services:
        """A deployment that has sent its first request to the bucket; sessions are due when they are closed."""
        services = deployment_of(self.server, archive_url, **{"idle_timeout_seconds": 3600} | settings)
        bind(services)
        return services


Measure = Callable[[], float]


@dataclass(frozen=True)
class Sides:
    """Each call measures one side in one round, in the unit of the row, and leaves nothing behind.

    `explain` shows where Torpor's figure comes from, if that is not the time of this process.
    """

    ours: Measure
    peer: Measure | None = None
    floor: Measure | None = None
    explain: Callable[[], list[str]] | None = None

    def __iter__(self) -> Iterator[tuple[Side, Measure]]:
        for side in Side:
            if measure := getattr(self, side):
                yield side, measure


@dataclass(frozen=True)
class Reach:
    """The goal of a row: for the ratio of Torpor's figure to another side's or, with `of` ours, for the figure."""

    limit: float
    of: Side = Side.OURS
    at_least: bool = False
    stretch: float | None = None

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


Setup = Callable[[Bench], AbstractContextManager[Sides]]


@dataclass(frozen=True)
class Row:
    """One row: its measurement and its goals. `ours`, `peer` and `floor` describe the sides.

    `why` explains a missed goal in words; the profile beside it shows where the time goes.
    """

    name: str
    figure: str
    unit: str
    setup: Setup
    reaches: Sequence[Reach] = ()
    ours: str = ""
    peer: str = ""
    floor: str = ""
    why: str = ""
    short: bool = False  # True if a round is so short that three are done for each one that was asked for
    most_rounds: int = 1_000
    warm: bool = True  # False if a first round that is not counted makes no difference
    profiled: bool = True  # False if other processes do the work


@dataclass(frozen=True)
class Result:
    """The rounds of a row and, if somebody asked, where Torpor's time goes."""

    row: Row
    rounds: Sequence[dict[Side, float]]
    profile: Sequence[str] = ()

    def median(self, side: Side) -> float | None:
        """A side's figure; None if the row has no such side."""
        return statistics.median(each[side] for each in self.rounds) if side in self.rounds[0] else None

    def values(self, reach: Reach) -> list[float]:
        """The value of each round that is compared with the limit."""
        return [each[Side.OURS] / (1 if reach.of is Side.OURS else each[reach.of]) for each in self.rounds]

    def value(self, reach: Reach) -> float:
        """The median over the rounds."""
        return statistics.median(self.values(reach))

    @property
    def missed(self) -> bool:
        """True if the row misses one of its goals."""
        return not all(reach.is_met(self.value(reach)) for reach in self.row.reaches)


def measure(bench: Bench, row: Row, rounds: int, record_events: Callable[[str], None]) -> Result:
    """Measure a row: in each round the sides take turns, and a different side begins."""
    taken = []
    with row.setup(bench) as sides:
        each = list(sides)
        for number in range(-1 if row.warm else 0, min(rounds * (3 if row.short else 1), row.most_rounds)):
            first = number % len(each)
            figures = {side: act() for side, act in each[first:] + each[:first]}
            record_events(f"{number + 1}: " + ", ".join(f"{side} {figures[side]:,.3f}" for side, _ in each))
            taken.append(figures)
    return Result(row, taken[1:] if row.warm else taken)


def profile(bench: Bench, row: Row) -> list[str]:
    """Lines that show where Torpor's figure comes from: the row's own, or a profile of one more round."""
    with row.setup(bench) as sides:
        if sides.explain:
            return sides.explain()
        sides.ours()
        bench.clock.profile = Profile()
        try:
            sides.ours()
            return bench.clock.profile.lines()
        finally:
            bench.clock.profile = None


def each_of(acts: Iterable[Callable[[], object]]) -> Callable[[], None]:
    """Measure all sides, one after the other."""
    prepared = list(acts)

    def run() -> None:
        for act in prepared:
            act()

    return run
