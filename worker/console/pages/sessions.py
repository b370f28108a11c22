"""The page that finds sessions: by an id, by an owner, or by a walk whose rows come while it goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from torpor.history.protocol import InvalidArgument, SessionInfo, SessionKind, Status, TorporError, check_session_id
from torpor.worker.access import listing
from torpor.worker.access.cursor import Cursor, Stretch
from torpor.worker.access.listing import AsleepSession, Page, Progress
from torpor.worker.access.search import Search
from torpor.worker.console.rendering import render_in_parts
from torpor.worker.console.searches import SEARCHES, Running
from torpor.worker.console.streamed import Streamed
from torpor.worker.console.visit import Visit
from torpor.worker.pace import Pace
from torpor.worker.quantities import moment_of

_PAGE = 100
# How often a walk that finds nothing says how far it is.
_SILENT_SECONDS = 0.5
_ASLEEP, _AWAKE, _TOMBSTONE = "asleep", "awake", "tombstone"
_STATUSES = {_TOMBSTONE if each is Status.PURGED else each.value: each for each in Status}
STATES = {"": "any", _AWAKE: "any, in Redis", **{name: name for name in _STATUSES}, _ASLEEP: _ASLEEP}
_FIELDS = ("id", "owner", "prefix", "kind", "state", "since")
_PLACES = {Stretch.AWAKE: "shards of Redis", Stretch.ASLEEP: "folders of the archive"}


@dataclass(frozen=True, slots=True)
class Row:
    """A session of the list, or only its id and the error that Redis has for it."""

    id: str
    error: str | None = None
    kind: str = "-"
    state: str = "-"
    messages: int = 0
    archived: int = 0
    idle: timedelta | None = None
    due_in: timedelta | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What a part of the page tells: the sessions that were found, and in words how far the walk is.

    `last` is the cursor after the last of them: a browser that stops shows no later part.
    """

    rows: Sequence[Row] = ()
    looked_at: str = ""
    last: str = ""


class Found:
    """The steps of a search, and what is known when they are over."""

    def __init__(self, visit: Visit, search: Search, after: Cursor | None, running: Running) -> None:
        pace = Pace(visit.settings.search_rate)
        pages = search.pages(visit.services, pace, after, self._note)
        self._pages = pages if search.is_walk else _paced(pages, pace)
        self._search = search
        self._running = running
        self._progress: Progress | None = None
        self.count = 0
        self.last = "" if after is None else str(after)
        self.is_whole = False
        self.error: str | None = None

    @property
    def looked_at(self) -> str:
        """How far the walk is, in words."""
        if self._progress is None:
            return ""
        return f"looked at {self._progress.done:,} of {self._progress.total:,} {_PLACES[self._progress.stretch]}"

    @property
    def is_stopped(self) -> bool:
        """True if somebody has stopped the search."""
        return self._running.stopped.is_set()

    def steps(self) -> Iterator[Step]:
        """Search until the page is full, until nothing is left, or until somebody stops it."""
        told = time.monotonic()
        try:
            for page in self._pages:
                rows = self._rows(page)
                if rows or time.monotonic() - told > _SILENT_SECONDS:
                    told = time.monotonic()
                    yield Step(rows, self.looked_at, self.last)
                if self.count >= _PAGE or self.is_stopped:
                    return
            self.is_whole = True
        except TorporError as error:  # the page has begun, and shows how to go on
            self.error = str(error)
        finally:
            SEARCHES.end(self._running)

    def _note(self, progress: Progress) -> None:
        self._progress = progress

    def _rows(self, page: Page) -> list[Row]:
        rows = []
        for each in page:
            if self.count >= _PAGE:
                break
            self.last = each.cursor
            if isinstance(each.found, TorporError) or self._search.wants(each.found):
                rows.append(row_of(each.session_id, each.found))
                self.count += 1
        return rows


def show(visit: Visit) -> Response:
    """The page: with an `id` that session; else a hundred sessions, after the `cursor`."""
    given = {name: visit.given(name, "") for name in _FIELDS}
    if given["id"]:
        if visit.given("cursor", "") or any(value for name, value in given.items() if name != "id"):
            raise InvalidArgument("a whole id names one session: leave the other fields empty")
        return _one(visit, given)
    search = _search(visit, given)
    cursor = visit.given("cursor", "")
    after = Cursor.parse(cursor) if cursor else None
    running = SEARCHES.begin(visit.person.name)
    try:
        found = Found(visit, search, after, running)
        parts = render_in_parts(visit.request, "sessions.html", **_values(given, found), running=running)
    except BaseException:
        SEARCHES.end(running)
        raise

    def ended() -> None:
        parts.close()
        SEARCHES.end(running)

    return Streamed(parts, ended)


def stop(visit: Visit) -> Response:
    """Have a search end. The browser stays on the page; most browsers also stop to load it, which ends any search."""
    SEARCHES.stop(visit.given("search"))
    return Response(status_code=204)


def row_of(session_id: str, found: SessionInfo | AsleepSession | TorporError) -> Row:
    """A row of the list."""
    if isinstance(found, TorporError):
        return Row(session_id, str(found))
    now = datetime.now(UTC)
    live = found if isinstance(found, SessionInfo) else None
    return Row(
        id=session_id,
        kind=found.kind or "-",
        state=_TOMBSTONE if found.status is Status.PURGED else str(found.status),
        messages=found.message_count,
        archived=live.archived_count if live else found.message_count,
        idle=max(now - found.last_active, timedelta()),
        due_in=max(live.due_at - now, timedelta()) if live and live.due_at else None,
        owner=found.owner,
    )


def _one(visit: Visit, given: Mapping[str, str]) -> Response:
    found = listing.find(visit.services, check_session_id(given["id"]))
    steps = [] if found is None else [Step([row_of(given["id"], found)])]
    return visit.page("sessions.html", **(_values(given, None) | {"steps": steps}), running=None)


def _search(visit: Visit, given: Mapping[str, str]) -> Search:
    state, kind = given["state"], given["kind"]
    if state not in STATES or kind not in ("", *SessionKind):
        raise InvalidArgument(f"a state is one of {', '.join(filter(None, STATES))}, and a kind chat or thread")
    return Search(
        owner=given["owner"] or None,
        prefix=given["prefix"],
        kind=SessionKind(kind) if kind else None,
        status=_STATUSES.get(state),
        since=moment_of(given["since"], visit.services.sessions.now) if given["since"].strip() else None,
        awake=state != _ASLEEP,
        asleep=state in ("", _ASLEEP),
    )


def _values(given: Mapping[str, str], found: Found | None) -> dict[str, Any]:
    asked = urlencode({name: value for name, value in given.items() if value})
    return {
        "given": given,
        "asked": asked,
        "states": STATES,
        "kinds": {"": "any", **{each.value: each.value for each in SessionKind}},
        "found": found,
        "steps": found.steps() if found else (),
    }


def _paced(pages: Iterator[Page], pace: Pace) -> Iterator[Page]:
    for page in pages:
        pace.wait(len(page))
        yield page
