"""The commands that show what is there: one transcript, and the events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from torpor.worker.audit.act import Act
from torpor.worker.audit.entry import Subject
from torpor.worker.audit.trail import Who
from torpor.worker.cli import printing
from torpor.worker.cli.audited import By, Reason, audited
from torpor.worker.cli.shared import Json, JsonLines, Session, redis_of, services_of


def show(context: typer.Context, session: Session, *, by: By = "", reason: Reason = "", as_json: Json = False) -> None:
    """Print the transcript of a session without waking it.

    The messages come from Redis, from the archive, or from both. If one can't be read, its position is shown in its
    place, and the exit code is 1. The audit trail says that the session was shown.

    Example: torpor show user-42
    """
    from torpor.history.protocol import MessageCorrupt, check_session_id
    from torpor.worker.transfer import json_lines
    from torpor.worker.wake.read import open_transcript

    services = services_of(context)
    shown = audited(services, Act.SHOW, Who(by, reason), Subject(sessions=[check_session_id(session)]))
    with shown as count, open_transcript(services, session) as transcript:
        count.sessions = 1
        if as_json:
            printing.print_json_parts(json_lines.export_line(session, transcript.elements, transcript.owner))
            return
        from torpor.worker.transfer.speech import NAMED, speeches  # loads LangChain

        corrupt: list[int] = []
        printing.print_transcript(speeches(transcript.elements, corrupt))
    if corrupt:
        positions = ", ".join(map(str, corrupt[:NAMED])) + (", ..." if len(corrupt) > NAMED else "")
        raise MessageCorrupt(f"message {positions} of session {session!r} can't be read; --json has all bytes")


def events(
    context: typer.Context,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for new events and print them, until Ctrl-C.")
    ] = False,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Begin with this many of the latest events.")] = 20,
    as_json: JsonLines = False,
) -> None:
    """List what happened to sessions, oldest first.

    A session was archived, restored or purged, an attempt has failed, or the archive is unavailable or available again.

    Example: torpor events --follow --json | jq 'select(.kind == "session.quarantined")'
    """
    from torpor.worker.deployment import events as happenings

    for identity, fields in happenings.follow(redis_of(context), count=count, forever=follow):
        if as_json:
            printing.print_json({"id": identity, **fields})
            continue
        at = datetime.fromtimestamp(int(identity.partition("-")[0]) / 1000, UTC)
        rest = " ".join(f"{name}={value}" for name, value in fields.items() if name not in ("kind", "session"))
        what = f"{at:%Y-%m-%d %H:%M:%S} {fields.get('kind')} {fields.get('session', '-')} {rest}"
        printing.say(printing.one_line(what))
