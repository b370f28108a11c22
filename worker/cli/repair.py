"""The commands that find and repair damaged sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from torpor.history.protocol import SessionNotFound, TorporError, check_session_id
from torpor.worker.audit.act import Act
from torpor.worker.audit.entry import Subject
from torpor.worker.audit.trail import Sides, Who
from torpor.worker.bulk.examining import NAME, Arguments, findings
from torpor.worker.cli import jobs, printing
from torpor.worker.cli.audited import By, Reason, audited
from torpor.worker.cli.shared import JsonLines, connected, redis_of, services_of, warn_unreadable
from torpor.worker.deployment import identity
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveMisconfigured, ArchiveUnavailable
from torpor.worker.ops import doctor as examining
from torpor.worker.ops import quarantine as in_quarantine
from torpor.worker.ops.doctor import Assumption
from torpor.worker.ops.finding import Finding

# The seconds within which a request to a bucket that does not answer is given up.
_PATIENCE = 10.0


def quarantine(
    context: typer.Context,
    *,
    as_json: JsonLines = False,
) -> None:
    """List the sessions that could not be archived.

    The list shows the reason. The sessions stay in Redis, unchanged.

    Example: torpor quarantine --json | jq -r .session_id
    """
    found = in_quarantine.found(redis_of(context), warn_unreadable)
    if as_json:
        for info in found:
            printing.print_json(info)
        return
    rows = [(info.session_id, f"{info.message_count:,}", str(info.attempts), info.error or "-") for info in found]
    printing.print_table(("session", "messages", "attempts", "error"), rows)


def requeue(
    context: typer.Context,
    session: Annotated[list[str] | None, typer.Argument(metavar="SESSION", help="Session ids.")] = None,
    *,
    all_: Annotated[bool, typer.Option("--all", help="Take all sessions out of quarantine.")] = False,
    by: By = "",
    reason: Reason = "",
    as_json: JsonLines = False,
) -> None:
    """Take sessions out of quarantine and make them due.

    Their failed attempts are forgotten.

    Example: torpor requeue user-42
    """
    named = [check_session_id(each) for each in session or []]
    services = redis_of(context, patience=_PATIENCE)
    with audited(services, Act.REQUEUE, Who(by, reason), Subject(sessions=named), sides=Sides.UNCOMPARED) as count:
        count.note(0)

        def tell(session_id: str) -> None:
            count.note(count.sessions + 1)
            if as_json:
                printing.print_json({"session_id": session_id})
            else:
                printing.say(f"requeued: {printing.one_line(session_id)}")

        if all_:
            _requeue_all(services, tell)
        for each in named:
            if not services.sessions.requeue(each):
                raise SessionNotFound(f"session {each!r} is not in quarantine")
            tell(each)


def _requeue_all(services: Services, tell: Callable[[str], None]) -> None:
    """Take all out of quarantine that can be; raises the error of the first one that stays."""
    left: list[TorporError] = []

    def stays(session_id: str, error: TorporError) -> None:
        warn_unreadable(session_id, error)
        left.append(error)

    in_quarantine.requeue_all(services, tell, stays)
    if left:
        raise left[0]


def _services(context: typer.Context, *, repair: bool) -> tuple[Services, str | None]:
    """The services, whose sides belong together, and why the archive can't be reached, if it can't.

    An archive that does not answer is given up soon. A repair waits longer, once it has answered. Raises
    DeploymentMismatch, ArchiveMisconfigured and, if it is to repair something, ArchiveUnavailable.
    """
    services = connected(context, patience=_PATIENCE)
    try:
        identity.check(services.sessions, services.archive)
    except ArchiveMisconfigured:
        raise
    except ArchiveUnavailable as error:
        if repair:
            raise
        identity.check_recorded(services.sessions, services.archive.url)
        return services, str(error)
    return connected(context) if repair else services, None


def doctor(
    context: typer.Context,
    *,
    repair: Annotated[bool, typer.Option("--repair", help="Repair what can be repaired.")] = False,
    assume: Annotated[
        Assumption | None,
        typer.Option(
            help="Decide about a session that has lost its metadata and begins with the same messages as its archive: "
            "they were restored (woken), or written later (new)."
        ),
    ] = None,
    messages: Annotated[
        bool, typer.Option("--messages/--no-messages", help="Read every message, to find corrupt ones, or none.")
    ] = True,
    archive: Annotated[
        bool, typer.Option("--archive/--no-archive", help="List the archive, to find damaged objects, or leave it.")
    ] = True,
    share: Annotated[
        bool, typer.Option("--share", help="Order a job, so that the workers share the work, and take part in it.")
    ] = False,
    detach: jobs.Detach = False,
    rate: jobs.Rate = None,
    by: By = "",
    reason: Reason = "",
    as_json: JsonLines = False,
) -> None:
    """Find and repair damaged sessions and index entries.

    If Redis and the archive do not belong together, nothing is examined, and the exit code is 2. If the archive does
    not answer within seconds, only Redis is examined, and nothing is repaired.

    The exit code is 1 if something is left to repair. Messages that can't be read are named by session and position,
    and stay: reads leave them out, and torpor export has their bytes.

    Objects of the archive whose metadata can't be read, damaged orders and receipts of purges, and links and pipes in
    an archive folder, are named and stay, too.

    A job, which --share and --detach order, names a thousand findings, and counts the others. The archive must answer.

    Example: torpor doctor --repair
    """
    left = 0
    shared = share or detach
    services, unreachable = (
        (services_of(context, identity.require), None) if shared else _services(context, repair=repair)
    )
    if shared:
        given = Arguments(repair=repair, assume=assume, messages=messages, archive=archive)
        _share(services, given, rate, Who(by, reason), detach=detach, as_json=as_json)
        return
    with audited(services, Act.REPAIR, Who(by, reason), unless=not repair) as count:
        count.note(0)
        for finding in examining.examine(
            services, repair=repair, assume=assume, messages=messages, archive=archive, unreachable=unreachable
        ):
            left += not finding.repaired
            count.note(count.sessions + finding.repaired)
            _tell(finding, as_json=as_json)
    if left:
        raise TorporError(f"{left:,} findings need repair" + ("" if repair else ": torpor doctor --repair"))


def _share(services: Services, given: Arguments, rate: float | None, who: Who, *, detach: bool, as_json: bool) -> None:
    """Order a job, and tell what it has found unless the command is to `detach`."""
    act = Act.REPAIR if given.repair else Act.EXAMINE
    standing = jobs.order(services, act, who, NAME, given, rate=rate, detach=detach)
    if jobs.told_detached(standing, as_json=as_json) or standing.result is None:
        return
    for finding in findings(standing.result):
        _tell(finding, as_json=as_json)
    found, repaired = (standing.counts.get(name, 0) for name in ("findings", "repaired"))
    if found > len(standing.result.notes):
        printing.warn(f"{found - len(standing.result.notes):,} more were found, and are not named")
    jobs.check(standing)
    if found > repaired:
        raise TorporError(f"{found - repaired:,} findings need repair" + ("" if given.repair else ": --repair"))


def _tell(finding: Finding, *, as_json: bool) -> None:
    if as_json:
        printing.print_json(finding)
        return
    done = "repaired" if finding.repaired else "found"
    what = f"{printing.one_line(finding.session_id)}: {finding.ailment}" if finding.session_id else finding.ailment
    printing.say(f"{done}: {what}{f' ({finding.detail})' if finding.detail else ''}")
