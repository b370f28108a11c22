"""Who was seen when: what the notes of workers, of beat and of sweeps tell (`presence.py` leaves them)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from pydantic import AwareDatetime, BaseModel, ValidationError

from torpor.history.protocol import Measures
from torpor.worker.jobs.open_jobs import OpenState

# A worker that was not seen for so long is gone. It is noted every ten seconds.
_LATELY = timedelta(minutes=1)
_WORKER = "worker:"
# How many sessions a walk has found asleep, its moment, and how many had fallen asleep and been woken until then.
ASLEEP_FIELDS = ("asleep:sessions", "asleep:at", "asleep:archived", "asleep:restored")
# The fields with a number.
_NUMBERS = {"purges_open", "oldest_purge", "holds:session", "holds:owner", "oldest_job", *ASLEEP_FIELDS} | {
    f"jobs:{state}" for state in OpenState
}


@dataclass(frozen=True, slots=True)
class SeenWorker:
    """A worker as it was last seen. `in_work` counts its running tasks by their names, without `torpor.`.

    `since` is the moment of its start by Redis's clock; None if it did not say so. `processes` take its tasks.
    """

    name: str
    host: str
    version: str
    since: datetime | None
    last_seen: datetime
    in_work: Mapping[str, int]
    processes: int = 1


@dataclass(frozen=True, slots=True)
class SeenSweep:
    """The last sweep: of a worker, or of `torpor sweep` (`by_command`).

    `at` is when it was last seen at work, and `began` when it began; None if that was not noted. `every` is how often
    that command sweeps; None for a worker, and for a first `torpor sweep --once`.
    """

    at: datetime
    host: str
    by_command: bool
    every: timedelta | None
    began: datetime | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """Who was seen in the last day or so, by Redis's clock. `beat` is when beat last sent a task.

    `numbers` has the numbers that were noted, by field. `unreadable` names the fields that are not as Torpor writes
    them. What such a field would say is left out.
    """

    now: datetime
    workers: Sequence[SeenWorker]
    beat: datetime | None
    sweep: SeenSweep | None
    numbers: Mapping[str, float]
    unreadable: Sequence[str]

    @property
    def at_work(self) -> list[SeenWorker]:
        """The workers that were seen in the last minute."""
        return [worker for worker in self.workers if self.now - worker.last_seen < _LATELY]

    def noted(self, field: str) -> float:
        """A number that was noted; 0 if it was not."""
        return self.numbers.get(field, 0)

    @property
    def jobs(self) -> Mapping[OpenState, int]:
        """The open jobs by state."""
        return {state: int(self.noted(f"jobs:{state}")) for state in OpenState}

    def seconds_since(self, field: str) -> float:
        """How long ago a moment was that was noted as a number; 0 if none was."""
        since = self.noted(field)
        return max(self.now.timestamp() - since, 0.0) if since else 0.0


class _WorkerNote(BaseModel):
    host: str | None = None
    version: str = ""
    since: AwareDatetime | None = None
    in_work: dict[str, int] = {}
    processes: int = 1


class _SweepNote(BaseModel):
    host: str = ""
    command: bool = False
    every: timedelta | None = None


_Note = TypeVar("_Note", _WorkerNote, _SweepNote)


def read(measures: Measures) -> Seen:
    """Read the notes."""
    return _Reading(measures).seen()


class _Reading:
    """Reads the fields one by one, and keeps the names of those that can't be read."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures
        self._unreadable: set[str] = set(measures.unreadable)

    def seen(self) -> Seen:
        workers = sorted(self._workers(), key=lambda worker: worker.name)
        beat, sweep, numbers = self._at("beat"), self._sweep(), self._numbers()
        return Seen(self._measures.now, workers, beat, sweep, numbers, sorted(self._unreadable))

    def _workers(self) -> Iterator[SeenWorker]:
        for who in self._measures.seen:
            name = who.removeprefix(_WORKER)
            last_seen = self._at(who) if name != who else None
            if last_seen:
                note = self._said(who, _WorkerNote)
                host = name.rpartition("@")[2] if note.host is None else note.host
                yield SeenWorker(name, host, note.version, note.since, last_seen, note.in_work, note.processes)

    def _sweep(self) -> SeenSweep | None:
        at = self._at("sweep")
        if at is None:
            return None
        note = self._said("sweep", _SweepNote)
        return SeenSweep(at, note.host, note.command, note.every, self._at("sweep_began"))

    def _numbers(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for name in _NUMBERS & self._measures.seen.keys():
            try:
                number = float(self._measures.seen[name])
            except ValueError:
                number = math.nan
            if math.isfinite(number):
                found[name] = number
            else:
                self._unreadable.add(name)
        return found

    def _at(self, who: str) -> datetime | None:
        """When somebody was last seen. A moment that lies ahead was noted before Redis's clock was set back: None."""
        ms = self._measures.seen.get(f"seen:{who}")
        if not ms:
            return None
        try:
            at = datetime.fromtimestamp(int(ms) / 1000, UTC)
        except (ValueError, OverflowError, OSError):
            self._unreadable.add(f"seen:{who}")
            return None
        return at if at - self._measures.now < _LATELY else None

    def _said(self, who: str, kind: type[_Note]) -> _Note:
        """What somebody said of itself; nothing if that can't be read."""
        try:
            return kind.model_validate_json(self._measures.seen.get(who, "{}"))
        except ValidationError:
            self._unreadable.add(who)
            return kind()
