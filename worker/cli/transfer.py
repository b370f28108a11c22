"""The commands that take conversations in from a file and give them out again."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from history import Expiry, InvalidArgument, check_session_id
from worker import console, interchange
from worker import restore as restoring
from worker.cli.shared import Json, Session, services_of


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
            services_of(context, changes_archive=not dry_run),
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


def export(
    context: typer.Context,
    session: Session,
    *,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Instead of standard output.")] = None,
) -> None:
    """Print a session as one JSON line that `torpor import` reads, without waking it.

    Example: torpor export user-42 -o user-42.jsonl
    """
    elements = restoring.read_transcript(services_of(context), check_session_id(session))
    line = interchange.export_line(session, elements)
    if output is None:
        sys.stdout.buffer.write(line)
        return
    try:
        output.write_bytes(line)
    except OSError as exc:
        raise InvalidArgument(f"{output} can't be written: {exc.strerror}") from exc
