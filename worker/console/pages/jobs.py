"""Jobs: the works on many sessions that all workers share, their progress and their results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice

from starlette.responses import Response

from torpor.worker.audit.entry import Subject
from torpor.worker.audit.trail import Count
from torpor.worker.bulk import examining
from torpor.worker.bulk.works import WORKS
from torpor.worker.console.carrying_out import carry_out
from torpor.worker.console.visit import Visit
from torpor.worker.deployment import identity
from torpor.worker.errors import DocumentDamaged, JobNotFound
from torpor.worker.jobs import look, run
from torpor.worker.jobs.job import Note
from torpor.worker.jobs.look import Standing
from torpor.worker.jobs.orders import check_id

_PAGE = 25
# A page shows so many jobs that are not finished, and names so many things that were noted.
_OPEN = 100
_NAMED = 200
_FINISHED = "Nothing was done: the job is finished already."


def every(visit: Visit) -> Response:
    """The jobs that are not finished, then the results that the archive still has, newest first."""
    before = visit.given("before", "") or None
    ids = look.latest(visit.services, _PAGE + 1, before=before and check_id(before))
    page = ids[:_PAGE]
    return visit.page(
        "jobs.html",
        unfinished=[] if before else list(islice(unfinished(visit), _OPEN)),
        finished=list(finished(visit, page)),
        is_first=before is None,
        following=visit.path("/jobs", before=page[-1]) if ids[_PAGE:] else None,
    )


def one(visit: Visit) -> Response:
    """A job: its progress, or its result. With `part`, only what it replaces of itself while it is not finished."""
    standing, is_part = look.standing(visit.services, WORKS, visit.given("id")), bool(visit.given("part", ""))
    result = standing.result
    is_doctors = standing.is_of(examining.NAME)
    return visit.page(
        "job_now.html" if is_part else "job.html",
        is_part=is_part,
        needs_reason=visit.services.settings.require_reason,
        job=standing,
        result=result,
        findings=list(islice(examining.findings(result), _NAMED)) if result and is_doctors else None,
        noted=[] if result is None else [(note, result.noted[note.what]) for note in _examples(standing)],
    )


def cancel(visit: Visit) -> Response:
    """End a job without the rest of its batches."""
    job, reason = check_id(visit.given("id")), visit.optional_reason()
    identity.check(visit.services.sessions, visit.services.archive)
    with visit.audited(reason, Subject(job=job)) as count:
        count.is_unchanged = not run.cancel(visit.services, WORKS, job)
    try:
        look.standing(visit.services, WORKS, job)
    except JobNotFound:
        return visit.go_to("/jobs", f"The job {job}, which could not be done, is gone.")
    said = _FINISHED if count.is_unchanged else "The job ends when the batches in work are done."
    return visit.go_to(visit.path("/job", id=job), said)


def resume(visit: Visit) -> Response:
    """Take part in a job."""
    job, reason = check_id(visit.given("id")), visit.optional_reason()
    services = visit.services
    identity.require(services.sessions, services.archive)
    with ExitStack() as stack:
        count = stack.enter_context(visit.audited(reason, Subject(job=job)))
        count.note(0)
        is_finished = look.standing(services, WORKS, job).result is not None  # raises JobNotFound
        said = _FINISHED if is_finished else take_part(visit, job, count, stack)
    return visit.go_to(visit.path("/job", id=job), said)


def take_part(visit: Visit, job: str, count: Count, acts: ExitStack) -> str:
    """Have the console's process do a job together with the workers, as `carry_out`; returns what to say of it."""
    services, background = visit.services, visit.background

    def work() -> None:
        count.is_unchanged = False
        count.sessions = run.finish(services, WORKS, job, lambda _: background.go_on()).sessions

    if carry_out(background, f"job {job}", work, acts):
        return "The console takes part in the job."
    return "The console has enough work: the workers do the job."


def unfinished(visit: Visit) -> Iterator[Standing]:
    """The jobs that are not finished, with a warning for each one that can't be read."""
    return look.unfinished(visit.services, WORKS, visit.leave_out)


def finished(visit: Visit, jobs: list[str]) -> Iterator[Standing]:
    """The results of these jobs, with a warning for each one that can't be read."""
    for job in jobs:
        try:
            yield look.standing(visit.services, WORKS, job)
        except DocumentDamaged as error:
            visit.leave_out(error)
        except JobNotFound:
            pass  # it has expired since it was listed


def _examples(standing: Standing) -> Iterator[Note]:
    """The first note of each kind."""
    seen: set[str] = set()
    for note in standing.result.notes if standing.result else ():
        if note.what not in seen:
            seen.add(note.what)
            yield note
