"""A person: all sessions of an owner, awake and asleep, with the legal holds and purges that concern them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice

from starlette.responses import Response

from torpor.history.protocol import InvalidArgument, StandingHold, TorporError, check_owner
from torpor.worker.access import counting, listing, look_alikes
from torpor.worker.access.counting import Counted
from torpor.worker.access.cursor import Cursor, Stretch
from torpor.worker.access.listing import AsleepSession, Listed
from torpor.worker.console.visit import Visit
from torpor.worker.erasure import known
from torpor.worker.erasure.order import Target
from torpor.worker.retention import legal_hold

_PAGE = 50


@dataclass(frozen=True, slots=True)
class Row:
    """A session of the list. With an `error`, its metadata can't be read, and the rest is None."""

    session_id: str
    is_asleep: bool
    status: str
    kind: str | None = None
    messages: int | None = None
    last_active: datetime | None = None
    hold: StandingHold | None = None
    error: str | None = None


def show(visit: Visit) -> Response:
    """The page of an owner; without an owner, the field in which to name one."""
    owner = visit.given("owner", "")
    if not owner:
        return visit.page("people.html")
    services = visit.services
    cursor = cursor_of(visit.given("cursor", ""))
    # The first page counts, and the walk that does so has the ids of the list too.
    counted = None if cursor else counting.count(services, check_owner(owner))
    listed = _listed(visit, check_owner(owner), cursor, counted)
    shown, more = listed[:_PAGE], listed[_PAGE:]
    return visit.page(
        "person.html",
        owner=owner,
        rows=list(_rows(visit, shown)),
        is_first=not cursor,
        counted=counted,
        similar=[] if cursor else look_alikes.find(services, owner),
        hold=services.sessions.hold_of_owner(owner),
        open_purges=list(known.unfinished(services, Target(owner=owner))),
        following=visit.path("/person", owner=owner, cursor=shown[-1].cursor) if more else None,
    )


def cursor_of(text: str) -> Cursor | None:
    """The cursor of an owner's list; raises InvalidArgument."""
    cursor = Cursor.parse(text) if text else None
    if cursor and cursor.stretch is not Stretch.OWNED:
        raise InvalidArgument("the cursor is of another list: begin at the first page")
    return cursor


def _listed(visit: Visit, owner: str, after: Cursor | None, counted: Counted | None) -> list[Listed]:
    """The sessions of a page, and one more if there is one."""
    if counted and not counted.more:
        pages = listing.described(visit.services, counted.ids)
    else:
        pages = listing.of_owner(visit.services, owner, after)
    return list(islice(chain.from_iterable(pages), _PAGE + 1))


def _rows(visit: Visit, listed: list[Listed]) -> Iterator[Row]:
    holds = legal_hold.of_sessions(visit.services, [each.session_id for each in listed])
    for each, hold in zip(listed, holds, strict=True):
        found = each.found
        if isinstance(found, TorporError):
            yield Row(each.session_id, is_asleep=False, status="unreadable", hold=hold, error=str(found))
            continue
        yield Row(
            each.session_id,
            is_asleep=isinstance(found, AsleepSession),
            status=found.status,
            kind=found.kind,
            messages=found.message_count,
            last_active=found.last_active,
            hold=hold,
        )
