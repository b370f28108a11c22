"""Memory relief: when Redis fills up, archive the sessions that are nearest to their due moment."""

from __future__ import annotations

import logging
import random
from collections import Counter

from torpor.worker.deployment import memory
from torpor.worker.deployment.events import EventKind
from torpor.worker.deployment.memory import NodeMemory
from torpor.worker.deployment.periodic import PeriodicThread
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import Settings
from torpor.worker.errors import DeploymentMismatch
from torpor.worker.sleep import shutdown
from torpor.worker.sleep.breaker import archive_is_down
from torpor.worker.sleep.opening import OpenDeployment
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.sleep.pool import Pool

log = logging.getLogger("torpor.relief")


def relieve(services: Services) -> Counter[Outcome]:
    """Archive sessions of each node above the high-water mark until it is below the low one; returns the outcomes.

    Works at Redis's memory limit, and without a broker, because the broker may be the Redis that is full. Several
    workers at once share the work. Gives up when no session of a batch could be archived, and at a shutdown.
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
    """Relieves Redis when a worker starts, and then once each sweep interval, in a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._deployment: OpenDeployment | None = None
        self._relief = PeriodicThread(
            "torpor-reliever",
            self._relieve,
            pause=self._pause,
            log=log,
            failure="no memory relief",
            logged=DeploymentMismatch,
        )

    def start(self) -> None:
        """Relieve Redis once, and go on in a thread until `stop`.

        The first relief ends before this returns, because a worker whose broker is the full Redis could not start.
        Raises DeploymentMismatch if Redis and the archive do not belong together.
        """
        self._relief.call(DeploymentMismatch)
        self._relief.start()

    def stop(self) -> None:
        """Stop; sessions in work are finished or given back, as at any shutdown."""
        self._relief.stop(timeout=self._settings.grace_seconds + 5)

    def _pause(self) -> float:
        return self._settings.sweep_interval_seconds * random.uniform(0.75, 1.25)  # so that workers take turns

    def _relieve(self) -> None:
        self._deployment = self._deployment or OpenDeployment(self._settings)
        relieve(self._deployment.services())
