"""The Celery tasks. Their names are permanent. A task carries no state, so a lost one delays work and loses none."""

from __future__ import annotations

import logging
from dataclasses import asdict
from datetime import timedelta
from functools import cache, partial
from typing import Any

from celery import Task, shared_task
from celery.states import SUCCESS

from torpor.history.protocol import InvalidArgument, PermanentError, SessionNotFound, TorporError
from torpor.worker.archive import names
from torpor.worker.bulk.works import WORKS
from torpor.worker.deployment.celery_config import HINT_SECONDS
from torpor.worker.deployment.events import record_measures
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import own_settings
from torpor.worker.erasure import known, orders, receipts
from torpor.worker.erasure import purge as purging
from torpor.worker.erasure.inventory import Tally
from torpor.worker.erasure.order import Order, Scope
from torpor.worker.errors import DeploymentMismatch, OwnerNotFound
from torpor.worker.jobs import open_jobs, turns
from torpor.worker.jobs.orders import check_id
from torpor.worker.logs import outages
from torpor.worker.monitoring import presence
from torpor.worker.sleep import attempt
from torpor.worker.sleep import drain as draining
from torpor.worker.sleep.breaker import look_again
from torpor.worker.sleep.opening import OpenDeployment, record_defaults
from torpor.worker.sleep.sweep import send_drains
from torpor.worker.wake import restore

log = logging.getLogger("torpor.tasks")


class _Task(Task):  # type: ignore[misc] # Celery is untyped
    """Our errors say what is wrong: Celery logs them as a line, others with their tracebacks."""

    throws = (TorporError,)

    def on_failure(self, exc: Exception, *_: Any) -> None:
        """Log what won't pass by itself as an error; a mismatch, and an outage, are logged where they are noticed."""
        if isinstance(exc, PermanentError) and not isinstance(exc, DeploymentMismatch):
            log.error("%s: %s", self.name, exc)

    def after_return(self, status: str, *_: Any) -> None:
        """Record what the task has measured, unless it has failed: Redis may be another deployment's."""
        if status == SUCCESS:
            record_measures(_opened().opened)


_task = partial(shared_task, base=_Task)


def services() -> Services:
    """The services of the process. Each call makes sure that Redis and the archive belong together still."""
    return _opened().services()


@cache
def _opened() -> OpenDeployment:
    return OpenDeployment(own_settings(), record_defaults)


@_task(name="torpor.sweep")
def sweep() -> int:
    """Send drains for all due sessions, or see whether an outage has ended; returns how many drains were sent.

    Then move the fence, if it is time to.
    """
    sent = send_drains(services().sessions.due_counts())
    if not sent:
        look_again(services())
    _opened().move_fence()
    presence.note_sweep(services())
    return sent


@_task(name="torpor.drain")
def drain(shards: list[int]) -> dict[str, int]:
    """Archive the due sessions of these shards; returns a count for each outcome."""
    return {str(outcome): count for outcome, count in draining.drain(services(), shards).items()}


@_task(name="torpor.archive_session")
def archive_session(session_id: str) -> str:
    """Archive one session now, even if it is not due; returns the outcome."""
    return str(attempt.archive_session(services(), session_id).outcome)


@_task(name="torpor.restore_session")
def restore_session(session_id: str) -> str:
    """Wake one session up for a reader; returns the outcome.

    If nobody has the session, Redis remembers it for a minute as an empty one, so the reader need not wait.
    """
    return str(restore.restore_for_reader(services(), session_id).outcome)


@_task(name="torpor.expire")
def expire() -> int:
    """Delete expired objects from the archive, unless the store does it by itself; returns how many were deleted."""
    return services().archive.expire(services().sessions.redis_time())


@_task(name="torpor.purge_session", bind=True, ignore_result=False)
def purge_session(
    self: Task,
    session_id: str,
    requested_by: str = "",
    reason: str = "",
    scope: str = Scope.EVERYWHERE,
    *,
    record_nothing_found: bool = False,
) -> dict[str, Any]:
    """Purge one session; returns the state of the purge, whose id is the id of the task.

    If nothing is known of the session, the state is `unknown` and there is no purge, unless `record_nothing_found`.
    """
    return _purge(self, record_nothing_found, session=session_id, requested_by=requested_by, reason=reason, scope=scope)


