"""What a row of `make bench` is: ours beside a peer and a floor, which take turns in each round."""

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
from support.servers import RedisServer
from torpor.worker.deployment.services import Services


class Side(StrEnum):
    """Who is measured."""

    OURS = "ours"
    PEER = "peer"
    FLOOR = "floor"


@dataclass
class Clock:
    """What a measure takes the time with; with a profile it tells where that time goes."""

    profile: Profile | None = None

    def seconds(self, act: Callable[[], object], *, threaded: bool = False) -> float:
        """How long it takes. A profile of what is `threaded` tells of CPU: there is always a thread that waits."""
        return self._measured(act, time.perf_counter, threaded=threaded)

    def cpu_seconds(self, act: Callable[[], object]) -> float:
        """The CPU that this process takes for it, all threads together."""
        return self._measured(act, time.process_time, threaded=True)

    def _measured(self, act: Callable[[], object], timer: Callable[[], float], *, threaded: bool) -> float:
        gc.collect()  # what others have left to it
        begun = timer()
        if self.profile:
            self.profile.run(act, time.thread_time if threaded else timer)
        else:
            act()
        return timer() - begun


@dataclass(frozen=True)
class Bench:
    """What measures work with. Each row finds Redis empty, and leaves it so."""

    server: RedisServer
    emulator: str
    folder: Path
    quick: bool = False
    clock: Clock = field(default_factory=Clock)

    def size(self, full: int, quick: int) -> int:
        """How much of something; `quick` is for runs that only show that all of it works."""
        return quick if self.quick else full

    @contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """A client of Redis, which is empty afterwards."""
        with self.server.client() as connected:
            try:
                yield connected
            finally:
                connected.flushall()

    def bucket_url(self) -> str:
        """A fresh bucket as an archive URL: the emulator slows down with the number of objects in one."""
        return f"gs://{new_bucket(self.emulator)}/chats"

    def services(self, archive_url: str, **settings: Any) -> Services:
        """A deployment whose bucket was spoken to once; sessions are due when they are closed."""
        services = deployment_of(self.server, archive_url, **{"idle_timeout_seconds": 3600} | settings)
        services.archive.check()
        return services


Measure = Callable[[], float]


@dataclass(frozen=True)
class Sides:
    """Each call measures one side in one round, in the unit of the row, and leaves nothing behind.

    `explain` tells where the figure of ours comes from where that is not this process's time.
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
    """How far a row shall get: the ratio of ours to another side or, with `of` ours, the figure itself."""

    limit: float
    of: Side = Side.OURS
    at_least: bool = False
    stretch: float | None = None

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


Setup = Callable[[Bench], AbstractContextManager[Sides]]


@dataclass(frozen=True)
class Row:
    """One row: what is measured, how, and what it shall reach. `peer` and `floor` say what these are.

    `why` says what the time goes to where it is missed, in words; the profile beside it shows it.
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
    short: bool = False  # whether a round takes so little time that three are done for each one that is asked for
    most_rounds: int = 1_000
    warm: bool = True  # False where a round before the others, which is not counted, makes no difference
    profiled: bool = True  # False where other processes do the work


@dataclass(frozen=True)
class Result:
    """The rounds of a row, and where the time of ours goes, if somebody asked."""

    row: Row
    rounds: Sequence[dict[Side, float]]
    profile: Sequence[str] = ()

    def median(self, side: Side) -> float | None:
        """A side's figure; None where the row has no such side."""
        return statistics.median(each[side] for each in self.rounds) if side in self.rounds[0] else None

    def values(self, reach: Reach) -> list[float]:
        """What is compared with the limit, of each round."""
        return [each[Side.OURS] / (1 if reach.of is Side.OURS else each[reach.of]) for each in self.rounds]

    def value(self, reach: Reach) -> float:
        """The median over the rounds."""
        return statistics.median(self.values(reach))

    @property
    def missed(self) -> bool:
        """Is there something that the row does not reach?"""
        return not all(reach.is_met(self.value(reach)) for reach in self.row.reaches)


def measure(bench: Bench, row: Row, rounds: int, record_events: Callable[[str], None]) -> Result:
    """Measure a row: in each round the sides take turns, another one first."""
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
    """Lines on where the figure of ours comes from: a profile of one more round, unless the row knows better."""
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
    """All of them, one after the other."""
    prepared = list(acts)

    def run() -> None:
        for act in prepared:
            act()

    return run
