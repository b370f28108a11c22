"""Legal holds: the list of them, and one of a session or an owner, which a person may set and release."""

from __future__ import annotations

from heapq import nsmallest

from starlette.responses import Response

from torpor.history.protocol import InvalidArgument, StandingHold, check_owner, check_session_id
from torpor.worker.audit.entry import Act
from torpor.worker.console.visit import Visit
from torpor.worker.deployment import identity
from torpor.worker.errors import HoldNotFound
from torpor.worker.retention import legal_hold
from torpor.worker.retention.legal_hold import HoldResult

_PAGE = 50


def every(visit: Visit) -> Response:
    """The list, by kind and id. Each page reads all holds, and keeps those that it shows."""
    after = (visit.given("kind", ""), visit.given("id", ""))
    standing = (each for each in visit.services.sessions.standing_holds() if _place(each) > after)
    found = nsmallest(_PAGE + 1, standing, key=_place)
    shown = found[:_PAGE]
    following = visit.path("/holds", kind=shown[-1].kind, id=shown[-1].id) if found[_PAGE:] else None
    return visit.page("holds.html", holds=shown, is_first=after == ("", ""), following=following)


def one(visit: Visit) -> Response:
    """Whether a session or an owner is under a hold of its own, and the form to set or release it."""
    session, owner = _named(visit)
    if owner is not None:
        hold = legal_hold.of_owner(visit.services, owner)
    else:
        [records] = visit.services.sessions.hold_records([(session or "", [])])
        hold = records.own.hold
    return visit.page("hold.html", session=session, owner=owner, hold=hold)


def put(visit: Visit) -> Response:
    """Set a hold."""
    done = _change(visit, Act.HOLD, visit.reason())
    later = "" if done and done.sessions else " Nothing is known of this owner yet: the hold is for sessions to come."
    return visit.go_to(_back(visit), f"The legal hold is set.{later}")


def release(visit: Visit) -> Response:
    """Release a hold."""
    visit.reason()
    done = _change(visit, Act.UNHOLD, None)
    if done is None:
        raise HoldNotFound("there is no such legal hold any more: somebody else has released it")
    return visit.go_to(_back(visit), "The legal hold is released.")


def _change(visit: Visit, act: Act, reason: str | None) -> HoldResult | None:
    session, owner = _named(visit)
    services, by = visit.services, visit.person.name
    identity.require(services.sessions, services.archive)
    with visit.audited(act, sessions=[] if session is None else [session], owner=owner) as count:
        if owner is not None:
            done = legal_hold.hold_owner(services, owner, reason, by=by)
        else:
            done = legal_hold.hold_session(services, session or "", reason, by)
        count.sessions = done.sessions if done else 0
    return done


def _named(visit: Visit) -> tuple[str | None, str | None]:
    """The session or the owner that the request names; raises InvalidArgument for none or both."""
    session, owner = visit.given("session", ""), visit.given("owner", "")
    if bool(session) == bool(owner):
        raise InvalidArgument("the request must name a session or an owner")
    return (check_session_id(session), None) if session else (None, check_owner(owner))


def _back(visit: Visit) -> str:
    session, owner = _named(visit)
    return visit.path("/hold", session=session) if session else visit.path("/person", owner=owner or "")


def _place(hold: StandingHold) -> tuple[str, str]:
    return hold.kind, hold.id
