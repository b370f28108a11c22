"""Doing a job together with others: list -> batches -> conclusion. This module alone knows that sequence."""

from __future__ import annotations

import json
import logging
import math
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto

from torpor.history.protocol import PermanentError, WorkLock
from torpor.worker import tracing
from torpor.worker.archive import documents, names
from torpor.worker.archive.documents import Document
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment.services import Services
from torpor.worker.errors import (
    ArchiveConflict,
    JobNotFound,
    ObjectNotFound,
)
from torpor.worker.failpoints import Failpoint, reach
from torpor.worker.jobs import conclusion, pace, refusal
from torpor.worker.jobs import look as looking
from torpor.worker.jobs.batches import Batches
from torpor.worker.jobs.job import JOBS, Done, Job
from torpor.worker.jobs.look import LISTING, Look, Standing
from torpor.worker.jobs.renewing import lock_time, renewed
from torpor.worker.jobs.work import Means, Outcome, Try, Work, Works

log = logging.getLogger("torpor.jobs")

# A process looks anew so often at what is undone. The lock of a batch outlives this, so nobody does it by an old look.
_LOOK_SECONDS = 5.0
_LOCK_OUTLIVES = timedelta(seconds=60)
_POLL_SECONDS = 0.5


class Step(Enum):
    """What a process has done for a job."""

    DONE = auto()  # a part of it
    IDLE = auto()  # nothing, because others do what is left
    OVER = auto()  # the job is finished


class Unit(Document):
    """One line of a batch."""

    unit: str


def finish(
    services: Services, works: Works, job: str, progress: Callable[[Standing], None] = lambda _: None
) -> Standing:
    """Do a job, together with whoever else does it, until it is finished.

    Raises JobNotFound, DocumentDamaged and DeploymentMismatch, and the error that a part of the job meets: a sweep
    tries that part again.
    """
    with _joined(services, works, job) as part:
        while part and (step := part.step()) is not Step.OVER:
            progress(part.standing())
            if step is Step.IDLE:
                time.sleep(_POLL_SECONDS)
    return looking.standing(services, works, job)


def take_turn(services: Services, works: Works, job: str, seconds: float) -> Step:
    """Do parts of a job for some seconds, and the last of them to its end; errors as `finish`."""
    until = time.monotonic() + seconds
    step = Step.OVER
    with _joined(services, works, job) as part:
        while part and (step := part.step()) is Step.DONE and time.monotonic() < until:
            pass
    return step


def cancel(services: Services, works: Works, job: str) -> bool:
    """End a job without the rest of its batches: those in work are done before. Repeatable.

    False if the job is finished already. Raises JobNotFound. An order that can't be done here, such as a damaged one,
    goes without a result.
    """
    if not any(services.archive.list(names.JOBS.order(job))):
        looking.standing(services, works, job)  # raises JobNotFound, or it is finished
        return False
    batches = Batches(services.archive, names.JOBS, job)
    batches.cancel()
    reach(Failpoint.CANCEL_MARKED)
    try:
        take_turn(services, works, job, 0)
    except PermanentError:
        conclusion.tidy(batches)
        JOBS.finish(services.archive, job)
    return True


@contextmanager
def _joined(services: Services, works: Works, job: str) -> Iterator[_Part | None]:
    """The part of this process in a job; None if the job is finished."""
    try:
        order = JOBS.read(services.archive, job)
    except ObjectNotFound:
        batches = Batches(services.archive, names.JOBS, job)
        if not JOBS.is_finished(services.archive, job):
            raise JobNotFound(f"there is no job {job!r}") from None
        conclusion.tidy(batches)  # what a process has left that was late
        yield None
        return
    with tracing.span("job", job=job), ThreadPoolExecutor(services.settings.concurrency) as pool:
        work = refusal.made(works, Means(services, pool, pace.of(services, order)), order)
        yield _Part(services, order, work, Batches(services.archive, names.JOBS, job))


