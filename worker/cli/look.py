"""The commands that only read sessions: a list of them, one transcript, and the events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated

import typer

from torpor.worker.cli import console
from torpor.worker.cli.shared import Json, JsonLines, Session, redis_of, services_of, walk


def sessions(
    context: typer.Context,
    *,
    due: Annotated[bool, typer.Option("--due", help="List only due sessions.")] = False,
    conflicts: Annotated[
        bool, typer.Option("--conflicts", help="List the session ids that two owners have used, awake and asleep.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="List at most this many.")] = 100,
    as_json: JsonLines = False,
) -> None:
    """List the sessions in Redis, in no particular order.

    With --conflicts, list each session id that somebody else has written to while its session slept: what its owner
    has, and the other side, with the id under which it can be shown, exported and purged. If both sides are under the
    same id, torpor separate gives the other one its own. This lists the archive and looks each session up in Redis.

    Example: torpor sessions --due --limit 20

    Example: torpor sessions --conflicts --json
    """
    if conflicts:
        _conflicts(context, limit, as_json=as_json)
        return
    found = list(islice(walk(redis_of(context), due=due), limit))
    if as_json:
        for info in found:
            console.print_json(info)
        return
    now = datetime.now(UTC)
    console.print_table(
        ("session", "kind", "status", "messages", "archived", "idle for", "due in", "owner"),
        [
            (
                info.session_id,
                info.kind or "-",
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
        console.warn(f"the first {limit:,}; --limit shows more")


def _conflicts(context: typer.Context, limit: int, *, as_json: bool) -> None:
    from torpor.worker.ops import conflicts

    services = services_of(context)
    with console.working("looking") as status:
        looked = conflicts.find(services, lambda count: status.update(f"looking: {count:,} sessions of the archive"))
        found = list(islice(looked, limit))
    if as_json:
        for conflict in found:
            console.print_json(conflict)
        return
    console.print_table(
        ("session", "owner", "messages", "in", "other session", "other owner", "messages", "in"),
        [
            (
                each.session,
                *_side(each.own.owner, each.own.messages, each.own.place),
                each.other.session,
                *_side(each.other.owner, each.other.messages, each.other.place),
            )
            for each in found
        ],
    )


def _side(owner: str | None, messages: int, place: str) -> tuple[str, str, str]:
    return owner or "-", f"{messages:,}", place


def show(context: typer.Context, session: Session, *, as_json: Json = False) -> None:
    """Print the transcript of a session without waking it.

    The messages come from Redis, from the archive, or from both. If one can't be read, its position is shown in its
    place, and the exit code is 1.

    Example: torpor show user-42
    """
    from torpor.history.protocol import MessageCorrupt, check_session_id
    from torpor.worker.transfer import json_lines
    from torpor.worker.wake.read import open_transcript

    with open_transcript(services_of(context), check_session_id(session)) as transcript:
        if as_json:
            console.print_json_parts(json_lines.export_line(session, transcript.elements, transcript.owner))
            return
        from torpor.worker.transfer.speech import NAMED, speeches  # loads LangChain

        corrupt: list[int] = []
        console.print_transcript(speeches(transcript.elements, corrupt))
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
            console.print_json({"id": identity, **fields})
            continue
        at = datetime.fromtimestamp(int(identity.partition("-")[0]) / 1000, UTC)
        rest = " ".join(f"{name}={value}" for name, value in fields.items() if name not in ("kind", "session"))
        what = f"{at:%Y-%m-%d %H:%M:%S} {fields.get('kind')} {fields.get('session', '-')} {rest}"
        console.say(console.one_line(what))
