"""Who was seen when: what the notes of workers, of beat and of sweeps tell (`presence.py` leaves them)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from torpor.history.protocol import Measures, MessageCorrupt

# A worker that was not seen for so long is gone. It is noted every ten seconds.
_LATELY = timedelta(minutes=1)
_WORKER = "worker:"


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

    `every` is how often that command sweeps; None for a worker, and for a first `torpor sweep --once`.
    """

    at: datetime
    host: str
    by_command: bool
    every: timedelta | None


@dataclass(frozen=True, slots=True)
class Seen:
    """Who was seen in the last day or so, by Redis's clock. `beat` is when beat last sent a task."""

    now: datetime
    workers: Sequence[SeenWorker]
    beat: datetime | None
    sweep: SeenSweep | None

    @property
    def at_work(self) -> list[SeenWorker]:
        """The workers that were seen in the last minute."""
        return [worker for worker in self.workers if self.now - worker.last_seen < _LATELY]


def read(measures: Measures) -> Seen:
    """Read the notes; raises MessageCorrupt if one of them is not Torpor's."""
    try:
        return Seen(
            measures.now,
            sorted(_workers(measures), key=lambda worker: worker.name),
            _seen(measures, "beat"),
            _sweep(measures),
        )
    except (ValueError, TypeError, OverflowError) as exc:
        raise MessageCorrupt(f"Redis has a note of who works that is not Torpor's: {exc}") from exc


def _workers(measures: Measures) -> Iterator[SeenWorker]:
    for who in measures.seen:
        name = who.removeprefix(_WORKER)
        last_seen = _seen(measures, who)
        if name == who or last_seen is None:
            continue
        said = _said(measures, who)
        yield SeenWorker(
            name,
            host=said.get("host", name.rpartition("@")[2]),
            version=said.get("version", ""),
            since=datetime.fromisoformat(said["since"]) if "since" in said else None,
            last_seen=last_seen,
            in_work=said.get("in_work", {}),
            processes=int(said.get("processes", 1)),
        )


def _sweep(measures: Measures) -> SeenSweep | None:
    at = _seen(measures, "sweep")
    if at is None:
        return None
    said = _said(measures, "sweep")
    every = said.get("every")
    return SeenSweep(
        at, said.get("host", ""), said.get("command", False), timedelta(seconds=every) if every is not None else None
    )


def _seen(measures: Measures, who: str) -> datetime | None:
    """When somebody was last seen. A moment that lies ahead was noted before Redis's clock was set back: None."""
    ms = measures.seen.get(f"seen:{who}")
    at = datetime.fromtimestamp(int(ms) / 1000, UTC) if ms else None
    return at if at and at - measures.now < _LATELY else None


def _said(measures: Measures, who: str) -> dict[str, Any]:
    return dict(json.loads(measures.seen.get(who, "{}")))
