"""One sweep in this process, without Celery: what beat and the workers do again and again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from torpor.history.protocol import TorporError, TransientError
from torpor.worker.archive import names
from torpor.worker.deployment.events import record_measures
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.watch import Watch
from torpor.worker.erasure import orders
from torpor.worker.erasure.purge import carry_out
from torpor.worker.erasure.receipt import PurgeState
from torpor.worker.monitoring import samples
from torpor.worker.monitoring.presence import SweepingCommand, apart_from_work, note_purges_and_holds
from torpor.worker.sleep import breaker
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.opening import record_defaults
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.sleep.relief import relieve


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep has done.

    `sessions` counts attempts by their outcome, and `expired` the objects that were deleted. `purges` has the state of
    each purge that was open, and `failed` the error of each that failed. `waiting` sessions are due afterwards.
    """

    sessions: dict[Outcome, int]
    purges: dict[str, PurgeState]
    failed: dict[str, str]
    expired: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a sweep would begin with: sessions that are due, and the ids of open purges."""

    sessions: int
    purges: list[str]


def waiting(services: Services) -> Waiting:
    """Tell what a sweep would begin with; changes nothing."""
    return Waiting(_due(services), list(orders.open_orders(services)))


def sweep(
    services: Services,
    watch: Watch,
    progress: Callable[[int], None] = lambda _: None,
    *,
    every: timedelta | None = None,
) -> Swept:
    """Archive what is due, relieve Redis, continue purges, delete what has expired, and move the fence.

    As in a worker, `watch` looks before each of these whether Redis and the archive belong together still.
    `progress` gets the number of sessions that were tried up to now. `every` is how often the caller sweeps, None if
    only a schedule knows. Repeatable; sweeps and workers at the same time share the work. A session or a purge that
    fails keeps no other from its turn, and a later sweep tries it again.
    Raises DeploymentMismatch, ArchiveUnavailable and RedisUnavailable; what was done by then counts.
    """
    watch.look()
    record_defaults(services)
    presence = SweepingCommand(services, every)
    sessions = _drain(services, watch, presence, progress) + relieve(services)
    if not sessions:
        breaker.look_again(services)
    purges, failed = _continue_purges(services, watch, presence)
    watch.look()
    expired = services.archive.expire(datetime.now(UTC))
    watch.move_fence()
    presence.note()
    with apart_from_work():
        samples.take(services)
    record_measures(services)
    return Swept(dict(sessions), purges, failed, expired, _due(services))


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