@dataclass
class _Part:
    """The part of one process in a job."""

    services: Services
    order: Job
    work: Work
    batches: Batches
    look: Look = field(default_factory=Look)
    _looked_at: float = -math.inf

    def step(self) -> Step:
        """Do one thing for the job, if there is something that nobody else does."""
        self._look()
        if self.look.finished:
            self._end()
            return Step.OVER
        if self._is_to_be_concluded():
            return Step.OVER if self._conclude() else Step.IDLE
        if self.look.canceled:
            return Step.IDLE
        if not self.look.listed and self._list():
            return Step.DONE
        return Step.DONE if self._do_one() else Step.IDLE

    def standing(self) -> Standing:
        """Where the job stands by the last look."""
        return looking.of_look(self.services, self.order, self.look)

    def _look(self) -> None:
        """Look at the job's objects, if the last look is old or has nothing more to do."""
        now = time.monotonic()
        if now > self._looked_at + _LOOK_SECONDS or not self.look.some:
            self.look, self._looked_at = looking.of_job(self.batches), now

    def _is_to_be_concluded(self) -> bool:
        """True if all batches are done, or if no batch is in work and the rest shall not be done."""
        if self.look.canceled:
            parts = [LISTING, *map(str, self.look.undone)]
            return not any(self.services.sessions.in_work(self.order.id, parts))
        return self.look.listed and not self.look.undone

    def _list(self) -> bool:
        """Write all batches; False if another process does."""
        with self._locked(LISTING) as lock:
            if lock is None or self.batches.is_complete():
                return False
            try:
                self._write_batches(sum(1 for _ in self.batches.written()))
            except ArchiveConflict:  # another process lists since this one has lost its lock
                return False
            self._looked_at = -math.inf
            self._leave(lock)
            return True

    def _write_batches(self, number: int) -> None:
        for units in self.work.batches(number):
            number += 1
            self.batches.write(number, [Unit(unit=each) for each in units], {"units": str(len(units))})
            reach(Failpoint.JOB_LISTED)
            if self._is_canceled():
                return
        self.batches.complete()
        reach(Failpoint.JOB_COMPLETE)

    def _is_canceled(self) -> bool:
        """Ask the archive, but not more often than for a look."""
        if time.monotonic() < self._looked_at + _LOOK_SECONDS:
            return False
        self._looked_at = time.monotonic()
        return any(self.services.archive.list(names.JOBS.canceled(self.order.id)))

    def _do_one(self) -> bool:
        """Do one of the batches that nobody else does; False if there is none."""
        while self.look.some:
            number, stored = self.look.some.pop()
            with self._locked(str(number)) as lock:
                if lock is not None:
                    this = Try(number, secrets.token_hex(8))
                    self._do(this, stored)
                    lock.keep(_LOCK_OUTLIVES)
                    if not self._leave(lock):
                        self.work.discard(this)
                    reach(Failpoint.JOB_DONE)
                    return True
        return False

    def _leave(self, lock: WorkLock) -> bool:
        """False if the job has ended without this process, because the lock was lost; nothing late stays then."""
        if lock.extend(_LOCK_OUTLIVES) and not lock.unneeded:
            return True
        if any(self.services.archive.list(names.JOBS.order(self.order.id))):
            return True
        conclusion.tidy(self.batches)
        return False

    def _do(self, this: Try, stored: StoredObject) -> None:
        units = [line.unit for line in documents.read_lines(self.services.archive, stored, Unit)]
        outcome = self.work.do(units, this)
        reach(Failpoint.JOB_WORKED)
        try:
            self._note_done(this, len(units), outcome)
        except ArchiveConflict:  # another process has done it meanwhile
            self.work.discard(this)
        else:
            self.look.add(len(units), outcome.counts)

    def _note_done(self, this: Try, units: int, outcome: Outcome) -> None:
        done = Done(token=this.token, units=units, counts=dict(outcome.counts), notes=list(outcome.notes))
        described = {"units": str(units), "counts": json.dumps(done.counts), "token": this.token}
        name = self.batches.names.batch_done(self.order.id, this.number)
        documents.put(self.services.archive, name, done, metadata=described | {"notes": str(len(done.notes))})

    def _conclude(self) -> bool:
        """Write the result; False if another process does."""
        with self._locked(LISTING) as lock:
            if lock is None:
                return False
            if not JOBS.is_finished(self.services.archive, self.order.id):
                conclusion.write(self.services, self.order, self.work, complete=not self.look.canceled)
            reach(Failpoint.JOB_CONCLUDED)
            self._end()
            return True

    def _end(self) -> None:
        """Remove what a finished job needs no more: batches name sessions. The order goes last."""
        conclusion.tidy(self.batches)
        reach(Failpoint.JOB_TIDIED)
        JOBS.finish(self.services.archive, self.order.id)

    @contextmanager
    def _locked(self, part: str) -> Iterator[WorkLock | None]:
        """Keep the lock of a part of the job, renewed; an error is noted, and the part waits for its next try."""
        lease, settings = lock_time(self.services), self.services.settings
        with self.services.sessions.working(self.order.id, part, lease) as lock:
            if lock is None:
                yield None
                return
            with (
                lock.noting_failure(timedelta(seconds=settings.retry_delay_seconds)),
                renewed(lock, lease),
            ):
                yield lock
