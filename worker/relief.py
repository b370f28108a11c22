"""Memory relief: above the high-water mark, archive what is nearest to its due moment until below the low one."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from history import TorporError
from worker import memory, shutdown
from worker.archive import Outcome
from worker.drain import archive_batch, batch_size
from worker.events import EventKind
from worker.leases import LeaseKeeper
from worker.memory import NodeMemory
from worker.services import Services

log = logging.getLogger("torpor.relief")


def relieve(services: Services) -> Counter[Outcome]:
    """Make room in each node that is above the high-water mark; returns how many sessions ended how.

    Works at Redis's memory limit, and needs no broker, which may be the very Redis that is full. Several workers at
    once share the work. Gives up where the archive is down, when `drain_seconds` are over, and on shutdown.
    """
    totals: Counter[Outcome] = Counter()
    for number, node in enumerate(memory.nodes(services)):
        if node.above(services.settings.memory_high):
            log.warning("Redis uses %d of %s bytes: archiving before it is due", node.used, node.limit)
            totals += _relieve(services, number, node)
    if totals:
        log.info("relieved: %s", ", ".join(f"{count} {outcome}" for outcome, count in sorted(totals.items())))
    return totals


def _relieve(services: Services, number: int, node: NodeMemory) -> Counter[Outcome]:
    settings = services.settings
    totals: Counter[Outcome] = Counter()
    deadline = time.monotonic() + settings.drain_seconds
    with (
        LeaseKeeper(services.sessions, settings.lease) as keeper,
        ThreadPoolExecutor(settings.concurrency, thread_name_prefix="torpor-relief") as pool,
    ):
        while node.above(settings.memory_low) and time.monotonic() < deadline and shutdown.seconds_ago() is None:
            leases = services.sessions.claim_nearest(node.shards, batch_size(services), settings.lease)
            if not leases:
                break
            keeper.hold(leases)
            outcomes = archive_batch(services, keeper, pool, leases, EventKind.RELIEVED)
            totals.update(outcomes)
            if Outcome.POSTPONED in outcomes:
                break
            node = memory.nodes(services)[number]
    return totals


class Reliever:
    """Relieves Redis when a worker starts and then once each sweep interval, in a thread of its own."""

    def __init__(self, connect: Callable[[], Services]) -> None:
        self._connect = connect
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="torpor-reliever", daemon=True)

    def start(self) -> None:
        """Go on until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; what is in work is finished or given back as at any shutdown."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        seconds = 1.0
        while not self._stopped.is_set():
            try:
                services = self._connect()
                seconds = services.settings.sweep_interval_seconds
                while not self._stopped.is_set():
                    relieve(services)
                    self._stopped.wait(seconds * random.uniform(0.75, 1.25))  # workers take turns
            except Exception as error:  # it heals by itself, whatever it was
                known = error if isinstance(error, TorporError) else type(error).__name__
                log.warning("no memory relief for a moment: %s", known)
                self._stopped.wait(min(seconds, 5) * random.uniform(0.5, 1.5))
