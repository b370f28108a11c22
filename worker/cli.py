"""The `torpor` command, over the same functions as the tasks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from history import (
    Expiry,
    InvalidArgument,
    SessionInfo,
    SessionNotFound,
    Status,
    TorporError,
    TransientError,
    check_session_id,
    decode_message,
)
from worker import archive as archiving
from worker import console, holdings, interchange
from worker import doctor as examining
from worker import events as happenings
from worker import purge as purging
from worker import restore as restoring
from worker import status as standing
from worker.archive import Outcome
from worker.doctor import Assumption
from worker.errors import ImportFailed, SettingsError
from worker.restore import RestoreOutcome
from worker.services import Services, connect, open_deployment
from worker.settings import load_settings

EXIT_CODES = """
Exit codes: 0 done, 1 failed, 2 wrong usage, settings or input, 3 no such session,
4 Redis, the archive or a worker is in the way for now: try again.
"""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Session = Annotated[str, typer.Argument(metavar="SESSION", help="The session id.")]


@app.callback(help="Chat sessions that sleep in Cloud Storage and wake up in Memorystore.\n" + EXIT_CODES)
def _settings(
    context: typer.Context,
    redis_url: Annotated[str | None, typer.Option(help="Instead of TORPOR_REDIS_URL.")] = None,
    archive_url: Annotated[str | None, typer.Option(help="Instead of TORPOR_ARCHIVE_URL.")] = None,
    namespace: Annotated[str | None, typer.Option(help="Instead of TORPOR_NAMESPACE.")] = None,
) -> None:
    context.obj = {"redis_url": redis_url, "archive_url": archive_url, "namespace": namespace}


@app.command()
def status(context: typer.Context, *, as_json: Json = False) -> None:
    """How the deployment stands: sessions, what is overdue, memory.

    Example: torpor status --json | jq .oldest_overdue_seconds
    """
    overview = standing.overview(_services(context))
    if as_json:
        console.print_json(overview)
        return
    limit = overview.memory_limit_bytes
    console.print_facts(
        {
            "live in Redis": f"{overview.live:,}",
            "due": f"{overview.due:,}",
            "in work": f"{overview.in_work:,}",
            "quarantined": f"{overview.quarantined:,}",
            "archived since start": f"{overview.archived:,}",
            "restored since start": f"{overview.restored:,}",
            "oldest overdue": console.span(overview.oldest_overdue_seconds),
            "Redis memory": console.size(overview.memory_bytes) + (f" of {console.size(limit)}" if limit else ""),
            "shards": str(overview.shards),
            "archive": overview.archive,
        }
    )
    for warning in overview.warnings:
        console.err.print(f"warning: {warning}", markup=False)


@app.command()
def sessions(
    context: typer.Context,
    *,
    due: Annotated[bool, typer.Option("--due", help="Only those that are due.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
) -> None:
    """List the sessions in Redis, in no particular order.

    Example: torpor sessions --due --limit 20
    """
    found = list(islice(_walk(_services(context), due=due), limit))
    if as_json:
        for info in found:
            console.print_json(info)
        return
    now = datetime.now(UTC)
    console.print_table(
        ("session", "status", "messages", "archived", "idle for", "due in", "owner"),
        [
            (
                info.session_id,
                info.status,
                f"{info.message_count:,}",
                f"{info.archived_count:,}",
                console.span(max(now - info.last_active, timedelta())),
                console.span(max(info.due_at - now, timedelta())) if info.due_at else "-",
                info.owner or "-",
            )
            for info in found
        ],
    )
    if len(found) == limit:
        console.err.print(f"the first {limit:,}; --limit shows more")


@app.command()
def show(context: typer.Context, session: Session, *, as_json: Json = False) -> None:
    """Print a session's transcript, from Redis or the archive, without waking it.

    Example: torpor show user-42
    """
    elements = restoring.read_transcript(_services(context), check_session_id(session))
    if as_json:
        sys.stdout.buffer.write(interchange.export_line(session, elements))
    else:
        console.print_transcript(decode_message(element) for element in elements)


@app.command()
def archive(context: typer.Context, session: Session, *, as_json: Json = False) -> None:
    """Put a session to sleep now, due or not.

    Example: torpor archive user-42
    """
    services = _services(context, changes_archive=True)
    with console.err.status("archiving"):
        result = archiving.archive_session(services, session)
        if result.outcome is Outcome.MISSING and not holdings.look(services.archive, session):
            raise SessionNotFound(f"session {session!r} is neither in Redis nor in the archive")
    if as_json:
        console.print_json({**asdict(result), "error": str(result.error) if result.error else None})
    elif result.outcome is Outcome.ARCHIVED:
        console.out.print(f"archived: {result.messages:,} messages", markup=False)
    elif result.outcome is Outcome.MISSING:
        console.out.print("asleep already", markup=False)
    if result.outcome not in (Outcome.ARCHIVED, Outcome.MISSING):
        _refuse_archive(result)


@app.command()
def restore(context: typer.Context, session: Session, *, as_json: Json = False) -> None:
    """Wake a session up: its archived messages go before whatever was written meanwhile.

    Example: torpor restore user-42
    """
    with console.err.status("restoring"):
        result = restoring.restore_session(_services(context, changes_archive=True), session)
    if as_json:
        console.print_json(result)
    elif result.outcome is RestoreOutcome.RESTORED:
        console.out.print(f"restored: {result.messages:,} messages from the archive", markup=False)
    elif result.outcome is RestoreOutcome.WHOLE:
        console.out.print("awake already: nothing of it is in the archive alone", markup=False)
    for fork in result.forks:
        console.err.print(f"left aside, since another was archived later: {fork}", markup=False)
    if result.outcome is RestoreOutcome.SUPERSEDED:
        raise TransientError("the session was closed, cleared or restored by somebody else meanwhile; try again")


@app.command()
def purge(
    context: typer.Context,
    session: Session,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Remove a session for good, from Redis and from the archive.

    Example: torpor purge user-42 --dry-run
    """
    services = _services(context, changes_archive=not dry_run)
    found = purging.survey(services, check_session_id(session))
    if not (found.in_redis or found.objects):
        raise SessionNotFound(f"session {session!r} is neither in Redis nor in the archive")
    what = f"{found.live_messages:,} messages in Redis, {found.objects:,} objects ({console.size(found.bytes)})"
    if not dry_run:
        if not yes:
            typer.confirm(f"Remove {console.one_line(session)} for good: {what}?", abort=True, err=True)
        with console.err.status("purging"):
            purging.purge_session(services, session)
    if as_json:
        console.print_json({**asdict(found), "dry_run": dry_run})
    else:
        console.out.print(f"{'would purge' if dry_run else 'purged'}: {what}", markup=False)


