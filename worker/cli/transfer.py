"""The commands by which conversations come in, from files and from other libraries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any

import typer

from torpor.history.protocol import Adoptable, Expiry, check_owner, is_too_deep, parse_json
from torpor.worker.audit.act import Act
from torpor.worker.audit.entry import Subject
from torpor.worker.audit.trail import Count, Who
from torpor.worker.bulk import adopting as bulk
from torpor.worker.bulk.adopting import Arguments
from torpor.worker.cli import jobs, printing
from torpor.worker.cli.audited import By, Reason, audited
from torpor.worker.cli.format import Format
from torpor.worker.cli.shared import Json, OwnerPattern, services_of
from torpor.worker.deployment import identity
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import load_settings
from torpor.worker.jobs.job import check_rate
from torpor.worker.pace import Pace
from torpor.worker.transfer import adopt as adopting
from torpor.worker.transfer import detect as detecting
from torpor.worker.transfer import imports, json_lines
from torpor.worker.transfer.json_lines import OwnerSource
from torpor.worker.transfer.owner_rule import OwnerRule

_Ttl = Annotated[int | None, typer.Option(help="Idle timeout of the sessions, in seconds.")]


# The most characters of a message that a dry run shows.
_EXTRACT = 60


def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help='Lines of {"session_id", "owner", "messages": [...]}.')],
    *,
    ttl: _Ttl = None,
    owner: Annotated[str | None, typer.Option(help="All sessions of the file are this owner's.")] = None,
    owner_field: Annotated[
        str | None, typer.Option(metavar="FIELD", help="The field of each line that names its owner.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only check the file, and count the new sessions.")
    ] = False,
    by: By = "",
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Write conversations from a file to Redis.

    Sessions that exist are skipped, so the command can be run again. Purged ones are passed over and counted.

    The owner of a session is the "owner" of its line, or what --owner or --owner-field says. If an existing session has
    another owner, the line is named, and nothing is imported.

    Example: torpor import conversations.jsonl --ttl 3600

    Example: torpor import dump.jsonl --owner-field user_id --dry-run

    """
    owners = OwnerSource(None if owner is None else check_owner(owner), owner_field)
    ids = json_lines.session_ids(file, owners, max_message_bytes=load_settings(context.obj).max_message_bytes)
    expiry = Expiry.of_seconds(ttl)
    with printing.progress(len(ids)) as bars:
        task = bars.add_task("checking" if dry_run else "importing", total=len(ids))
        services = services_of(context, identity.check_first_use if dry_run else identity.make)
        imports.check(services, file, owners)
        named = Subject(sessions=ids, owner=owner)
        with audited(services, Act.IMPORT, Who(by, reason), named, unless=dry_run or not ids) as count:

            def show(sessions: int) -> None:
                count.sessions = sessions
                bars.advance(task)

            result = imports.import_file(services, file, owners=owners, expiry=expiry, dry_run=dry_run, progress=show)
            count.note(result.sessions)
    if as_json:
        printing.print_json({**asdict(result), "dry_run": dry_run})
        return
    verb = "would import" if dry_run else "imported"
    printing.say(
        f"{verb}: {result.sessions:,} sessions, {result.messages:,} messages; {result.skipped:,} sessions exist already"
        + (f", {result.purged:,} were purged" if result.purged else "")
    )
    if result.unowned:
        printing.warn(f"{result.unowned:,} of the sessions that exist have no owner: see torpor assign-owner")


