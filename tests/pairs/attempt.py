"""An attempt of a worker, and the faults that strike its steps at the archive.

A step is one request to the bucket, one call of the file system, or a failpoint. The way to the store (`pairs.bucket`,
`pairs.folder`) tells the attempt of each step and carries out the fault that it gets back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from support.observed import StoreCall
from torpor.worker.failpoints import Failpoint

T = TypeVar("T")

# The kind of step between two requests at which only a worker's death matters: see torpor.worker.failpoints.
FAILPOINT = "failpoint"
_here = threading.local()


class Killed(BaseException):
    """Ends the worker here: no error handler catches it."""


@dataclass(frozen=True)
class Fault:
    """A fault of the way to the archive, at the kinds of steps at which it can happen.

    `act` gets the step, which only the way to the store knows. A `lasting` fault also meets all later steps of the
    attempt. A fault that `kills` ends the worker: nothing of it reaches the archive or Redis any more. A fault that
    `holds` keeps the step back until the test lets it go.
    """

    name: str
    meets: Collection[str]
    act: Callable[[Any], Any]
    lasting: bool = False
    kills: bool = False
    holds: bool = False

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Strike:
    """A fault at the first step that it can meet, after `later` steps from the start or from the strike before."""

    fault: Fault
    later: int

    def __str__(self) -> str:
        return f"{self.fault} (step {self.later})"


def current() -> Attempt | None:
    """The attempt whose worker is this thread."""
    return getattr(_here, "attempt", None)


@contextmanager
def aside() -> Iterator[None]:
    """Whatever this thread does in the block is no step of an attempt."""
    attempt, _here.attempt = current(), None
    try:
        yield
    finally:
        _here.attempt = attempt


def at_failpoint(_: Failpoint) -> None:
    """The action of armed failpoints."""
    if attempt := current():
        attempt.meet(FAILPOINT)
        attempt.check_alive()


@dataclass
class Attempt:
    """The work of one worker in a thread of its own. The strikes come one after the other."""

    strikes: list[Strike] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    met: list[str] = field(default_factory=list)
    result: object = None
    error: Exception | None = None
    dead: bool = False
    place: str = ""  # below which the calls of the file system are steps
    again: list[Callable[[], object]] = field(default_factory=list)  # requests that arrive once more at its end
    deferred: list[Callable[[], object]] = field(default_factory=list)  # requests that arrive after the next worker's
    _from: int = 0
    _lasting: Fault | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _free: threading.Event = field(default_factory=threading.Event)

    def begin(self, work: Callable[[], object]) -> None:
        """Run the work until it is done, held back by a fault, or waits for another worker's lock."""
        self._from += self.strikes[0].later if self.strikes else 0
        self._thread = threading.Thread(target=self._run, args=[work], name=f"worker {id(self)}", daemon=True)
        self._thread.start()
        self._stopped.wait(60)

    def let_go(self) -> None:
        """Let a step go that was held back, and run as `begin` does."""
        self._stopped.clear()
        self._free.set()
        if self._thread.is_alive():
            self._stopped.wait(60)

    def end(self) -> None:
        """Wait for the end of the work; requests that were held back on their way arrive after it."""
        self._free.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), f"stuck after {self.steps}"
        while self.deferred:
            self.deferred.pop(0)()

    @property
    def done(self) -> bool:
        """True if the work has ended, well or not."""
        return not self._thread.is_alive()

    def meet(self, step: str) -> Fault | None:
        """Note a step, and return the fault that strikes it."""
        with self._lock:
            self.steps.append(step)
            if self.strikes and len(self.steps) > self._from and step in self.strikes[0].fault.meets:
                fault = self.strikes.pop(0).fault
                self.met.append(f"{fault} at {step}")
                self._from = len(self.steps) + (self.strikes[0].later if self.strikes else 0)
                self._lasting = fault if fault.lasting else self._lasting
                self.dead = self.dead or fault.kills
                return fault
            return self._lasting if self._lasting and step in self._lasting.meets else None

    def wait_to_go(self) -> None:
        """Keep the step back until the attempt is let go."""
        self._stopped.set()
        assert self._free.wait(60)

    def is_waiting(self) -> None:
        """Another worker has the lock that this step needs."""
        self._stopped.set()

    def check_alive(self) -> None:
        """Raise Killed in the thread of a dead worker."""
        if self.dead:
            raise Killed

    def make(self, _: StoreCall, act: Callable[[], T]) -> T:
        """A call to Redis, which a dead worker does not make."""
        self.check_alive()
        result = act()
        self.check_alive()
        return result

    def _run(self, work: Callable[[], object]) -> None:
        _here.attempt = self
        with suppress(Killed):
            try:
                self.result = work()
            except Exception as error:  # the case judges it
                self.error = error
        for arrive in self.again:
            arrive()
        self._stopped.set()
