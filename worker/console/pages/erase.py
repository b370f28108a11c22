"""Erasing: the dry run of a purge, and its order, which the console begins to carry out at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice

from starlette.responses import Response

from torpor.history.protocol import InvalidArgument
from torpor.worker.access import listing, look_alikes
from torpor.worker.access.cursor import Cursor, Stretch
from torpor.worker.audit.entry import Subject
from torpor.worker.console.carrying_out import carry_out_purge
from torpor.worker.console.pages.person import cursor_of
from torpor.worker.console.visit import Visit
from torpor.worker.control_characters import one_line
from torpor.worker.deployment import identity
from torpor.worker.erasure import known, purge
from torpor.worker.erasure.inventory import Tally
from torpor.worker.erasure.order import Order
from torpor.worker.erasure.survey import Surveyed

_PAGE = 50
# The sums of a dry run are those of all sessions, if they are no more than this.
_SUMMED = 1_000


@dataclass(frozen=True, slots=True)
class DryRun:
    """A page of what a purge would find, and the sums; with `more`, those of the first thousand sessions."""

    rows: Sequence[Surveyed]
    following: str | None
    removed: Tally
    kept: Counter[str]
    more: bool


def show(visit: Visit) -> Response:
    """The dry run, and the form that orders the purge. Nothing is changed."""
    services = visit.services
    identity.require(services.sessions, services.archive)
    order = _order(visit)
    known.check(services, order)
    place = services.sessions.identity()
    return visit.page(
        "erase.html",
        order=order,
        target=target_of(order),
        found=_dry_run(visit, order),
        is_first=not visit.given("cursor", ""),
        similar=[] if order.owner is None else look_alikes.find(services, order.owner),
        open_purges=list(known.unfinished(services, order.target)),
        place=place,
        archive=services.archive.url,
        tombstone_seconds=services.settings.tombstone_seconds,
    )


def place(visit: Visit) -> Response:
    """Order the purge, and begin with it. The order is in the archive before anything is removed."""
    reason = visit.reason()
    services = visit.services
    order = _order(visit, reason=reason, purge_id=visit.given("purge"))
    _check_typed(visit, order)
    identity.require(services.sessions, services.archive)
    others = [each for each in known.unfinished(services, order.target) if each != order.id]
    if others:
        return visit.go_to(visit.path("/purge", id=others[0]), "Nothing new was ordered: this one is not finished yet.")
    with ExitStack() as stack:
        count = stack.enter_context(visit.audited(reason, Subject(purge=order.id)))
        placed = known.place(services, order)
        carry_out_purge(services, visit.background, placed.id, count, stack)
    return visit.go_to(visit.path("/purge", id=placed.id))


def _order(visit: Visit, *, reason: str = "", purge_id: str | None = None) -> Order:
    """The order that the request is for. Its id is made with the form, so a form that is sent twice is one order."""
    session, owner = visit.given("session", "") or None, visit.given("owner", "") or None
    return Order.of(session=session, owner=owner, requested_by=visit.person.name, reason=reason, id=purge_id)


def target_of(order: Order) -> str:
    """The name of the session or the owner."""
    return order.session or order.owner or ""


def _check_typed(visit: Visit, order: Order) -> None:
    """Raise InvalidArgument unless the name was typed exactly, as it is or as the page shows it."""
    name, what = target_of(order), "session's id" if order.session else "owner's name"
    if visit.given("typed", "") not in (name, one_line(name)):
        raise InvalidArgument(f"nothing was erased: the {what} was not typed exactly as the page shows it")


def _dry_run(visit: Visit, order: Order) -> DryRun:
    services = visit.services
    cursor = cursor_of(visit.given("cursor", ""))
    if order.owner is None:
        rows = list(purge.look_at(services, order, [order.session or ""]))
        return DryRun(rows, None, *purge.sums(rows), more=False)
    ids = list(islice(listing.owned(services, order.owner, cursor.session_id if cursor else ""), _SUMMED + 1))
    page = ids[:_PAGE] if cursor else ids[:_SUMMED]
    found = list(purge.look_at(services, order, page))
    last = ids[:_PAGE][-1:]
    following = (
        visit.path("/erase", owner=order.owner, cursor=str(Cursor(Stretch.OWNED, last[0]))) if ids[_PAGE:] else None
    )
    shown = set(ids[:_PAGE])
    rows = [each for each in found if each.found.session in shown]
    return DryRun(rows, following, *purge.sums(found), more=len(ids) > len(page))
