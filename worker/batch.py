"""A batch of claimed sessions: threads see each of them into the archive, and commits go to Redis many at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import ParamSpec

from history import Lease, Page, SessionInfo, TorporError, TransientError
from worker import shutdown
from worker.archive import COMMITTED, Archived, Outcome, Verified, commit, end, events_of, release, returned, verify
from worker.errors import ArchiveUnavailable
from worker.events import EventKind, tell
from worker.leases import LeaseKeeper
from worker.services import Services

P = ParamSpec("P")

log = logging.getLogger("torpor.batch")

# The breaker, one in each process: set when the archive is down, until it has been of use again. While it is
# set, a drain claims a single session, so that a store which answers nothing costs it one time-out, not a pool full.
_archive_down = threading.Event()
_SERVED = frozenset({Outcome.ARCHIVED, Outcome.KEPT, Outcome.CLEANED, Outcome.ERASING, Outcome.HELD})
# How much of each session is read with the others of its batch: all of most of them.
_HEAD_BYTES = 64 * 1024
# How many are committed together, and how long one waits for the next: a commit of eight takes little more than that
# of one.
_TOGETHER = 16
_TOGETHER_SECONDS = 0.005


def archive_is_down() -> bool:
    """Was the archive down when it was last tried? Then a single session is claimed, to see whether it still is."""
    return _archive_down.is_set()


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
    with returned(services, keeper, leases):
        batch = _Batch(services, keeper, pool, services.sessions.rewound_before())
        failed = [count != 0 for count in services.sessions.attempts(leases)]
        batch.archive([lease for lease, suspect in zip(leases, failed, strict=True) if not suspect])
        suspects = [lease for lease, suspect in zip(leases, failed, strict=True) if suspect]
        for lease in suspects:
            batch.archive([lease])
    tell(services, events_of(batch.results, told_as))
    outcomes = [result.outcome for result in batch.results]
    if Outcome.POSTPONED not in outcomes and not _SERVED.isdisjoint(outcomes):
        _archive_down.clear()
    return outcomes


class _Batch:
    """Sessions that are archived together, and their `results`. Stops with the first failure that may pass."""

    def __init__(self, services: Services, keeper: LeaseKeeper, pool: ThreadPoolExecutor, rewound_before: int) -> None:
        self.results: list[Archived] = []
        self._services = services
        self._keeper = keeper
        self._pool = pool
        self._rewound_before = rewound_before
        self._waiting: dict[str, Lease] = {}
        self._running = 0
        self._steps: SimpleQueue[Future[Verified | Archived]] = SimpleQueue()
        self._down = threading.Event()

    def archive(self, leases: Sequence[Lease]) -> None:
        """Archive sessions; returns when each has its result.

        Where a shutdown's grace is over, those that are not finished are given back. Their uploads may still end, and
        count: a commit without the lease deletes nothing.
        """
        self._waiting = {lease.session_id: lease for lease in leases}
        snapshots = self._services.sessions.snapshots(leases)
        heads = self._heads(snapshots)
        for lease, snapshot in zip(leases, snapshots, strict=True):
            self._begin(self._verify, lease, snapshot, heads.get(lease.session_id))
        given_back = False
        while self._waiting:
            self._go_on(self._finished())
            ago = shutdown.seconds_ago()
            if ago is not None and ago > self._services.settings.grace_seconds and not given_back:
                given_back = True
                for lease in self._waiting.values():
                    release(self._services, self._keeper, lease)

    def _heads(self, snapshots: Sequence[SessionInfo | TorporError | None]) -> dict[str, Page]:
        """The first messages of those that have any to be sent."""
        infos = [each for each in snapshots if isinstance(each, SessionInfo)]
        unsent = [each for each in infos if each.floor is None and each.message_count > each.archived_count]
        heads = zip(unsent, self._services.sessions.heads(unsent, _HEAD_BYTES), strict=True)
        return {info.session_id: head for info, head in heads if isinstance(head, Page)}

    def _begin(
        self,
        step: Callable[P, Verified | Archived],
        /,
        *arguments: P.args,
        **options: P.kwargs,
    ) -> None:
        self._running += 1
        self._pool.submit(step, *arguments, **options).add_done_callback(self._steps.put)

    def _verify(
        self, lease: Lease, snapshot: SessionInfo | TorporError | None, head: Page | None
    ) -> Verified | Archived:
        if self._down.is_set() or shutdown.seconds_ago() is not None:
            return release(self._services, self._keeper, lease)
        return verify(self._services, self._keeper, lease, snapshot, head, rewound_before=self._rewound_before)

    def _finished(self) -> list[Verified | Archived]:
        """What the threads have finished, some of it together; waits for half a second at most."""
        finished: list[Verified | Archived] = []
        wait = 0.5
        with suppress(Empty):
            while self._running and len(finished) < _TOGETHER:
                finished.append(self._steps.get(timeout=wait).result())
                self._running -= 1
                wait = _TOGETHER_SECONDS
        return finished

    def _go_on(self, finished: Sequence[Verified | Archived]) -> None:
        """Commit what is verified; what was not committed is seen to in a thread, since it may take long."""
        for result in finished:
            if isinstance(result, Archived):
                self._note(result)
        verified = [each for each in finished if isinstance(each, Verified)]
        for each, outcome in zip(verified, commit(self._services, self._keeper, verified), strict=True):
            if outcome in COMMITTED:
                self._note(end(self._services, self._keeper, each, outcome))
            else:
                self._begin(end, self._services, self._keeper, each, outcome)

    def _note(self, result: Archived) -> None:
        self.results.append(result)
        del self._waiting[result.session_id]
        if isinstance(result.error, TransientError):
            if not self._down.is_set():
                log.warning("archiving stops for now: %s", result.error)
            self._down.set()
        if isinstance(result.error, ArchiveUnavailable):
            _archive_down.set()
