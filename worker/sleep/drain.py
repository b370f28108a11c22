"""Drain: claims due sessions in batches, and archives them, until nothing is due or time is up."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence

from torpor.history.protocol import Lease
from torpor.worker import tracing
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.breaker import archive_is_down
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.sleep.pool import Pool

log = logging.getLogger("torpor.drain")


def drain(services: Services, shards: Sequence[int]) -> Counter[Outcome]:
    """Archive the due sessions of some shards; returns how many sessions had which outcome.

    Claims no more when nothing is due, when `drain_seconds` are over, when the worker shuts down, or when the archive
    or Redis is down. The other sessions stay in Redis until a later sweep. If the archive was down when it was last
    tried, a single session is claimed before a batch.
    """
    settings = services.settings
    deadline = time.monotonic() + settings.drain_seconds
    with tracing.span("drain", shards=len(shards)), Pool(services) as pool:
        waiting = list(shards)
        while waiting and time.monotonic() < deadline and pool.goes_on:
            alone = archive_is_down()
            asked = waiting[: settings.batch]
            leases = _claim(services, asked, alone=alone)
            if not (leases and alone):  # then not all of them were asked
                have_given = {services.sessions.shard_of(lease.session_id) for lease in leases}
                waiting[: len(asked)] = [shard for shard in asked if shard in have_given]
            if leases:
                pool.begin(leases)
                pool.wait(left=0 if alone else 2 * settings.concurrency)  # so that no thread waits for the next claim
    if pool.totals:
        # The outage that has postponed them was told of when it began.
        level = logging.DEBUG if pool.totals.keys() == {Outcome.POSTPONED} else logging.INFO
        log.log(level, "drained %d shards: %s", len(shards), _summary(pool.totals))
    return pool.totals


def _claim(services: Services, shards: Sequence[int], *, alone: bool) -> list[Lease]:
    """Claim a batch, or a single session. Give at most as many shards as a batch has sessions."""
    settings = services.settings
    if alone:
        claims = (services.sessions.claim([shard], 1, settings.lease) for shard in shards)
        return next(filter(None, claims), [])
    return services.sessions.claim(shards, settings.batch // len(shards), settings.lease)


def _summary(totals: Counter[Outcome]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(totals.items()))
