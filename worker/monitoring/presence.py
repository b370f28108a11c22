"""Who was seen when: workers, beat and sweeps leave notes in Redis, with Redis's time (`seen.py` reads them)."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from importlib.metadata import version

from torpor.history.protocol import PermanentError
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment import worker_name
from torpor.worker.deployment.periodic import PeriodicThread
from torpor.worker.deployment.services import Services
from torpor.worker.jobs.open_jobs import OpenJob, OpenState
from torpor.worker.monitoring import samples, seen

log = logging.getLogger("torpor.presence")

_PAUSE_SECONDS = 10.0
# Until there is something to note, and a Redis to note it in.
_FIRST_SECONDS = 1.0
_KEPT = timedelta(days=1)

# What somebody says of itself, as in `note_seen`, at a moment of Redis's clock.
Says = Callable[[datetime], Mapping[str, str]]


class Presence:
    """Notes this process in Redis within a second and then every ten seconds, in a thread of its own.

    Notes nothing in a Redis that does not name this archive as its own.
    """

    def __init__(
        self,
        connect: Callable[[], Services],
        who: str,
        says: Says | None = None,
        then: Callable[[Services], object] = lambda _: None,
    ) -> None:
        """`connect` is called once, and `then` after each note. Without `says`, it notes only after `acted`."""
        self._connect = cache(connect)
        self._who = who
        self._says = says
        self._then = then
        self._acted = threading.Event()
        self._is_noted = False
        self._noting = PeriodicThread(
            "torpor-presence", self._note, pause=self._pause, log=log, failure="not noted in Redis"
        )

    def start(self) -> None:
        """Begin to note."""
        self._noting.start()

    def stop(self) -> None:
        """Note no more."""
        self._noting.stop(timeout=1)

    def acted(self) -> None:
        """Note that this process has just done its work."""
        self._acted.set()

    def _pause(self) -> float:
        return _PAUSE_SECONDS if self._is_noted else _FIRST_SECONDS

    def _note(self) -> None:
        if self._says is None and not self._acted.is_set():
            return
        services = self._connect()
        found = services.sessions.identity()
        if found.archive == services.archive.url and found.read_at:
            self._acted.clear()
            services.sessions.note_seen(self._who, self._says(found.read_at) if self._says else {}, _KEPT)
            self._is_noted = True
            self._then(services)


def of_worker(connect: Callable[[], Services], in_work: Callable[[], Mapping[str, int]], processes: int) -> Presence:
    """The presence of this worker: its host, its version, the moment of its start, and what it has in work.

    Whoever is first in a minute also samples the figures, from the main process: tasks may wait for a busy pool.
    `in_work` counts the running tasks by their names. The worker has so many `processes` for tasks.
    """
    who = f"worker:{worker_name.get()}"
    began = time.monotonic()
    said = {"host": socket.gethostname(), "version": version("torpor")}

    def says(now: datetime) -> Mapping[str, str]:
        if "since" not in said:  # by the first answer of Redis, because hosts' clocks differ
            started = now - timedelta(seconds=time.monotonic() - began)
            said["since"] = started.isoformat(timespec="milliseconds")
        return {who: json.dumps({**said, "in_work": dict(in_work()), "processes": processes})}

    return Presence(connect, who, says, then=samples.take)


def processes(services: Services) -> int:
    """How many processes the workers have that were seen in the last minute; 1 if none was seen."""
    with apart_from_work():
        return sum(worker.processes for worker in seen.read(services.sessions.measures()).at_work) or 1
    return 1


def last_seen(services: Services) -> timedelta | None:
    """How long ago a worker, beat or a sweep was seen by this Redis; None if none was in the last day."""
    noted = seen.read(services.sessions.measures())
    moments = [*(worker.last_seen for worker in noted.workers), noted.beat, noted.sweep and noted.sweep.at]
    return min((noted.now - moment for moment in moments if moment), default=None)


@contextmanager
def apart_from_work() -> Iterator[None]:
    """Log that something can't be noted or sampled: it must not stop the work. An outage of Redis is raised."""
    try:
        yield
    except PermanentError as error:
        log.error("not noted in Redis: %s", error)


def note_sweep(services: Services) -> None:
    """Note that a worker has swept."""
    _note_sweep(services, {"host": socket.gethostname()})


class SweepingCommand:
    """Notes the sweeps of `torpor sweep`, so that status knows that it takes the place of workers and of beat."""

    def __init__(self, services: Services, every: timedelta | None) -> None:
        """`every` is how often the command sweeps; None for one sweep, whose schedule only the sweeps before tell."""
        self._services = services
        self._every = every or _since_last(services)
        self._has_noted = False

    def note(self) -> None:
        """Note that the command is sweeping, or has swept, now."""
        if not self._has_noted:
            with apart_from_work():
                self._services.sessions.note_seen("sweep_began", {}, _KEPT)
            self._has_noted = True
        said = {"host": socket.gethostname(), "command": True}
        _note_sweep(self._services, said if self._every is None else {**said, "every": self._every.total_seconds()})


def _since_last(services: Services) -> timedelta | None:
    """How often the schedule sweeps: how long ago the command's last sweep began. None for a first one.

    A sweep by hand in between must not make the schedule look late, so the span shrinks by half at most.
    """
    with apart_from_work():
        notes = seen.read(services.sessions.measures())
        if notes.sweep and notes.sweep.by_command:
            return max(notes.now - (notes.sweep.began or notes.sweep.at), (notes.sweep.every or timedelta()) / 2)
    return None


def _note_sweep(services: Services, said: Mapping[str, object]) -> None:
    with apart_from_work():
        services.sessions.note_seen("sweep", {"sweep": json.dumps(said)}, _KEPT)


def note_jobs(services: Services, jobs: Sequence[OpenJob]) -> None:
    """Note how many jobs are open, by what an operator must know of them, and how old the oldest is."""
    counts = Counter(job.state for job in jobs)
    noted = {f"jobs:{state}": counts[state] for state in OpenState}
    oldest = min((job.ordered.timestamp() for job in jobs if job.ordered), default=0)
    said = {name: str(value) for name, value in {**noted, "oldest_job": oldest}.items()}
    with apart_from_work():
        services.sessions.note_seen("jobs", said, _KEPT)


def note_purges_and_holds(services: Services, orders: list[StoredObject]) -> None:
    """Note how many purges are open, how old the oldest is, and how many legal holds there are."""
    created = [order.created.timestamp() for order in orders if order.created]
    sessions, owners = services.sessions.holds()
    noted = {
        "purges_open": len(orders),
        "oldest_purge": min(created, default=0),
        "holds:session": sessions,
        "holds:owner": owners,
    }
    with apart_from_work():
        services.sessions.note_seen("purges", {name: str(value) for name, value in noted.items()}, _KEPT)
