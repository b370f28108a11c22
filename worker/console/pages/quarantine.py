"""Quarantine: the sessions that could not be archived, which an operator may take out of it."""

from __future__ import annotations

from urllib.parse import unquote

from starlette.responses import Response

from torpor.history.protocol import InvalidArgument, TorporError, check_session_id
from torpor.worker.audit.entry import Subject
from torpor.worker.audit.trail import Sides
from torpor.worker.console.visit import Visit
from torpor.worker.ops import quarantine

# A form may have 32 fields.
_PAGE = 25


def every(visit: Visit) -> Response:
    """The sessions in quarantine by id, with the reason of each."""
    after = visit.given("after", "")
    if after:
        check_session_id(after)

    def unreadable(session_id: str, error: TorporError) -> None:
        visit.warnings.append(f"left out: {session_id}: {error}; the doctor says more")

    sessions, last = quarantine.page(visit.services, _PAGE, after, unreadable)
    following = visit.path("/quarantine", after=last) if last is not None else None
    return visit.page("quarantine.html", sessions=sessions, is_first=not after, following=following)


def requeue(visit: Visit) -> Response:
    """Make the chosen sessions due."""
    chosen = [check_session_id(unquote(value)) for name, value in visit.form.items() if name.startswith("chosen-")]
    if not chosen:
        raise InvalidArgument("choose a session")
    # As the command does, it works while the archive is down.
    with visit.audited(visit.reason(), Subject(sessions=chosen), sides=Sides.UNCOMPARED) as count:
        count.note(sum(visit.services.sessions.requeue(each) for each in chosen))
    left = len(chosen) - count.sessions
    gone = f" {left:,} were not in quarantine any more." if left else ""
    return visit.go_to("/quarantine", f"{count.sessions:,} sessions are due again.{gone}")


def requeue_all(visit: Visit) -> Response:
    """Make all of them due."""
    left: list[str] = []
    with visit.audited(visit.reason(), Subject(), sides=Sides.UNCOMPARED) as count:
        count.note(0)
        quarantine.requeue_all(
            visit.services,
            lambda _: count.note(count.sessions + 1),
            lambda session_id, error: left.append(f"left in quarantine: {session_id}: {error}; the doctor says more"),
        )
    visit.warnings.extend(left)
    return visit.go_to("/quarantine", f"{count.sessions:,} sessions are due again.")
