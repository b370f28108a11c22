"""The command that lists sessions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated

import typer

from torpor.history.protocol import SessionInfo, SessionKind, Status, TorporError
from torpor.worker.access import listing
from torpor.worker.access.cursor import Cursor
from torpor.worker.access.listing import AsleepSession, Listed, Page
from torpor.worker.access.search import Search
from torpor.worker.cli import Interrupted, printing
from torpor.worker.cli.life import life_of
from torpor.worker.cli.shared import JsonLines, redis_of, services_of, warn_of_look_alikes, warn_unreadable
from torpor.worker.deployment.services import Services
from torpor.worker.pace import Pace
from torpor.worker.quantities import moment_of

_COLUMNS = ("session", "kind", "status", "messages", "archived", "idle for", "due in", "owner")


def sessions(
    context: typer.Context,
    *,
    session: Annotated[
        str | None, typer.Option("--id", help="Show one session, awake or asleep: its facts, its life and its objects.")
    ] = None,
    owner: Annotated[str | None, typer.Option(help="List the sessions of an owner, awake and asleep, by id.")] = None,
    asleep: Annotated[bool, typer.Option("--asleep", help="List the sessions that only the archive has.")] = False,
    all_: Annotated[bool, typer.Option("--all", help="List those in Redis, then those asleep.")] = False,
    kind: Annotated[SessionKind | None, typer.Option(help="List only sessions of this kind.")] = None,
    prefix: Annotated[str, typer.Option(help="List only sessions whose ids begin so.")] = "",
    since: Annotated[
        str | None,
        typer.Option(metavar="SPAN|MOMENT", help="List only sessions that were active since: 7d, 12h or 2026-11-29."),
    ] = None,
    due: Annotated[bool, typer.Option("--due", help="List only due sessions.")] = False,
    conflicts: Annotated[
        bool, typer.Option("--conflicts", help="List the session ids that two owners have used, awake and asleep.")
    ] = False,
    count_asleep: Annotated[
        bool, typer.Option("--count-asleep", help="Count the sessions that only the archive has, for torpor status.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="List at most this many.")] = 100,
    cursor: Annotated[
        str | None, typer.Option(help="Go on after the session that had this cursor; give the other options again.")
    ] = None,
    rate: Annotated[
        float, typer.Option(min=1, help="Without --owner: look at no more than this many sessions a second.")
    ] = 5_000,
    as_json: JsonLines = False,
) -> None:
    """List sessions: those in Redis, those asleep, or an owner's.

    With --owner, all sessions of the owner are listed, awake and asleep. That costs little, however many sessions there
    are. Without it, the index of Redis is read, and with --asleep or --all the archive is listed: what is found is
    printed at once, and Ctrl-C ends it. Each object of --json has the cursor of the page after it.

    With --id, show all that is known of one session without its messages: its state, its legal holds, what has happened
    to it, and its objects in the archive. That costs little, however many sessions there are.

    With --conflicts, list each session id that somebody else has written to while its session slept: what its owner
    has, and the other side, with the id under which it can be shown, exported and purged. If both sides are under the
    same id, torpor separate gives the other one its own. This lists the archive and looks each session up in Redis.

    With --count-asleep, the archive is listed, and only the number of sessions asleep is printed. torpor status and the
    console show it from then on. Any list of those asleep that comes to its end counts them, too.

    Example: torpor sessions --owner ann --json

    Example: torpor sessions --id user-42 --json

    Example: torpor sessions --due --limit 20

    Example: torpor sessions --all --prefix support/ --since 7d

    Example: torpor sessions --conflicts --json
    """
    after = None if cursor is None else Cursor.parse(cursor)
    if session is not None:
        life_of(services_of(context), session, as_json=as_json)
        return
    if count_asleep:
        _count_asleep(services_of(context), Pace(rate), as_json=as_json)
        return
    if conflicts:
        _conflicts(context, limit, as_json=as_json)
        return
    needs_archive = owner is not None or asleep or all_
    services = services_of(context) if needs_archive else redis_of(context)
    search = Search(
        owner=owner,
        prefix=prefix,
        kind=kind,
        status=Status.DUE if due else None,
        since=None if since is None else moment_of(since, services.sessions.now),
        awake=not asleep,
        asleep=needs_archive,
        counts=True,
    )
    pages = search.pages(services, Pace(rate), after)
    chosen = filter(None, listing.chosen(pages, search.wants, warn_unreadable, limit))
    count = _print(chosen, limit, as_json=as_json)
    if owner is not None and not after:
        _tell_of_owner(services, owner, count)


def _tell_of_owner(services: Services, owner: str, count: int) -> None:
    if not count:
        printing.warn(f"no such session of owner {owner!r}")
    warn_of_look_alikes(services, owner)


@dataclass
class _Printed:
    """What was printed of a list: how many sessions, and the last one."""

    count: int = 0
    last: Listed | None = None

    def note(self, *listed: Listed) -> None:
        self.count += len(listed)
        self.last = listed[-1]


def _print(pages: Iterator[Page], limit: int, *, as_json: bool) -> int:
    """Print each page as soon as it is there, and tell how the list goes on if it does; returns how many they are."""
    printed = _Printed()
    try:
        if as_json:
            for page in pages:
                _print_json(page, printed)
        else:
            printing.print_table_in_parts(_COLUMNS, _parts(pages, printed))
    except Interrupted:
        if printed.last:
            printing.warn(f"to go on: --cursor {printed.last.cursor}")
        raise
    if printed.last and printed.count >= limit and not as_json:
        more = f"--limit shows more, and the same with --cursor {printed.last.cursor} the next ones"
        printing.warn(f"the first {printed.count:,}; {more}")
    return printed.count


def _print_json(page: Page, printed: _Printed) -> None:
    for each in page:
        assert not isinstance(each.found, TorporError), "the page has chosen sessions"
        printing.print_json({**asdict(each.found), "cursor": each.cursor})
        printed.note(each)
    sys.stdout.flush()


def _parts(pages: Iterator[Page], printed: _Printed) -> Iterator[list[tuple[str, ...]]]:
    for page in pages:
        yield _rows(page)
        printed.note(*page)


def _rows(page: Page) -> list[tuple[str, ...]]:
    now = datetime.now(UTC)
    return [_row(each.found, now) for each in page if not isinstance(each.found, TorporError)]


def _row(found: SessionInfo | AsleepSession, now: datetime) -> tuple[str, ...]:
    due_at, archived = (found.due_at, found.archived_count) if isinstance(found, SessionInfo) else (None, None)
    return (
        found.session_id,
        found.kind or "-",
        found.status,
        f"{found.message_count:,}",
        f"{found.message_count if archived is None else archived:,}",
        printing.span(max(now - found.last_active, timedelta())),
        printing.span(max(due_at - now, timedelta())) if due_at else "-",
        found.owner or "-",
    )


def _count_asleep(services: Services, pace: Pace, *, as_json: bool) -> None:
    with printing.working("counting") as status:
        count = 0
        for page in listing.asleep(services, pace, counts=True):
            count += len(page)
            status.update(f"counting: {count:,} sessions are asleep")
    if as_json:
        printing.print_json({"asleep": count})
    else:
        printing.say(f"asleep: {count:,} sessions")


def _conflicts(context: typer.Context, limit: int, *, as_json: bool) -> None:
    from torpor.worker.ops import conflicts

    services = services_of(context)
    with printing.working("looking") as status:
        looked = conflicts.find(
            services, warn_unreadable, lambda count: status.update(f"looking: {count:,} sessions of the archive")
        )
        found = list(islice(looked, limit))
    if as_json:
        for conflict in found:
            printing.print_json(conflict)
        return
    printing.print_table(
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
