"""Legal holds: the list of them, and one of a session or an owner, which a person may set and release."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from heapq import nsmallest

from starlette.responses import Response

from torpor.history.protocol import (
    HoldKind,
    InvalidArgument,
    RedisRefused,
    StandingHold,
    TransientError,
    check_owner,
    check_session_id,
)
from torpor.worker.audit.entry import Subject
from torpor.worker.console.visit import Visit
from torpor.worker.deployment import identity
from torpor.worker.errors import HoldNotFound
from torpor.worker.retention import legal_hold
from torpor.worker.retention.legal_hold import HoldResult

_PAGE = 50
# So long a browser waits; a hold of many sessions goes on after that.
_PATIENCE_SECONDS = 5.0
_GOES_ON = "Its objects in the archive are changed now; the audit trail says when that has ended."


def every(visit: Visit) -> Response:
    """The list, by kind and id. Each page reads all holds, and keeps those that it shows."""
    after = _after(visit)
    standing = (each for each in visit.services.sessions.standing_holds() if _place(each) > after)
    found = nsmallest(_PAGE + 1, standing, key=_place)
    shown = found[:_PAGE]
    following = visit.path("/holds", kind=shown[-1].kind, id=shown[-1].id) if found[_PAGE:] else None
    return visit.page("holds.html", holds=shown, is_first=after == ("", ""), following=following)


def one(visit: Visit) -> Response:
    """Whether a session or an owner is under a hold of its own, and the form to set or release it."""
    session, owner = _named(visit)
    is_replaced = False
    if owner is not None:
        hold = visit.services.sessions.hold_of_owner(owner)
    else:
        [hold] = legal_hold.of_sessions(visit.services, [session or ""])
        [described] = visit.services.sessions.infos([session or ""])
        is_replaced = isinstance(described, RedisRefused)
    return visit.page("hold.html", session=session, owner=owner, hold=hold, is_replaced=is_replaced)


def put(visit: Visit) -> Response:
    """Set a hold."""
    changed = _change(visit, is_held=True)
    if not changed.done():
        return visit.go_to(_back(visit), f"The legal hold is being set. {_GOES_ON}")
    later = (
        "" if changed.result().sessions else " Nothing is known of this owner yet: the hold is for sessions to come."
    )
    return visit.go_to(_back(visit), f"The legal hold is set.{later}")


def release(visit: Visit) -> Response:
    """Release a hold."""
    changed = _change(visit, is_held=False)
    if not changed.done():
        return visit.go_to(_back(visit), f"The legal hold is being released. {_GOES_ON}")
    changed.result()  # raises HoldNotFound
    return visit.go_to(_back(visit), "The legal hold is released.")


def _change(visit: Visit, *, is_held: bool) -> Future[HoldResult]:
    """Set or release a hold; it goes on in the background if there are many objects to change.

    The result raises HoldNotFound if there was none to release.
    """
    reason, (session, owner) = visit.reason(), _named(visit)
    services, by, background = visit.services, visit.person.name, visit.background
    identity.require(services.sessions, services.archive)
    with ExitStack() as stack:
        named = Subject(sessions=[] if session is None else [session], owner=owner)
        count = stack.enter_context(visit.audited(reason, named))
        own = stack.pop_all()
    held_for = reason if is_held else None

    def work() -> HoldResult:
        with own:
            if owner is not None:
                done = legal_hold.hold_owner(services, owner, held_for, lambda _: background.go_on(), by=by)
            else:
                done = legal_hold.hold_session(services, session or "", held_for, by)
            if done is None:
                raise HoldNotFound("there is no such legal hold any more: somebody else has released it")
            count.sessions = done.sessions
            return done

    try:
        return background.try_within(
            f"{visit.entry} of {'an owner' if owner else 'a session'}", _PATIENCE_SECONDS, work
        )
    except TransientError:
        return _at_once(work)


def _at_once(work: Callable[[], HoldResult]) -> Future[HoldResult]:
    """Do the work in this request: a hold must not wait until there is room."""
    future: Future[HoldResult] = Future()
    future.set_result(work())
    return future


def _named(visit: Visit) -> tuple[str | None, str | None]:
    """The session or the owner that the request names; raises InvalidArgument for none or both."""
    session, owner = visit.given("session", ""), visit.given("owner", "")
    if bool(session) == bool(owner):
        raise InvalidArgument("the request must name a session or an owner")
    return (check_session_id(session), None) if session else (None, check_owner(owner))


def _back(visit: Visit) -> str:
    session, owner = _named(visit)
    return visit.path("/hold", session=session) if session else visit.path("/person", owner=owner or "")


def _after(visit: Visit) -> tuple[str, str]:
    """The place of the hold that the page before has ended with; raises InvalidArgument."""
    kind, name = visit.given("kind", ""), visit.given("id", "")
    if not kind and not name:
        return "", ""
    if kind not in list(HoldKind):
        raise InvalidArgument(f"a hold is of one of {', '.join(HoldKind)}")
    return kind, check_owner(name) if kind == HoldKind.OWNER else check_session_id(name)


def _place(hold: StandingHold) -> tuple[str, str]:
    return hold.kind, hold.id
