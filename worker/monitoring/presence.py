"""Who was seen when: workers, beat and sweeps leave notes in Redis, with Redis's time."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.metadata import version

from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment import worker_name
from torpor.worker.deployment.periodic import PeriodicThread
from torpor.worker.deployment.services import Services

log = logging.getLogger("torpor.presence")

_PAUSE_SECONDS = 10.0
# Until there is something to note, and a Redis to note it in.
_FIRST_SECONDS = 1.0
_KEPT = timedelta(days=1)


class Presence:
    """Notes this process in Redis within a second and then every ten seconds, in a thread of its own.

    Notes nothing in a Redis that does not name this archive as its own.
    """

    def __init__(self, connect: Callable[[], Services], who: str, noted: Mapping[str, str] | None = None) -> None:
        """`connect` is called once. `noted` as in `note_seen`; None to note only after `acted`."""
        self._connect = cache(connect)
        self._who = who
        self._noted = noted
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
        if self._noted is None and not self._acted.is_set():
            return
        services = self._connect()
        if services.sessions.identity().archive == services.archive.url:
            self._acted.clear()
            services.sessions.note_seen(self._who, self._noted or {}, _KEPT)
            self._is_noted = True


def of_worker(connect: Callable[[], Services]) -> Presence:
    """The presence of this worker, with its version and the moment of its start."""
    who = f"worker:{worker_name.get()}"
    said = {"version": version("torpor"), "since": datetime.now(UTC).isoformat(timespec="seconds")}
    return Presence(connect, who, {who: json.dumps(said)})


def last_seen(services: Services) -> timedelta | None:
    """How long ago a worker, beat or a sweep was seen by this Redis; None if none was in the last day."""
    noted = services.sessions.measures()
    moments = [int(at) for who, at in noted.seen.items() if who.startswith("seen:")]
    return noted.now - datetime.fromtimestamp(max(moments) / 1000, UTC) if moments else None


def note_sweep(services: Services) -> None:
    """Note that a worker has swept."""
    services.sessions.note_seen("sweep", {}, _KEPT)


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
    services.sessions.note_seen("purges", {name: str(value) for name, value in noted.items()}, _KEPT)
