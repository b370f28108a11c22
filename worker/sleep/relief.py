"""Memory relief: above the high-water mark, archive what is nearest to its due moment until below the low one."""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter

from torpor.history.protocol import TorporError
from torpor.worker.deployment import memory
from torpor.worker.deployment.events import EventKind
from torpor.worker.deployment.memory import NodeMemory
from torpor.worker.deployment.services import Services, open_deployment
from torpor.worker.deployment.settings import Settings
from torpor.worker.sleep import shutdown
from torpor.worker.sleep.attempt import Outcome
from torpor.worker.sleep.pool import Pool, archive_is_down

log = logging.getLogger("torpor.relief")


def relieve(services: Services) -> Counter[Outcome]:
    """Make room in each node that is above the high-water mark; returns how many sessions ended how.

    Works at Redis's memory limit, and needs no broker, which may be the very Redis that is full. Several workers at
    once share the work. Gives up where a whole batch got nowhere, as when the archive is down, and on shutdown.
    """
    totals: Counter[Outcome] = Counter()
    for node in memory.nodes(services):
        if node.above(services.settings.memory_high):
            log.warning("Redis uses %d of %s bytes: archiving before it is due", node.used, node.limit)
            totals += _relieve(services, node)
    if totals:
        log.info("relieved: %s", ", ".join(f"{count} {outcome}" for outcome, count in sorted(totals.items())))
    return totals


def _relieve(services: Services, node: NodeMemory) -> Counter[Outcome]:
    settings = services.settings
    totals: Counter[Outcome] = Counter()
    now: NodeMemory | None = node
    while now and now.above(settings.memory_low) and shutdown.seconds_ago() is None:
        limit = 1 if archive_is_down() else settings.batch
        with Pool(services, EventKind.RELIEVED) as pool:
            pool.begin(services.sessions.claim_nearest(now.shards, limit, settings.lease))
        totals += pool.totals
        if not pool.totals[Outcome.ARCHIVED]:
            break
        now = next((each for each in memory.nodes(services) if each.name == node.name), None)
    return totals


class Reliever:
    """Relieves Redis when a worker starts and then once each sweep interval, in a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._services: Services | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="torpor-reliever", daemon=True)

    def start(self) -> None:
        """Relieve Redis once, and go on in a thread until `stop`.

        The first time is over before this returns, since a worker whose broker is the full Redis would not even start.
        """
        self._once()
        self._thread.start()

    def stop(self) -> None:
        """Stop; what is in work is finished or given back as at any shutdown."""
        self._stopped.set()
        self._thread.join(timeout=self._settings.grace_seconds + 5)

    def _run(self) -> None:
        while not self._stopped.wait(
            self._settings.sweep_interval_seconds * random.uniform(0.75, 1.25)
        ):  # workers take turns
            self._once()

    def _once(self) -> None:
        try:
            self._services = self._services or open_deployment(self._settings)
            relieve(self._services)
        except Exception as error:  # it heals by itself, whatever it was
            log.warning("no memory relief: %s", error if isinstance(error, TorporError) else type(error).__name__)
