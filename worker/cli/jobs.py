"""The command that shows and cancels jobs, and how the commands that order them do it."""

from __future__ import annotations

from typing import Annotated

import typer

from torpor.history.protocol import TorporError
from torpor.worker.archive.documents import Document
from torpor.worker.audit.act import Act
from torpor.worker.audit.entry import EVERYTHING, Subject
from torpor.worker.audit.trail import Count, Who
from torpor.worker.bulk.works import WORKS
from torpor.worker.cli import Interrupted, printing
from torpor.worker.cli.audited import By, Reason, audited
from torpor.worker.cli.shared import JsonLines, services_of, warn_damaged
from torpor.worker.deployment import identity
from torpor.worker.deployment.services import Services
from torpor.worker.errors import JobNotFound
from torpor.worker.jobs import look, run
from torpor.worker.jobs.job import Job, JobState
from torpor.worker.jobs.look import Standing
from torpor.worker.jobs.orders import check_id

Here = Annotated[bool, typer.Option("--here", help="Work in this process alone, without an order for the workers.")]
Detach = Annotated[bool, typer.Option("--detach", help="Only order the job: the workers do it.")]
Rate = Annotated[
    float | None, typer.Option(metavar="N", help="Take N sessions a second at most, of all processes together.")
]


def jobs(
    context: typer.Context,
    job: Annotated[str | None, typer.Argument(metavar="ID", help="Show this job, with its result.")] = None,
    *,
    cancel: Annotated[
        str | None, typer.Option(metavar="ID", help="End this job: batches in work are done, the rest is not.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="ID", help="Take part in this job until it is finished.")
    ] = None,
    by: By = "",
    reason: Reason = "",
    as_json: JsonLines = False,
) -> None:
    """List the open jobs, show one, or cancel one.

    A job is a work on many sessions, such as an adoption, which all workers share. It is queued, running, failed and
    tried again, canceling, complete, canceled, or refused because nobody here can do it. Its result stays for 30 days.

    Example: torpor jobs 20260101T120000Z-0a1b2c3d --json

    """
    services = services_of(context, identity.check if resume is None else identity.require)
    who = Who(by, reason)
    if cancel is not None:
        with audited(services, Act.CANCEL_JOB, who, Subject(job=check_id(cancel))) as count:
            count.is_unchanged = not run.cancel(services, WORKS, cancel)
    if resume is not None:
        with audited(services, Act.RESUME_JOB, who, Subject(job=check_id(resume))) as count:
            was_finished = look.standing(services, WORKS, resume).result is not None
            _take_part(services, resume, count)
            if was_finished:
                count.note(0)
    shown = job or cancel or resume
    if shown is None:
        _list(services, as_json=as_json)
        return
    try:
        standing = look.standing(services, WORKS, shown)
    except JobNotFound:
        if cancel is None:
            raise
        printing.say(f"canceled: job {shown}, which could not be done; it has no result")
        return
    _tell(standing, as_json=as_json)


def order(
    services: Services,
    act: Act,
    who: Who,
    work: str,
    arguments: Document,
    *,
    rate: float | None,
    detach: bool,
    subject: Subject = EVERYTHING,
) -> Standing:
    """Order a job, and take part in it unless the command is to `detach`. The audit trail has who gave the order."""
    deployment = services.sessions.identity().deployment
    assert deployment, "a command that orders a job makes sure of its deployment before"
    job = Job.of(work, arguments, deployment=deployment, rate=rate)
    with audited(services, act, who, subject.model_copy(update={"job": job.id})) as count:
        look.place(services, job)
        return look.standing(services, WORKS, job.id) if detach else _take_part(services, job.id, count)


def told_detached(standing: Standing, *, as_json: bool) -> bool:
    """Say which job was ordered, if it has no result yet; False if it has one."""
    if standing.result is not None:
        return False
    if as_json:
        printing.print_json(standing.fields())
    else:
        printing.say(f"{standing.state}: job {standing.job}; the workers do it: torpor jobs {standing.job}")
    return True


def check(standing: Standing | None) -> None:
    """Raise TorporError if a job has ended before all of it was done."""
    if standing and standing.state is JobState.CANCELED:
        raise TorporError(f"job {standing.job} was canceled before all of it was done")


def _take_part(services: Services, job: str, count: Count) -> Standing:
    """Take part in a job until it is finished. Whoever interrupts the command is told how the job goes on.

    `count` has to how many sessions the job was done up to now.
    """
    try:
        with printing.progress(None) as bars:
            task = bars.add_task("working", total=None)

            def show(standing: Standing) -> None:
                total = standing.units if standing.listed else None
                bars.update(task, completed=standing.units_done, total=total)
                count.sessions = standing.sessions

            finished = run.finish(services, WORKS, job, show)
            count.sessions = finished.sessions
            return finished
    except JobNotFound:
        raise
    except (TorporError, Interrupted):
        shown = printing.one_line(job)
        printing.warn(f"the workers go on with job {shown}; to go on here: torpor jobs --resume {shown}; to end it: ")
        printing.warn(f"torpor jobs --cancel {shown}")
        raise


def _list(services: Services, *, as_json: bool) -> None:
    found = list(look.unfinished(services, WORKS, warn_damaged))
    if as_json:
        for each in found:
            printing.print_json(each.fields())
        return
    printing.print_table(
        ("job", "work", "state", "done", "listed", "ordered", "error"),
        [
            (
                each.job,
                each.order.work if each.order else "-",
                each.state,
                f"{each.units_done:,}",
                f"{each.units:,}{'' if each.listed else ' and more'}",
                each.order.requested_at.isoformat()[:19] if each.order else "-",
                each.error or "-",
            )
            for each in found
        ],
    )


def _ordered(order: Job) -> dict[str, str]:
    given = {name: str(value) for name, value in order.arguments.items() if value not in (None, False)}
    return {"work": order.work, **given, "ordered": order.requested_at.isoformat()[:19]}


def _tell(standing: Standing, *, as_json: bool) -> None:
    if as_json:
        printing.print_json(standing.fields())
        return
    printing.print_facts(
        {
            "state": standing.state,
            **(_ordered(standing.order) if standing.order else {}),
            "done": f"{standing.units_done:,} of {standing.units:,}{'' if standing.listed else ' and more'}",
            **{name: f"{count:,}" for name, count in standing.counts.items() if name != "units"},
            **({"error": standing.error} if standing.error else {}),
        }
    )
    for what, count in standing.result.noted.items() if standing.result else ():
        name = next((note.name for note in standing.result.notes if note.what == what), None) if standing.result else ""
        printing.say(f"{count:,}, such as {printing.one_line(name or '-')}: {printing.one_line(what)}")