@app.command()
def events(
    context: typer.Context,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with each that comes.")] = False,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many of the last ones.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
) -> None:
    """Tell what has happened to sessions, oldest first: archived, restored, purged, failed.

    Example: torpor events --follow --json | jq 'select(.kind == "session.quarantined")'
    """
    for identity, fields in happenings.follow(_services(context), count=count, forever=follow):
        if as_json:
            console.print_json({"id": identity, **fields})
            continue
        at = datetime.fromtimestamp(int(identity.partition("-")[0]) / 1000, UTC)
        rest = " ".join(f"{name}={value}" for name, value in fields.items() if name not in ("kind", "session"))
        what = f"{at:%Y-%m-%d %H:%M:%S} {fields.get('kind')} {fields.get('session')} {rest}"
        console.out.print(console.one_line(what), markup=False, soft_wrap=True)


@app.command()
def quarantine(
    context: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
) -> None:
    """List the sessions that could not be archived, with the reason; they stay in Redis, untouched.

    Example: torpor quarantine --json | jq -r .session_id
    """
    found = _walk(_services(context), quarantined=True)
    if as_json:
        for info in found:
            console.print_json(info)
        return
    rows = [(info.session_id, f"{info.message_count:,}", str(info.attempts), info.error or "-") for info in found]
    console.print_table(("session", "messages", "attempts", "error"), rows)


@app.command()
def requeue(
    context: typer.Context,
    session: Annotated[list[str] | None, typer.Argument(metavar="SESSION", help="Session ids.")] = None,
    *,
    all_: Annotated[bool, typer.Option("--all", help="Every session in quarantine.")] = False,
) -> None:
    """Take sessions out of quarantine: due now, their failed attempts forgotten.

    Example: torpor requeue user-42
    """
    if bool(session) == all_:
        raise InvalidArgument("name sessions, or give --all")
    sessions = _services(context).sessions
    for each in list(sessions.sessions(quarantined=True)) if all_ else session or []:
        if not sessions.requeue(each) and not all_:
            raise SessionNotFound(f"session {each!r} is not in quarantine")
        console.out.print(f"requeued: {console.one_line(each)}", markup=False)