@_task(name="torpor.purge_owner", bind=True, ignore_result=False)
def purge_owner(
    self: Task,
    owner: str,
    requested_by: str = "",
    reason: str = "",
    scope: str = Scope.EVERYWHERE,
    *,
    record_nothing_found: bool = False,
) -> dict[str, Any]:
    """Purge all sessions of an owner, as `purge_session` does for one."""
    return _purge(self, record_nothing_found, owner=owner, requested_by=requested_by, reason=reason, scope=scope)


@_task(name="torpor.purge_idle", bind=True, ignore_result=False)
def purge_idle(
    self: Task,
    idle_seconds: float,
    *,
    owner: str | None = None,
    requested_by: str = "",
    reason: str = "",
    scope: str = Scope.EVERYWHERE,
    record_nothing_found: bool = False,
) -> dict[str, Any]:
    """Purge all sessions, or those of an owner, that have been idle for `idle_seconds`; see `purge_session`."""
    idle = timedelta(seconds=idle_seconds)
    return _purge(
        self, record_nothing_found, owner=owner, idle=idle, requested_by=requested_by, reason=reason, scope=scope
    )


@_task(name="torpor.sweep_purges")
def sweep_purges() -> int:
    """Send a task for each unfinished purge that nobody is working on; returns how many were sent."""
    found = list(orders.ORDERS.open(services().archive))
    presence.note_purges_and_holds(services(), found)
    purges = (names.PURGES.job_of(each.name) for each in found)
    waiting = [each for each in purges if not services().sessions.purge_progress(each)[0]]
    for purge_id in waiting:
        purge.apply_async(args=[purge_id], expires=HINT_SECONDS, retry=False)
    return len(waiting)


@_task(name="torpor.purge", ignore_result=False)
def purge(purge_id: str) -> dict[str, Any]:
    """Continue a purge; returns its state."""
    return _carry_out(purge_id)


@_task(name="torpor.sweep_jobs")
def sweep_jobs() -> int:
    """Send a task for each turn in a job that nobody takes, as many as the workers have processes; returns how many."""
    jobs = list(open_jobs.look(services(), WORKS))
    presence.note_jobs(services(), jobs)
    found = list(turns.free(services(), jobs, presence.processes(services())))
    for job_id, slot in found:
        _send_turn(job_id, slot)
    return len(found)


@_task(name="torpor.job")
def job(job_id: str, slot: int) -> bool:
    """Take a turn in a job; True if another one is sent, because there is more to do. Raises InvalidArgument too."""
    more = turns.take(services(), WORKS, check_id(job_id), slot)
    if more:
        _send_turn(job_id, slot)
    return more


def _send_turn(job_id: str, slot: int) -> None:
    job.apply_async(args=[job_id, slot], expires=HINT_SECONDS, retry=False)


def _purge(task: Task, record_nothing_found: bool, *, scope: str, **fields: Any) -> dict[str, Any]:  # noqa: FBT001
    """Place an order and carry it out. A task that is delivered again places the same one."""
    try:
        where = Scope(scope)
    except ValueError:
        # Celery logs causes too, and this one repeats what was given.
        raise InvalidArgument(f"the scope of a purge is one of {', '.join(Scope)}") from None
    order = Order.of(scope=where, id=task.request.id, **fields)
    try:
        placed = known.place(services(), order, record_nothing_found=record_nothing_found)
    except (SessionNotFound, OwnerNotFound) as error:
        # Celery logs results too, and the log names no owner.
        why = "nothing is known of this owner" if isinstance(error, OwnerNotFound) else str(error)
        log.warning("purge %s was not ordered: %s", order.id, why)
        return {"purge": order.id, "state": "unknown", "found": asdict(Tally()), "error": why}
    return _carry_out(placed.id)


def _carry_out(purge_id: str) -> dict[str, Any]:
    try:
        standing = purging.carry_out(services(), purge_id)
    except TorporError as error:  # the purge records it, and the next sweep tries again
        standing = receipts.standing(services(), purge_id)
        log.log(outages.level(error, logging.ERROR), "purge %s: %s", purge_id, error)
    return {
        "purge": purge_id,
        "state": str(standing.state),
        "found": asdict(standing.found),
        "error": standing.error,
    }
