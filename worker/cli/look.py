"""The commands that only read: the state of the deployment, its sessions, one transcript, the events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from torpor.worker.cli import console
from torpor.worker.cli.shared import Json, JsonLines, Session, connected, redis_of, services_of, walk

if TYPE_CHECKING:
    from torpor.history.protocol import ArchiveHealth, WorkerHealth
    from torpor.worker.ops.status import Belonging, Overview

# For so many seconds, status asks an archive that does not answer.
_PATIENCE = 2.0


def status(
    context: typer.Context,
    *,
    archive: Annotated[
        bool, typer.Option("--archive/--no-archive", help="Compare the archive with Redis, or leave it.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Show the sessions, the overdue work and the memory of the deployment.

    If Redis and the archive do not belong together, so that workers refuse all work, the exit code is 2.

    Example: torpor status --json | jq .oldest_overdue_seconds
    """
    from torpor.worker.ops import status as standing

    overview = standing.overview(connected(context, patience=_PATIENCE), archive=archive)
    if as_json:
        console.print_json(overview)
    else:
        _print(overview)
    if overview.deployment.refused:
        console.warn(f"torpor: {console.one_line(str(overview.deployment.problem))}")
        raise typer.Exit(2)


def _print(overview: Overview) -> None:
    limit = overview.memory_limit_bytes
    console.print_facts(
        {
            "archive health": _health_of(overview.archive_health),
            "Redis and archive": _belonging_of(overview.deployment),
            "live in Redis": f"{overview.live:,}",
            "due": f"{overview.due:,}",
            "in work": f"{overview.in_work:,}",
            "postponed": f"{overview.postponed:,}",
            "quarantined": f"{overview.quarantined:,}",
            "archived since start": f"{overview.archived:,}",
            "restored since start": f"{overview.restored:,}",
            "tombstones": f"{overview.tombstones:,}",
            "oldest overdue": console.span(overview.oldest_overdue_seconds),
            "Redis memory": console.size(overview.memory_bytes) + (f" of {console.size(limit)}" if limit else ""),
            "shards": str(overview.shards),
            "archive": overview.archive,
            **{f"archive for {each.worker}": _notes_of(each) for each in overview.archive_health.workers},
        }
    )
    for warning in overview.warnings:
        console.warn(f"warning: {console.one_line(warning)}")


def _health_of(health: ArchiveHealth) -> str:
    """Whether the archive works, in a word."""
    if health.unavailable_since:
        return f"unavailable for {console.span(max(datetime.now(UTC) - health.unavailable_since, timedelta()))}"
    return "available" if health.workers else "no worker has used the archive in the last day"


def _belonging_of(deployment: Belonging) -> str:
    """Whether Redis and the archive belong together, in a few words."""
    from torpor.worker.deployment.identity import State

    words = {
        State.AGREE: "belong together",
        State.NEW: "were not used together yet",
        State.DISAGREE: "do not belong together: workers refuse all work",
    }
    return words[deployment.state] if deployment.state else f"not compared: {deployment.problem}"


def _notes_of(worker: WorkerHealth) -> str:
    """When the archive has last worked for a worker, and when and why it has failed."""
    now = datetime.now(UTC)
    moments = {"worked": worker.last_success, "failed": worker.last_failure}
    ago = [f"{what} {console.span(max(now - at, timedelta()))} ago" for what, at in moments.items() if at]
    return ", ".join(ago) + (f": {worker.error}" if worker.error else "")


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
