"""Draining shards: claim in batches, archive with a bounded thread pool, until nothing is due or time is up."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from history import Lease
from worker import shutdown
from worker.archive import Outcome
from worker.batch import archive_batch, archive_is_down
from worker.leases import LeaseKeeper
from worker.services import Services

log = logging.getLogger("torpor.drain")


def drain(services: Services, shards: Sequence[int]) -> Counter[Outcome]:
    """Archive the due sessions of some shards; returns how many ended how.

    Stops claiming when nothing is due, when `drain_seconds` are over, when the worker shuts down, or when the archive
    or Redis is down: the sessions simply stay in Redis until a later sweep. After the archive was down, one session is
    tried alone before a batch is claimed.
    """
    settings = services.settings
    totals: Counter[Outcome] = Counter()
    deadline = time.monotonic() + settings.drain_seconds
    with (
        LeaseKeeper(services.sessions, settings.lease) as keeper,
        ThreadPoolExecutor(settings.concurrency, thread_name_prefix="torpor-archive") as pool,
    ):
        waiting = list(shards)
        while waiting and time.monotonic() < deadline and shutdown.seconds_ago() is None:
            leases = _claim(services, keeper, waiting[: settings.batch])
            if not leases:
                del waiting[: settings.batch]
                continue
            outcomes = archive_batch(services, keeper, pool, leases)
            totals.update(outcomes)
            if Outcome.POSTPONED in outcomes:
                break
    if totals:
        log.info("drained %d shards: %s", len(shards), _summary(totals))
    return totals


def _claim(services: Services, keeper: LeaseKeeper, shards: Sequence[int]) -> list[Lease]:
    """Claim a batch from as many shards at most, or a single session while the archive is down."""
    settings = services.settings
    if archive_is_down():
        claims = (services.sessions.claim([shard], 1, settings.lease) for shard in shards)
        leases = next(filter(None, claims), [])
    else:
        leases = services.sessions.claim(shards, settings.batch // len(shards), settings.lease)
    keeper.hold(leases)
    return leases


def _summary(totals: Counter[Outcome]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(totals.items()))
