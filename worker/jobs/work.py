"""What the mechanism of jobs asks of a work, and what it gives it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from torpor.worker.deployment.services import Services
from torpor.worker.jobs.job import Job, Note


@dataclass(frozen=True, slots=True)
class Try:
    """One try of a process to do a batch: its number, and a random token."""

    number: int
    token: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a try, or of a conclusion: counts by name, and what is worth a note."""

    counts: Mapping[str, int]
    notes: Sequence[Note] = ()


class Work(Protocol):
    """A work on many units, such as the keys of sessions. Two processes may do the same batch at the same time."""

    def batches(self, written: int) -> Iterator[Sequence[str]]:
        """The units of each batch after the first `written` ones, which a lister has left that was killed.

        A unit that those have, or one that comes twice, is done twice.
        """

    def do(self, units: Sequence[str], this: Try) -> Outcome:
        """Do a batch. Repeatable. A unit that can't be done is noted; an error is of the whole batch."""

    def discard(self, this: Try) -> None:
        """Take back what a try has left, because another try of the same batch counts. Repeatable."""

    def conclude(self, counted: Iterator[Try], *, complete: bool) -> Outcome:
        """Do what comes once, after all batches. `counted` are the tries that count. Repeatable."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a process does a job with. `wait` returns when the next session may be taken, by the job's rate."""

    services: Services
    pool: Executor
    wait: Callable[[], None]


Works = Mapping[str, Callable[[Means, Job], Work]]
