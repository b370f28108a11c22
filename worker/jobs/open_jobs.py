"""The jobs that are open, at a glance: one request to the archive for each, however large the job is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from torpor.worker.archive import names
from torpor.worker.deployment.services import Services
from torpor.worker.errors import DocumentDamaged, ObjectNotFound
from torpor.worker.jobs import refusal
from torpor.worker.jobs.job import JOBS
from torpor.worker.jobs.work import Works


class OpenState(StrEnum):
    """What an operator must know of an open job."""

    WORKING = "working"  # it waits for its turn, or is in work
    FAILED = "failed"  # a part of it met an error and is tried again
    REFUSED = "refused"  # nobody here can do it


@dataclass(frozen=True, slots=True)
class OpenJob:
    """A job that is not finished, when it was ordered, and why it has failed or is refused."""

    id: str
    ordered: datetime | None
    state: OpenState
    error: str | None = None


def look(services: Services, works: Works) -> Iterator[OpenJob]:
    """The open jobs, in the order of their ids."""
    for stored in JOBS.open(services.archive):
        job = names.JOBS.job_of(stored.name)
        with suppress(ObjectNotFound):  # it is finished since
            yield OpenJob(job, stored.created, *_state(services, works, job))


def _state(services: Services, works: Works, job: str) -> tuple[OpenState, str | None]:
    try:
        order = JOBS.read(services.archive, job)
    except DocumentDamaged as error:
        return OpenState.REFUSED, str(error)
    if refused := refusal.reason(services, works, order):
        return OpenState.REFUSED, refused
    failure = services.sessions.job_failure(job)
    return OpenState.FAILED if failure else OpenState.WORKING, failure
