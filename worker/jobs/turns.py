"""Turns: how the processes of the workers share jobs, and leave room between for other tasks.

A job has as many slots as the workers have processes. Whoever has the lock of a slot works for some seconds, and then
asks for its next turn, behind the tasks that wait by then. A sweep asks for the turns of slots that nobody has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torpor.worker.deployment.services import Services
from torpor.worker.jobs import run
from torpor.worker.jobs.open_jobs import OpenJob, OpenState
from torpor.worker.jobs.renewing import lock_time, renewed
from torpor.worker.jobs.run import Step
from torpor.worker.jobs.work import Works

_SECONDS = 5.0


def take(services: Services, works: Works, job: str, slot: int) -> bool:
    """Take a turn in a slot; True if it is to be asked for another one. Errors as `run.finish`."""
    lease = lock_time(services)
    with services.sessions.working(job, _part(slot), lease) as lock:
        if lock is None:
            return False
        with renewed(lock, lease):
            return run.take_turn(services, works, job, _SECONDS) is Step.DONE


def free(services: Services, jobs: Iterable[OpenJob], slots: int) -> Iterator[tuple[str, int]]:
    """The slots that nobody has of jobs that can be done here."""
    for job in (each.id for each in jobs if each.state is not OpenState.REFUSED):
        taken = services.sessions.in_work(job, [_part(slot) for slot in range(slots)])
        yield from ((job, slot) for slot, is_taken in enumerate(taken) if not is_taken)


def _part(slot: int) -> str:
    return f"slot-{slot}"
