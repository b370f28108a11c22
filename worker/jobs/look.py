"""A look at the objects of a job, and where the job stands by them."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import nlargest

from pydantic import Field

from torpor.history.protocol import InvalidArgument
from torpor.worker.archive import names
from torpor.worker.archive.documents import Document
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment.services import Services
from torpor.worker.errors import DocumentDamaged, JobNotFound, ObjectNotFound
from torpor.worker.jobs import refusal
from torpor.worker.jobs.batches import Batches
from torpor.worker.jobs.job import JOBS, Job, JobState, Result
from torpor.worker.jobs.orders import check_id
from torpor.worker.jobs.work import Works

LISTING = "list"  # the part of a job that lists and concludes it
# A process tries so many of the batches that it has found undone before it looks again.
_SAMPLED = 64


@dataclass
class Look:
    """What a listing of a job's objects tells. `undone` has the numbers of batches, `some` objects of them at random.

    Holds a number for each batch that is not done, whatever the number of units.
    """

    batches: int = 0
    done: int = 0
    units: int = 0
    units_done: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    listed: bool = False
    canceled: bool = False
    finished: bool = False
    undone: list[int] = field(default_factory=list)
    some: list[tuple[int, StoredObject]] = field(default_factory=list)

    def add(self, units: int, counts: Mapping[str, int]) -> None:
        """Add what came of one more batch."""
        self.done += 1
        self.units_done += units
        self.counts.update(counts)

    def see_batch(self, number: int, stored: StoredObject, *, is_done: bool) -> None:
        """Add a batch, and choose at random which of those that are not done are kept as objects."""
        self.batches += 1
        self.units += whole_number(stored, "units")
        if is_done:
            return
        self.undone.append(number)
        if len(self.some) < _SAMPLED:
            self.some.append((number, stored))
        elif (place := random.randrange(len(self.undone))) < _SAMPLED:
            self.some[place] = (number, stored)


def of_job(batches: Batches) -> Look:
    """Look at the objects of a job: one listing. Raises DocumentDamaged."""
    look = Look()
    done = -1  # the object that says that a batch was done stands before the batch
    job = batches.job
    for stored in batches.objects():
        number = names.JOBS.number_of(job, stored.name)
        if number is None:
            look.listed |= stored.name == names.JOBS.listed(job)
            look.canceled |= stored.name == names.JOBS.canceled(job)
            look.finished |= stored.name == names.JOBS.result(job)
        elif stored.name == names.JOBS.batch_done(job, number):
            done = number
            look.add(whole_number(stored, "units"), counts_of(stored))
        else:
            look.see_batch(number, stored, is_done=done == number)
    random.shuffle(look.some)
    return look


def whole_number(stored: StoredObject, name: str) -> int:
    """A whole number of an object's metadata; raises DocumentDamaged."""
    text = stored.metadata.get(name, "")
    if not (text.isdecimal() and text.isascii() and len(text) < 19):
        raise DocumentDamaged(f"the metadata of {stored.name} is damaged: {name}")
    return int(text)


def counts_of(stored: StoredObject) -> dict[str, int]:
    """The counts of a batch that was done, from its metadata; raises DocumentDamaged."""
    with suppress(ValueError, AttributeError, RecursionError):
        counts = json.loads(stored.metadata.get("counts", "")).items()
        if all(isinstance(count, int) for _, count in counts):
            return dict(counts)
    raise DocumentDamaged(f"the metadata of {stored.name} is damaged: counts")


class Standing(Document):
    """Where a job stands: what was listed and done up to now, and its result once it is finished.

    `error` says why a part of the job has failed, or why all of it is refused. `order` is None if it can't be read.
    """

    job: str
    state: JobState
    order: Job | None
    listed: bool = False
    batches: int = 0
    batches_done: int = 0
    units: int = 0
    units_done: int = 0
    counts: dict[str, int] = Field(default_factory=dict)
    error: str | None = None
    result: Result | None = None

    @property
    def sessions(self) -> int:
        """To how many sessions the work was done; of an examination, how many findings were repaired."""
        return self.counts.get("sessions", self.counts.get("repaired", 0))

    def is_of(self, work: str) -> bool:
        """True if the job is known to be of a work."""
        return self.order is not None and self.order.work == work