def adopt(
    context: typer.Context,
    *,
    match: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN", help="Adopt these session ids, with the wildcards of Redis's KEYS: user-*, or *."
        ),
    ] = None,
    layout: Annotated[Format | None, typer.Option("--format", help="The library that has written them.")] = None,
    detect: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN", help="Only tell which formats the lists with such keys have, and the commands."
        ),
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="The prefix of the keys, if it is not that library's default.")
    ] = None,
    ttl: Annotated[
        int | None, typer.Option(help="Idle timeout in seconds. Without it, the rest of a key's TTL counts.")
    ] = None,
    owner: Annotated[str | None, typer.Option(help="All of these sessions are this owner's.")] = None,
    owner_pattern: OwnerPattern = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also adopt messages that look as if they stood in the other order.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the sessions, each with its first and its last message.")
    ] = False,
    here: jobs.Here = False,
    detach: jobs.Detach = False,
    rate: jobs.Rate = None,
    by: By = "",
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Take over sessions that another library has written to this Redis.

    It can be run again, and while that library goes on writing. Change your application first, so that its history
    has adopt=: adopted messages go to the end of a session. A session that can't be read, or whose messages look as if
    they stood in the other order than the format has, is left as it is; so are keys with the prefix of another format.
    The other library knows no owners: name them with --owner or --owner-pattern, or later with torpor assign-owner.

    The command orders a job and takes part in it, so the workers share it, and go on with it if the command is killed.

    Example: torpor adopt --match 'user-*' --format memorystore --dry-run

    Example: torpor adopt --detect '*'

    """
    if detect is not None:
        _detect(context, detect, as_json=as_json)
        return
    assert match is not None, "the table of usages says so"
    assert layout is not None, "the table of usages says so"
    given = Arguments(
        format=layout, match=match, prefix=prefix, ttl=ttl, owner=owner, owner_pattern=owner_pattern, force=force
    )
    _ = given.layout.pattern(match), given.expiry  # raise for what is wrong, before anything is ordered
    owners, who, standing = given.owners, Who(by, reason), None
    services = services_of(context, identity.check_first_use if dry_run else identity.make)
    named = Subject(match=match, owner=owner)
    if here or dry_run:
        with audited(services, Act.ADOPT, who, named, unless=dry_run) as count:
            result = _adopt_here(services, given, rate, count, dry_run=dry_run)
            count.note(result.sessions)
    else:
        standing = jobs.order(services, Act.ADOPT, who, bulk.NAME, given, rate=rate, detach=detach, subject=named)
        if jobs.told_detached(standing, as_json=as_json) or standing.result is None:
            return
        result = bulk.adopted(standing.result)
    if as_json:
        planned = {"converted": result.converted, "planned": _as_json(result.planned, owners)} if dry_run else {}
        left_alone = {reason: asdict(each) for reason, each in result.left.items()}
        counts = {"sessions": result.sessions, "messages": result.messages, "left": left_alone}
        ordered = {"job": standing.job, "gone": result.gone} if standing else {}
        printing.print_json({**counts, **planned, "dry_run": dry_run, **ordered})
    else:
        _tell(result, owners, "would adopt" if dry_run else "adopted")
    jobs.check(standing)


def _adopt_here(
    services: Services, given: Arguments, rate: float | None, count: Count, *, dry_run: bool
) -> adopting.Adopted:
    """Adopt, or look, in this process alone."""
    with printing.progress(None) as bars:
        task = bars.add_task("looking" if dry_run else "adopting", total=None)

        def show(sessions: int) -> None:
            count.sessions = sessions
            bars.advance(task)

        return adopting.adopt(
            services,
            given.layout,
            given.match,
            expiry=given.expiry,
            owners=given.owners,
            dry_run=dry_run,
            progress=show,
            wait=Pace(check_rate(rate)).wait,
        )


def _detect(context: typer.Context, pattern: str, *, as_json: bool) -> None:
    """Show which formats of other libraries lie in this Redis."""
    with printing.progress(None) as bars:
        task = bars.add_task("looking", total=None)
        found = detecting.detect(services_of(context, identity.check_first_use), pattern, lambda: bars.advance(task))
    if as_json:
        printing.print_json([asdict(each) for each in found])
        return
    for each in found:
        example = f"such as {printing.one_line(each.example)}"
        if each.candidates:
            printing.say(
                f"{' or '.join(each.candidates)}, the messages do not tell: {each.sessions:,} lists, {example}"
            )
        elif each.name is None:
            printing.say(f"of no known format: {each.sessions:,} lists, {example}")
        else:
            printing.say(f"{each.name}: {each.sessions:,} sessions, {example}: {printing.one_line(str(each.command))}")
    if not found:
        printing.say("no lists of another library")


def _tell(result: adopting.Adopted, owners: OwnerRule, verb: str) -> None:
    """Show people what was adopted, or would be."""
    for session_id, found in result.planned.items():
        owner = owners.owner(session_id)
        of_owner = "" if owner is None else f"of owner {printing.one_line(owner)}, "
        printing.say(f"{printing.one_line(session_id)}: {of_owner}{found.total:,} messages, {_extract(found)}")
    printing.say(f"{verb}: {result.sessions:,} sessions, {result.messages:,} messages")
    if result.converted:
        kinds = ", ".join(f"{count:,} {printing.one_line(kind)}" for kind, count in sorted(result.converted.items()))
        printing.say(f"would convert, and lose nothing: {kinds}")
    for reason, left in result.left.items():
        printing.say(f"not adopted: {left.count:,}, such as {printing.one_line(left.example)}: {reason}")


def _as_json(planned: Mapping[str, Adoptable], owners: OwnerRule) -> list[dict[str, Any]]:
    return [
        {
            "session_id": session_id,
            "owner": owners.owner(session_id),
            "messages": found.total,
            "converted": dict(found.converted),
            "first": _value(found.first),
            "last": _value(found.last),
        }
        for session_id, found in planned.items()
    ]


def _value(element: bytes) -> Any:
    """The message as JSON; its length alone if it is nested too deep to be read."""
    return f"{len(element):,} bytes" if is_too_deep(element) else parse_json(element)


def _extract(found: Adoptable) -> str:
    """The first and the last message for people."""
    from torpor.worker.transfer.speech import speeches  # loads LangChain

    ends = [found.first, found.last][: found.total]
    said = (
        f"{each.speaker}: {shorten(printing.one_line(each.text or ', '.join(each.kinds)), _EXTRACT)}"
        for each in speeches(ends, [])
    )
    return " ... ".join(said)
