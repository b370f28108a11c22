"""The command that shows the audit trail."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from torpor.worker.audit import reading
from torpor.worker.audit.act import Act
from torpor.worker.audit.reading import Entry, Wanted
from torpor.worker.cli import printing
from torpor.worker.cli.shared import JsonLines, services_of, warn_damaged
from torpor.worker.quantities import moment_of


def audit(
    context: typer.Context,
    *,
    by: Annotated[
        str | None, typer.Option(help="List only what this person has done, as --by or login named it.")
    ] = None,
    act: Annotated[Act | None, typer.Option(help="List only these acts.")] = None,
    session: Annotated[str | None, typer.Option(help="List only acts that named this session.")] = None,
    owner: Annotated[str | None, typer.Option(help="List only acts that named this owner.")] = None,
    purge: Annotated[str | None, typer.Option(metavar="ID", help="List only acts that named this purge.")] = None,
    job: Annotated[str | None, typer.Option(metavar="ID", help="List only acts that named this job.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="SPAN|MOMENT", help="List only acts that have begun since: 7d or 2026-11-29.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="List at most this many.")] = None,
    as_json: JsonLines = False,
) -> None:
    """List what people have done with sessions, oldest first.

    Each act that changes something or shows the text of messages has an entry: who, when, what, why, and how it has
    ended. An entry without an end is of a command that runs, or that was killed.

    Example: torpor audit --since 7d

    Example: torpor audit --act show --owner ann --json

    Example: torpor audit --job 20260101T120000Z-0a1b2c3d
    """
    wanted = Wanted(by, act, session, owner, purge, job)
    services = services_of(context)
    begun_since = None if since is None else moment_of(since, services.sessions.now)
    for each in islice(filter(wanted.has, reading.entries(services, warn_damaged, begun_since)), limit):
        if as_json:
            printing.print_json(each.fields())
        else:
            printing.say(printing.one_line(_line(each)))


def _line(entry: Entry) -> str:
    begun, ended = entry.begun, entry.ended
    subject = begun.subject
    named = f"{len(subject.sessions):,} sessions" if len(subject.sessions) > 1 else "".join(subject.sessions)
    what = {"session": named, **subject.named}
    about = " ".join(f"{name}={value}" for name, value in what.items() if value) or "all sessions"
    how = f"{ended.how}, {ended.sessions:,} sessions" if ended else "no end: it runs, or was killed"
    error = f", {ended.error}" if ended and ended.error else ""
    why = f" reason={begun.reason}" if begun.reason else ""
    who = f"by={begun.by or '-'} login={begun.login}{why}"
    return f"{begun.at:%Y-%m-%d %H:%M:%S} {begun.act} {about} {who} {how}{error}"