def standing(services: Services, works: Works, job: str) -> Standing:
    """Where a job stands; raises InvalidArgument and JobNotFound, and DocumentDamaged for a damaged result."""
    check_id(job)
    with suppress(ObjectNotFound):
        return of_result(JOBS.finished(services.archive, job, Result))
    try:
        order = JOBS.read(services.archive, job)
    except ObjectNotFound:
        with suppress(ObjectNotFound):
            return of_result(JOBS.finished(services.archive, job, Result))  # since the first look
        raise JobNotFound(f"there is no job {job!r}") from None
    except DocumentDamaged as error:
        return Standing(job=job, state=JobState.REFUSED, order=None, error=str(error))
    refused = refusal.reason(services, works, order)
    try:
        found = of_look(services, order, of_job(Batches(services.archive, names.JOBS, job)))
    except DocumentDamaged as error:
        return Standing(job=job, state=JobState.REFUSED, order=order, error=refused or str(error))
    return found.model_copy(update={"state": JobState.REFUSED, "error": refused}) if refused else found


def of_result(result: Result) -> Standing:
    """The standing of a finished job."""
    return Standing(
        job=result.id,
        state=result.state,
        order=Job.model_validate(result.fields()),
        listed=True,
        units=result.counts.get("units", 0),
        units_done=result.counts.get("units", 0),
        counts=result.counts,
        result=result,
    )


def of_look(services: Services, order: Job, look: Look) -> Standing:
    """The standing of a job that is not finished."""
    error = services.sessions.job_failure(order.id)
    begun = look.batches or any(services.sessions.in_work(order.id, [LISTING]))
    state = JobState.FAILED if error else JobState.RUNNING if begun else JobState.QUEUED
    return Standing(
        job=order.id,
        state=JobState.CANCELING if look.canceled else state,
        order=order,
        listed=look.listed,
        batches=look.batches,
        batches_done=look.done,
        units=look.units,
        units_done=look.units_done,
        counts=dict(look.counts),
        error=error,
    )


def place(services: Services, job: Job) -> Job:
    """Write an order to the archive; from then on workers do the job, whoever began it. Repeatable.

    Returns the order that was placed first under this id, if both ask for the same; else raises InvalidArgument.
    """
    with suppress(ObjectNotFound):
        return _same(job, JOBS.finished(services.archive, job.id, Result))
    JOBS.write(services.archive, job)
    try:
        return _same(job, JOBS.read(services.archive, job.id))
    except ObjectNotFound:  # finished since
        return _same(job, JOBS.finished(services.archive, job.id, Result))


def _same(job: Job, placed: Job) -> Job:
    if (placed.work, placed.arguments) != (job.work, job.arguments):
        raise InvalidArgument(f"job {job.id} is another one: {placed.work} {placed.arguments}")
    return placed


def open_jobs(services: Services) -> Iterator[str]:
    """The ids of the jobs that are not finished, in order."""
    return (names.JOBS.job_of(stored.name) for stored in JOBS.open(services.archive))


def unfinished(services: Services, works: Works, damaged: Callable[[DocumentDamaged], None]) -> Iterator[Standing]:
    """Where the jobs stand that are not finished. Calls `damaged` for each damaged result, and goes on."""
    for job in open_jobs(services):
        try:
            found = standing(services, works, job)
        except DocumentDamaged as error:
            damaged(error)
        except JobNotFound:
            pass  # it is finished since
        else:
            yield found


def latest(services: Services, most: int, *, before: str | None = None) -> list[str]:
    """The ids of the last jobs that have a result, newest first, of those that come `before` another one."""
    finished = (names.JOBS.job_of(each.name) for each in services.archive.list(names.JOBS.work) if _is_result(each))
    return nlargest(most, (each for each in finished if before is None or each < before))


def _is_result(stored: StoredObject) -> bool:
    return stored.name == names.JOBS.result(names.JOBS.job_of(stored.name))
