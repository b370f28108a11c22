"""The doctor: an examination of all sessions, as a job in which the console takes part."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import islice

from starlette.responses import Response

from torpor.worker.audit.entry import Subject
from torpor.worker.bulk import examining
from torpor.worker.bulk.examining import Arguments
from torpor.worker.console.pages import jobs
from torpor.worker.console.visit import Visit
from torpor.worker.deployment import identity
from torpor.worker.jobs import look
from torpor.worker.jobs.job import Job, JobState
from torpor.worker.jobs.look import Standing

_LATEST = 10
_LOOKED_AT = 50


def show(visit: Visit) -> Response:
    """The examinations that are not finished, the last results, and the form to begin one."""
    found = look.latest(visit.services, _LOOKED_AT)
    done = (each for each in jobs.finished(visit, found) if each.is_of(examining.NAME))
    return visit.page(
        "doctor.html",
        unfinished=_unfinished(visit),
        finished=list(islice(done, _LATEST)),
        needs_reason=visit.services.settings.require_reason,
    )


def examine(visit: Visit) -> Response:
    """Begin an examination that repairs nothing, or go to the one that is not finished."""
    services, reason = visit.services, visit.optional_reason()
    identity.require(services.sessions, services.archive)
    going_on = [each for each in _unfinished(visit) if each.state is not JobState.REFUSED]
    if going_on:
        path = visit.path("/job", id=going_on[0].job)
        return visit.go_to(path, "Nothing new was begun: this examination is not finished yet.")
    arguments = Arguments(messages="messages" in visit.form, archive="archive" in visit.form)
    deployment = services.sessions.identity().deployment
    assert deployment, "both sides belong together"
    job = Job.of(examining.NAME, arguments, deployment=deployment)
    with ExitStack() as stack:
        count = stack.enter_context(visit.audited(reason, Subject(job=job.id)))
        look.place(services, job)
        said = jobs.take_part(visit, job.id, count, stack)
    return visit.go_to(visit.path("/job", id=job.id), said)


def _unfinished(visit: Visit) -> list[Standing]:
    return [each for each in jobs.unfinished(visit) if each.is_of(examining.NAME)]
