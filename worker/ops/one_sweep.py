"""One sweep in this process, without Celery: what beat and the workers do again and again."""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from torpor.history.protocol import TorporError, TransientError
from torpor.worker.archive import names
from torpor.worker.deployment.events import record_measures
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.watch import Watch
from torpor.worker.erasure import orders
from torpor.worker.erasure.purge import carry_out
from torpor.worker.erasure.receipt import PurgeState
from torpor.worker.jobs import turns
from torpor.worker.jobs.job import JobState
from torpor.worker.jobs.look import open_jobs, standing
from torpor.worker.jobs.open_jobs import OpenState
from torpor.worker.jobs.open_jobs import look as look_at_jobs
from torpor.worker.jobs.work import Works
from torpor.worker.monitoring import samples
from torpor.worker.monitoring.presence import SweepingCommand, apart_from_work, note_jobs, note_purges_and_holds
from torpor.worker.sleep import breaker
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.opening import record_defaults
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.sleep.relief import relieve

# Sessions that become due meanwhile wait so long, and a turn longer.
_JOBS_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep has done.

    `sessions` counts attempts by their outcome, and `expired` the objects that were deleted. `purges` has the state of
    each purge that was open, and `failed` the error of each that failed; so have `jobs` and `failed_jobs`, where a
    refused job counts as failed. `waiting` sessions are due afterwards.
    """

    sessions: dict[Outcome, int]
    purges: dict[str, PurgeState]
    failed: dict[str, str]
    jobs: dict[str, OpenState | JobState]
    failed_jobs: dict[str, str]
    expired: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a sweep would begin with: sessions that are due, and the ids of open purges and jobs."""

    sessions: int
    purges: list[str]
    jobs: list[str]


def waiting(services: Services) -> Waiting:
    """Tell what a sweep would begin with; changes nothing."""
    return Waiting(_due(services), list(orders.open_orders(services)), list(open_jobs(services)))


def sweep(
    services: Services,
    watch: Watch,
    works: Works,
    progress: Callable[[int], None] = lambda _: None,
    *,
    every: timedelta | None = None,
) -> Swept:
    """Archive what is due, relieve Redis, continue purges and jobs, delete what has expired, and move the fence.

    As in a worker, `watch` looks before each of these whether Redis and the archive belong together still.
    `progress` gets the number of sessions that were tried up to now. `every` is how often the caller sweeps, None if
    only a schedule knows. Repeatable; sweeps and workers at the same time share the work. A session, a purge or a job
    that fails keeps no other from its turn, and a later sweep tries it again.
    Raises DeploymentMismatch, ArchiveUnavailable and RedisUnavailable; what was done by then counts.
    """
    watch.look()
    record_defaults(services)
    presence = SweepingCommand(services, every)
    sessions = _drain(services, watch, presence, progress) + relieve(services)
    if not sessions:
        breaker.look_again(services)
    purges, failed = _continue_purges(services, watch, presence)
    jobs, failed_jobs = _take_turns(services, works, watch, presence)
    watch.look()
    expired = services.archive.expire(services.sessions.redis_time())
    watch.move_fence()
    presence.note()
    with apart_from_work():
        samples.take(services)
    record_measures(services)
    return Swept(dict(sessions), purges, failed, jobs, failed_jobs, expired, _due(services))


def _due(services: Services) -> int:
    return sum(services.sessions.due_counts().values())


def _drain(
    services: Services, watch: Watch, presence: SweepingCommand, progress: Callable[[int], None]
) -> Counter[Outcome]:
    """Drain until nothing is due, or the archive is down."""
    totals: Counter[Outcome] = Counter()
    while due := services.sessions.due_counts():
        watch.look()
        presence.note()
        drained = drain(services, sorted(due))
        totals += drained
        progress(totals.total())
        if not drained or breaker.archive_is_down():
            break
    return totals


def _continue_purges(
    services: Services, watch: Watch, presence: SweepingCommand
) -> tuple[dict[str, PurgeState], dict[str, str]]:
    states: dict[str, PurgeState] = {}
    failed: dict[str, str] = {}
    found = list(orders.ORDERS.open(services.archive))
    note_purges_and_holds(services, found)
    for purge in map(names.PURGES.job_of, (each.name for each in found)):
        watch.look()
        presence.note()
        try:
            states[purge] = carry_out(services, purge).state
        except TransientError:
            raise
        except TorporError as error:
            failed[purge] = str(error)
    return states, failed


def _take_turns(
    services: Services, works: Works, watch: Watch, presence: SweepingCommand
) -> tuple[dict[str, OpenState | JobState], dict[str, str]]:
    """Take turns in the open jobs until nothing is left of them, or half a minute is over."""
    found = list(look_at_jobs(services, works))
    ready = [each.id for each in found if each.state is not OpenState.REFUSED]
    waiting = deque(random.sample(ready, len(ready)))  # so that a later sweep begins with another job
    failed: dict[str, str] = {}
    until = time.monotonic() + _JOBS_SECONDS
    while waiting and time.monotonic() < until:
        job = waiting.popleft()
        watch.look()
        presence.note()
        try:
            if turns.take(services, works, job, slot=0):
                waiting.append(job)
        except TransientError:
            raise
        except TorporError as error:
            failed[job] = str(error)
    still = {each.id: each for each in look_at_jobs(services, works)}
    note_jobs(services, [*still.values()])
    states = {
        each.id: still[each.id].state if each.id in still else standing(services, works, each.id).state
        for each in found
    }
    return states, failed | {job: each.error for job, each in still.items() if each.error}
