"""Draining shards: claim in batches, archive with a bounded thread pool, until nothing is due or time is up."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from history import Lease, RedisMemoryFull, SessionInfo, TorporError, TransientError
from worker.archive import Archived, Outcome, archive_claimed, release
from worker.errors import ArchiveUnavailable
from worker.leases import LeaseKeeper
from worker.services import Services

log = logging.getLogger("torpor.drain")

# The breaker, one in each process: set when the archive is down, until a batch meets no such failure. While it is
# set, a drain claims a single session, so that a store which answers nothing costs it one time-out, not a pool full.
_archive_down = threading.Event()


def drain(services: Services, shards: Sequence[int]) -> Counter[Outcome]:
    """Archive the due sessions of some shards; returns how many ended how.

    Stops claiming when nothing is due, when `drain_seconds` are over, when a whole batch got nowhere, or when
    the archive or Redis is down: the sessions simply stay in Redis until a later sweep. After the archive was
    down, one session is tried alone before a batch is claimed.
    """
    settings = services.settings
    totals: Counter[Outcome] = Counter()
    deadline = time.monotonic() + settings.drain_seconds
    with (
        LeaseKeeper(services.sessions, settings.lease) as keeper,
        ThreadPoolExecutor(settings.concurrency, thread_name_prefix="torpor-archive") as pool,
    ):
        while shards and time.monotonic() < deadline:
            leases = _claim(services, keeper, shards)
            if not leases:
                break
            outcomes = _archive_batch(services, keeper, pool, leases)
            totals.update(outcomes)
            if Outcome.POSTPONED in outcomes or not _progress(outcomes):
                break
    if totals:
        log.info("drained %d shards: %s", len(shards), _summary(totals))
    return totals


def _claim(services: Services, keeper: LeaseKeeper, shards: Sequence[int]) -> list[Lease]:
    if _archive_down.is_set():
        claims = (_claim_each(services, keeper, [shard], 1) for shard in shards)
        return next(filter(None, claims), [])
    return _claim_each(services, keeper, shards, max(1, services.settings.batch // len(shards)))


def _claim_each(services: Services, keeper: LeaseKeeper, shards: Sequence[int], limit: int) -> list[Lease]:
    try:
        leases = services.sessions.claim(shards, limit, services.settings.lease)
    except RedisMemoryFull:
        log.warning("Redis is at its memory limit: archiving without leases")
        return services.sessions.peek(shards, limit)
    keeper.hold(leases)
    return leases


def _archive_batch(
    services: Services, keeper: LeaseKeeper, pool: ThreadPoolExecutor, leases: Sequence[Lease]
) -> list[Outcome]:
    """Archive claimed sessions, those that have failed before one by one after the others.

    A session that kills its worker counts as an attempt for all that were begun with it; alone, it ends in quarantine
    alone.
    """
    down = threading.Event()
    rewound = services.sessions.was_promoted()

    def archive(lease: Lease, snapshot: SessionInfo | TorporError | None) -> Archived:
        if down.is_set():
            return release(services, keeper, lease, begun=True)
        result = archive_claimed(services, keeper, lease, snapshot, rewound=rewound)
        if isinstance(result.error, TransientError):
            if not down.is_set():
                log.warning("archiving stops for now: %s", result.error)
            down.set()
        if isinstance(result.error, ArchiveUnavailable):
            _archive_down.set()
        return result

    infos = services.sessions.infos([lease.session_id for lease in leases])
    failed = [isinstance(info, SessionInfo) and info.attempts > 0 for info in infos]
    fresh = [lease for lease, suspect in zip(leases, failed, strict=True) if not suspect]
    results = list(pool.map(archive, fresh, services.sessions.snapshots(fresh)))
    for lease in (lease for lease, suspect in zip(leases, failed, strict=True) if suspect):
        if down.is_set():
            results.append(release(services, keeper, lease, begun=False))
        else:
            results.append(archive(lease, *services.sessions.snapshots([lease])))
    if not any(isinstance(result.error, ArchiveUnavailable) for result in results):
        _archive_down.clear()
    return [result.outcome for result in results]


def _progress(outcomes: Sequence[Outcome]) -> bool:
    return any(outcome in (Outcome.ARCHIVED, Outcome.KEPT, Outcome.CLEANED, Outcome.ERASING) for outcome in outcomes)


def _summary(totals: Counter[Outcome]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(totals.items()))
