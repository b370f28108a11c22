"""The command that gives sessions an owner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from torpor.history.protocol import PermanentError, SessionNotFound, TorporError
from torpor.worker.audit.act import Act
from torpor.worker.audit.entry import MOST_SESSIONS, Subject
from torpor.worker.audit.trail import Count, Who
from torpor.worker.cli import printing
from torpor.worker.cli.audited import By, Reason, audited
from torpor.worker.cli.shared import Json, OwnerPattern, services_of
from torpor.worker.deployment import catalog, identity
from torpor.worker.deployment.services import Services
from torpor.worker.ops import assign_owner as assigning
from torpor.worker.ops.assign_owner import Assigned, Verdict
from torpor.worker.transfer import owner_lines
from torpor.worker.transfer.owner_lines import Assignment
from torpor.worker.transfer.owner_rule import OwnerRule

_REFUSALS = {
    Verdict.OTHER: "it belongs to another owner",
    Verdict.UNKNOWN: "it is neither in Redis nor in the archive",
}


def assign_owner(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help='Lines of {"session_id", "owner"}, or CSV with these two columns.'),
    ] = None,
    *,
    match: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="All sessions with such ids, with the wildcards * and ?.")
    ] = None,
    owner: Annotated[str | None, typer.Option(help="With --match: the owner of these sessions.")] = None,
    owner_pattern: OwnerPattern = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be assigned.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    by: By = "",
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Give sessions that have no owner one, awake or asleep.

    A purge of the owner then finds them, and a legal hold of the owner keeps them. Sessions stay asleep. A session that
    has another owner keeps it: it is named and counted, and the exit code is 1. The command can be run again.

    Example: torpor assign-owner owners.csv --dry-run

    Example: torpor assign-owner --match 'ann:*' --owner ann --yes

    Example: torpor assign-owner --match '*' --owner-pattern '([^:]+):'

    """
    rule = OwnerRule.of(owner, owner_pattern)
    if file is not None:
        for _ in owner_lines.read(file):
            pass  # a wrong line is told before anything is changed
    services, who = services_of(context, identity.require), Who(by, reason)
    if not dry_run:
        who.check(services)

    def found() -> Iterator[Assignment]:
        return owner_lines.read(file) if file is not None else _matching(services, str(match), rule)

    if not dry_run and not yes:
        with printing.working("looking"):
            planned = assigning.assign_all(services, found(), dry_run=True)
        if planned.assigned:
            typer.confirm(f"Give an owner to {planned.assigned:,} sessions?", abort=True, err=True)
    done = _assign(services, who, found(), dry_run=dry_run)
    if match is not None and done == Assigned():
        raise SessionNotFound(f"no session matches {match!r}")
    _tell(done, dry_run=dry_run, as_json=as_json)


def _assign(services: Services, who: Who, assignments: Iterator[Assignment], *, dry_run: bool) -> Assigned:
    """Give the sessions their owners; each thousand has an entry in the audit trail."""
    done = Assigned()
    with printing.progress(None) as bars:
        task = bars.add_task("looking" if dry_run else "assigning", total=None)

        def note(count: Count, assignment: Assignment, verdict: Verdict, error: str) -> None:
            bars.advance(task)
            done.add(verdict)
            count.sessions += verdict is Verdict.ASSIGNED
            if reason := error or _REFUSALS.get(verdict):
                printing.warn(f"not assigned: {printing.one_line(assignment.session_id)}: {reason}")

        while lot := list(islice(assignments, MOST_SESSIONS)):
            with audited(services, Act.ASSIGN_OWNER, who, _named(lot), unless=dry_run) as count:
                assigning.assign_all(services, lot, dry_run=dry_run, progress=partial(note, count))
                count.note(count.sessions)
    return done


def _named(lot: Sequence[Assignment]) -> Subject:
    """The sessions, and the owner if all get the same one."""
    owners = {each.owner for each in lot}
    return Subject(sessions=[each.session_id for each in lot], owner=owners.pop() if len(owners) == 1 else None)


def _matching(services: Services, match: str, rule: OwnerRule) -> Iterator[Assignment]:
    """The sessions whose ids match and whose owner the rule knows."""

    def unreadable(what: str, error: PermanentError) -> None:
        raise TorporError(f"{what} can't be read: {error}") from error

    for session_id in catalog.everything(services, unreadable):
        owner = rule.owner(session_id) if fnmatchcase(session_id, match) else None
        if owner is not None:
            yield Assignment(session_id, owner)


def _tell(done: Assigned, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        printing.print_json({**asdict(done), "dry_run": dry_run})
    else:
        verb = "would assign" if dry_run else "assigned"
        printing.say(
            f"{verb}: {done.assigned:,} sessions; {done.already:,} have the owner already, "
            f"{done.purged:,} were purged, {done.refused:,} refused"
        )
    if done.refused:
        raise TorporError(
            f"{done.refused:,} sessions were refused: {done.other:,} belong to another owner, "
            f"{done.unknown:,} are unknown, {done.failed:,} failed"
        )
