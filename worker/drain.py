"""Draining shards: claim in batches, archive with a bounded thread pool, until nothing is due or time is up."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from history import Lease, SessionInfo, TorporError, TransientError
from worker import shutdown
from worker.archive import Archived, Outcome, archive_claimed, events_of, release, returned
from worker.errors import ArchiveUnavailable
from worker.events import EventKind, tell
from worker.leases import LeaseKeeper
from worker.services import Services

log = logging.getLogger("torpor.drain")

# The breaker, one in each process: set when the archive is down, until it has been of use again. While it is
# set, a drain claims a single session, so that a store which answers nothing costs it one time-out, not a pool full.
_archive_down = threading.Event()
_SERVED = frozenset({Outcome.ARCHIVED, Outcome.KEPT, Outcome.CLEANED, Outcome.ERASING, Outcome.HELD})


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


def batch_size(services: Services) -> int:
    """How many sessions to claim at a time: a single one while the archive is down."""
    return 1 if _archive_down.is_set() else services.settings.batch


def _claim(services: Services, keeper: LeaseKeeper, shards: Sequence[int]) -> list[Lease]:
    """Claim a batch from as many shards at most, or a single session while the archive is down."""
    settings = services.settings
    if _archive_down.is_set():
        claims = (services.sessions.claim([shard], 1, settings.lease) for shard in shards)
        leases = next(filter(None, claims), [])
    else:
        leases = services.sessions.claim(shards, settings.batch // len(shards), settings.lease)
    keeper.hold(leases)
    return leases


def archive_batch(
    services: Services,
    keeper: LeaseKeeper,
    pool: ThreadPoolExecutor,
    leases: Sequence[Lease],
    told_as: EventKind = EventKind.ARCHIVED,
) -> list[Outcome]:
    """Archive claimed sessions and tell of them, those that have failed before one by one after the others.

    A session that kills its worker counts as an attempt for all that were begun with it; alone, it ends in quarantine
    alone.
    """
    down = threading.Event()
    with returned(services, keeper, leases):
        rewound_before = services.sessions.rewound_before()
        failed = [not isinstance(attempts, int) or attempts > 0 for attempts in services.sessions.attempts(leases)]
        fresh = [lease for lease, suspect in zip(leases, failed, strict=True) if not suspect]
        suspects = [lease for lease, suspect in zip(leases, failed, strict=True) if suspect]
        begun = services.sessions.snapshots(fresh)

    def archive(lease: Lease, snapshot: SessionInfo | TorporError | None) -> Archived:
        if down.is_set() or shutdown.seconds_ago() is not None:
            return release(services, keeper, lease)
        result = archive_claimed(services, keeper, lease, snapshot, rewound_before=rewound_before)
        if isinstance(result.error, TransientError):
            if not down.is_set():
                log.warning("archiving stops for now: %s", result.error)
            down.set()
        if isinstance(result.error, ArchiveUnavailable):
            _archive_down.set()
        return result

    futures = [pool.submit(archive, lease, snapshot) for lease, snapshot in zip(fresh, begun, strict=True)]
    _await(services, keeper, futures, fresh)
    results = []
    for number, lease in enumerate(suspects):
        if down.is_set() or shutdown.seconds_ago() is not None:
            results.append(release(services, keeper, lease))
            continue
        with returned(services, keeper, suspects[number:]):
            snapshots = services.sessions.snapshots([lease])
        futures.append(pool.submit(archive, lease, *snapshots))
        _await(services, keeper, futures[-1:], [lease])
    results += [future.result() for future in futures]
    tell(services, events_of(results, told_as))
    outcomes = [result.outcome for result in results]
    if Outcome.POSTPONED not in outcomes and not _SERVED.isdisjoint(outcomes):
        _archive_down.clear()
    return outcomes


def _await(
    services: Services, keeper: LeaseKeeper, futures: Sequence[Future[Archived]], leases: Sequence[Lease]
) -> None:
    """Wait for sessions in work; where a shutdown's grace is over, give back those that are not finished.

    Their uploads may still end, and count: a commit without the lease deletes nothing.
    """
    while wait(futures, timeout=0.5).not_done:
        ago = shutdown.seconds_ago()
        if ago is not None and ago > services.settings.grace_seconds:
            for future, lease in zip(futures, leases, strict=True):
                if not future.done():
                    release(services, keeper, lease)
            return


def _summary(totals: Counter[Outcome]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(totals.items()))