@app.command()
def doctor(
    context: typer.Context,
    *,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended.")] = False,
    assume: Annotated[
        Assumption | None, typer.Option(help="What messages are that may be archived ones, where nothing proves it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
) -> None:
    """Look for sessions and index entries that don't fit together; exit code 1 where something is left to mend.

    Example: torpor doctor --repair
    """
    left = 0
    for finding in examining.examine(_services(context), repair=repair, assume=assume):
        left += not finding.mended
        if as_json:
            console.print_json(finding)
        else:
            done = "mended" if finding.mended else "found"
            what = (
                f"{console.one_line(finding.session_id)}: {finding.ailment}" if finding.session_id else finding.ailment
            )
            console.out.print(f"{done}: {what}{f' ({finding.detail})' if finding.detail else ''}", markup=False)
    if left:
        raise TorporError(f"{left:,} things need mending" + ("" if repair else ": torpor doctor --repair"))


@app.command("import")
def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help='Lines of {"session_id", "messages": [...]}.')],
    *,
    ttl: Annotated[int | None, typer.Option(help="Idle timeout of the sessions, in seconds.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check the file and tell what is new.")] = False,
    as_json: Json = False,
) -> None:
    """Write conversations to Redis; sessions that exist already are skipped, so it can be run again.

    Example: torpor import conversations.jsonl --ttl 3600
    """
    total = interchange.count(file)
    expiry = Expiry.of_seconds(ttl)
    with console.progress(total) as bars:
        task = bars.add_task("checking" if dry_run else "importing", total=total)
        result = interchange.import_file(
            _services(context, changes_archive=not dry_run),
            file,
            expiry=expiry,
            dry_run=dry_run,
            progress=lambda: bars.advance(task),
        )
    if as_json:
        console.print_json({**asdict(result), "dry_run": dry_run})
        return
    verb = "would import" if dry_run else "imported"
    console.out.print(
        f"{verb}: {result.sessions:,} sessions, {result.messages:,} messages; "
        f"{result.skipped:,} sessions exist already",
        markup=False,
    )


@app.command()
def export(
    context: typer.Context,
    session: Session,
    *,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Instead of standard output.")] = None,
) -> None:
    """Print a session as one JSON line that `torpor import` reads, without waking it.

    Example: torpor export user-42 -o user-42.jsonl
    """
    elements = restoring.read_transcript(_services(context), check_session_id(session))
    line = interchange.export_line(session, elements)
    if output is None:
        sys.stdout.buffer.write(line)
        return
    try:
        output.write_bytes(line)
    except OSError as exc:
        raise InvalidArgument(f"{output} can't be written: {exc.strerror}") from exc


@app.command()
def demo(
    conversations: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Conversations to play instead of the bundled sample.")
    ] = None,
    redis_url: Annotated[
        str | None, typer.Option(help="A real Redis instead of the embedded one; its other keys are not touched.")
    ] = None,
    archive_url: Annotated[str | None, typer.Option(help="Instead of a folder of the demo's own.")] = None,
) -> None:
    """Show the way of a session, from live to archived and back, with nothing installed but Python.

    Example: torpor demo --conversations conversations.jsonl
    """
    try:
        from worker.demo import run
    except ImportError as exc:
        raise SettingsError(f"the demo needs more packages: pip install 'torpor[demo]' ({exc})") from exc
    run(conversations, redis_url, archive_url)


def main() -> None:
    """Run the command; turn errors into a line on standard error and an exit code."""
    try:
        app()
    except (SettingsError, InvalidArgument, ImportFailed) as error:
        _fail(error, 2)
    except SessionNotFound as error:
        _fail(error, 3)
    except TransientError as error:
        _fail(error, 4)
    except TorporError as error:
        _fail(error, 1)


def _fail(error: TorporError, code: int) -> NoReturn:
    console.err.print(f"torpor: {console.printable(str(error))}", markup=False, soft_wrap=True)
    sys.exit(code)


def _services(context: typer.Context, *, changes_archive: bool = False) -> Services:
    settings = load_settings(context.obj)
    return open_deployment(settings) if changes_archive else connect(settings)


def _refuse_archive(result: archiving.Archived) -> NoReturn:
    reasons = {
        Outcome.KEPT: "it has been used meanwhile and stays in Redis; what was there is archived",
        Outcome.SUPERSEDED: "it was cleared, purged or restored meanwhile",
        Outcome.ERASING: "what it held before its clear is being erased",
        Outcome.BUSY: "a worker has it in hand",
    }
    if result.outcome in reasons:
        raise TransientError(f"session {result.session_id!r}: {reasons[result.outcome]}; try again")
    if result.outcome is Outcome.QUARANTINED and result.error is None:
        raise TorporError(f"session {result.session_id!r} is in quarantine")
    raise result.error or TorporError(f"session {result.session_id!r}: {result.outcome}")


def _walk(services: Services, *, due: bool = False, quarantined: bool = False) -> Iterator[SessionInfo]:
    """Describe the sessions of the index; one that can't be described is told on standard error."""
    ids = services.sessions.sessions(quarantined=True)
    if not quarantined:
        ids = chain(services.sessions.sessions(), ids)
    while page := list(islice(ids, 500)):
        for session_id, info in zip(page, services.sessions.infos(page), strict=True):
            if isinstance(info, TorporError):
                console.err.print(f"{console.one_line(session_id)}: {info}; see torpor doctor", markup=False)
            elif info and (not due or info.status is Status.DUE):
                yield info
