"""The matrix: each fault at each step of a worker's attempt, followed by each other fault, with another worker between.

A case begins a session, and strikes the attempt of worker A with the first fault. Then the user does something, and
worker B makes an attempt. The second fault strikes a later step of A, or a step of B. A step that was held back is let
go when B is done. Then everything is healthy, and a last worker works until the session is quiet.

Cases that can't be: a dead worker meets no second fault. Of several equal steps in a row, such as those that make one
folder after the other, only the first and the last are struck.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pairs.attempt import Attempt, Fault, Strike
from pairs.sessions import BETWEEN, Between, Path
from torpor.worker.archive.stores import ArchiveStore

# Other lots, and more cases: PAIRS_SEED=2 PAIRS_SHARE=1 make faults ARGS="-k pairs"
_SEED = os.environ.get("PAIRS_SEED", "1")
_SHARE = float(os.environ.get("PAIRS_SHARE", "0"))


class Way(Protocol):
    """The way of workers to an archive, on which each step can be struck."""

    @property
    def faults(self) -> Sequence[Fault]:
        """The faults that this way has."""

    def store(self, attempt: Attempt) -> ArchiveStore:
        """The archive as the worker of an attempt sees it."""


@dataclass(frozen=True)
class Case:
    """Two faults on the path of a session."""

    path: Path
    first: Strike
    second: Strike
    between: Between
    strikes_b: bool

    def __str__(self) -> str:
        whom = "B" if self.strikes_b else "A"
        return f"{self.path}: A meets {self.first}; {self.between}; {whom} meets {self.second}"


def cases(way: Way, path: Path, steps: Sequence[str], first: Fault, share: float) -> Iterator[Case]:
    """A share of all cases that begin with a fault: at each step that it can meet, followed by each fault.

    By lot, which falls the same each time: whom the second fault strikes, after how many steps, what happens between,
    and whether a case belongs to the share.
    """
    for at in _struck(steps, first):
        for second in way.faults:
            lot = random.Random(f"{path}/{first}/{at}/{second}/{_SEED}")
            if lot.random() > max(share, _SHARE):
                continue
            strikes_b = first.kills or lot.random() < 0.5
            later = lot.randrange(len(steps) if strikes_b else 4)
            yield Case(path, Strike(first, at), Strike(second, later), lot.choice(BETWEEN), strikes_b)


def _struck(steps: Sequence[str], first: Fault) -> Iterator[int]:
    for at, step in enumerate(steps):
        if step in first.meets and steps[max(at - 1, 0) : at + 2] != [step] * 3:
            yield at
