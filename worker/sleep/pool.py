"""Pool: threads archive claimed sessions; Redis is read, and commits are sent, for many sessions at a time."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import ParamSpec, Self

from torpor.history.protocol import Attempt, CommitOutcome, Lease, TorporError, TransientError
from torpor.worker import tracing
from torpor.worker.deployment.events import EventKind, record_events
from torpor.worker.deployment.identity import check_recorded
from torpor.worker.deployment.services import Services
from torpor.worker.errors import DeploymentMismatch
from torpor.worker.logs import outages
from torpor.worker.sleep import breaker, shutdown
from torpor.worker.sleep.attempt import Verified, commit, end, verify
from torpor.worker.sleep.giving_back import release, returned
from torpor.worker.sleep.leases import LeaseKeeper
from torpor.worker.sleep.outcome import COMMITTED, AttemptResult, Outcome, events_of

P = ParamSpec("P")

log = logging.getLogger("torpor.archiver")

# So many bytes of each session are read with the begin of its attempt. Most sessions have less.
_HEAD_BYTES = 64 * 1024
# At most so many sessions are committed together, and one waits so long for the next. Committing eight takes little
# longer than committing one.
_TOGETHER = 16
_TOGETHER_SECONDS = 0.005
# How often a wait for finished sessions looks for a shutdown.
_WAIT_SECONDS = 0.5


class Pool:
    """Archives claimed sessions in threads, renews their leases, and records their events.

    On exit each session has its outcome. The first failure that may pass gives all sessions back that have not begun.
    When a shutdown's grace is over, unfinished sessions are given back too. Their uploads may still end. That does no
    harm, because a commit without the lease deletes nothing.
    """

    def __init__(self, services: Services, event: EventKind = EventKind.ARCHIVED) -> None:
        """`event` is the kind of event for a session that goes to sleep."""
        self.totals: Counter[Outcome] = Counter()
        self._services = services
        self._event = event
        self._keeper = LeaseKeeper(services.sessions, services.settings.lease)
        self._pool = ThreadPoolExecutor(services.settings.concurrency, thread_name_prefix="torpor-archive")
        self._steps: SimpleQueue[Future[Verified | AttemptResult]] = SimpleQueue()
        self._running = 0
        self._in_work: dict[str, Lease] = {}
        self._later: list[Lease] = []
        self._down = threading.Event()
        self._given_back = False

    def __enter__(self) -> Self:
        self._keeper.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None or isinstance(error, TorporError):
                self.wait()
        finally:
            self._down.set()
            self._pool.shutdown(cancel_futures=True)
            if error is None or isinstance(error, Exception):
                self._give_back()  # after an error, some are left
            self._keeper.__exit__(kind, error, trace)

    @property
    def goes_on(self) -> bool:
        """False after a failure that may pass, and in a shutdown: claim no more."""
        return not self._is_over()

    def begin(self, leases: Sequence[Lease]) -> None:
        """Begin to archive claimed sessions; `wait` archives those one by one that have failed before.

        A session that kills its worker counts as an attempt for all that were begun with it. On its own, it goes to
        quarantine on its own. A session that was claimed again while its last attempt is in work comes later too.

        Raises DeploymentMismatch, and gives the sessions back, if the archive has moved before they were claimed.
        """
        with self._asking(leases):
            # Whoever moves the archive records its URL and then looks for claims.
            check_recorded(self._services.sessions, self._services.archive.url)
        later = [lease for lease in leases if lease.session_id in self._in_work]
        self._keeper.keep(later)
        self._later += later
        self._begin([lease for lease in leases if lease.session_id not in self._in_work], only_first=True)

    def wait(self, left: int = 0) -> None:
        """Wait until at most `left` sessions are in work, and commit those that are verified meanwhile.

        If some have failed before, wait until all are done, and archive those one by one.
        """
        self._wait(0 if self._later else left)
        while self._later:
            lease = self._later.pop(0)
            if self._is_over():
                self._note([release(self._services, self._keeper, lease)])
            else:
                self._begin([lease])
                self._wait(0)

    def _wait(self, left: int) -> None:
        while len(self._in_work) > left:
            self._commit(self._finished())
            ago = shutdown.seconds_ago()
            if ago is not None and ago > self._services.settings.grace_seconds and not self._given_back:
                self._give_back()

    def _give_back(self) -> None:
        """Give unfinished sessions back; a thread that still finishes one deletes nothing."""
        self._given_back = True
        later, self._later = self._later, []
        self._note([release(self._services, self._keeper, lease) for lease in later])
        for lease in self._in_work.values():
            release(self._services, self._keeper, lease)

    def _begin(self, leases: Sequence[Lease], *, only_first: bool = False) -> None:
        # Sessions that had to wait were renewed meanwhile. No renewal may change their tokens while they are used here.
        newest = [(lease, self._keeper.take(lease)) for lease in leases]
        ours = [lease for _, lease in newest if lease]
        if superseded := [AttemptResult(old.session_id, Outcome.SUPERSEDED) for old, lease in newest if not lease]:
            self._note(superseded)
        if not ours:
            return
        with self._asking(ours):
            # After the claim, because Redis may just have lost writes that others have seen, such as a clear.
            rewound_before = self._services.sessions.rewound_before()
            attempts = self._services.sessions.begin_attempts(ours, _HEAD_BYTES, only_first=only_first)
        self._keeper.keep(ours)
        for lease, attempt in zip(ours, attempts, strict=True):
            if isinstance(attempt, Attempt) and not attempt.begun:
                self._later.append(lease)
            else:
                self._in_work[lease.session_id] = lease
                self._submit(self._verify, lease, attempt, rewound_before)

    @contextmanager
    def _asking(self, leases: Sequence[Lease]) -> Iterator[None]:
        """If Redis fails in the block, or has another archive by now, give these sessions back and begin no more."""
        try:
            with returned(self._services, self._keeper, leases):
                yield
        except (TransientError, DeploymentMismatch):
            self._down.set()
            raise

    def _submit(self, step: Callable[P, Verified | AttemptResult], /, *arguments: P.args, **options: P.kwargs) -> None:
        self._running += 1
        self._pool.submit(copy_context().run, partial(step, *arguments, **options)).add_done_callback(self._steps.put)

    def _verify(
        self, lease: Lease, attempt: Attempt | TorporError | None, rewound_before: int
    ) -> Verified | AttemptResult:
        if self._is_over():
            return release(self._services, self._keeper, lease)
        with tracing.span("session", session=lease.session_id):
            done = verify(self._services, self._keeper, lease, attempt, rewound_before=rewound_before)
        return self._update_breaker(done) if isinstance(done, AttemptResult) else done

    def _end(self, verified: Verified, outcome: CommitOutcome | TorporError | None) -> AttemptResult:
        return self._update_breaker(end(self._services, self._keeper, verified, outcome))

    def _update_breaker(self, result: AttemptResult) -> AttemptResult:
        """Update the circuit breaker in this thread, before another session starts; returns the result."""
        if isinstance(result.error, TransientError):
            if not self._down.is_set():
                log.log(outages.level(result.error), "archiving stops for now: %s", result.error)
            self._down.set()
        breaker.update(result, others_failed=self._down.is_set())
        return result

    def _is_over(self) -> bool:
        return self._down.is_set() or shutdown.seconds_ago() is not None

    def _finished(self) -> list[Verified | AttemptResult]:
        """Sessions that the threads have finished, several together if they come close to each other."""
        finished: list[Verified | AttemptResult] = []
        wait = _WAIT_SECONDS
        with suppress(Empty):
            while self._running and len(finished) < _TOGETHER:
                finished.append(self._steps.get(timeout=wait).result())
                self._running -= 1
                wait = _TOGETHER_SECONDS
        return finished

    def _commit(self, finished: Sequence[Verified | AttemptResult]) -> None:
        """Commit verified sessions; the end of one that failed may take long, and so gets a thread."""
        results = [each for each in finished if isinstance(each, AttemptResult)]
        verified = [each for each in finished if isinstance(each, Verified)]
        for each, outcome in zip(verified, commit(self._services, self._keeper, verified), strict=True):
            if outcome in COMMITTED:
                results.append(self._end(each, outcome))
            else:
                self._submit(self._end, each, outcome)
        self._note(results)

    def _note(self, results: Sequence[AttemptResult]) -> None:
        for result in results:
            self._in_work.pop(result.session_id, None)
            self.totals[result.outcome] += 1
        note = breaker.note_of(results, others_failed=self._down.is_set())
        record_events(self._services, events_of(results, self._event), note)
