"""What an operator does with a session: put it to sleep now, wake it, take it out of quarantine.

Each is done before the page answers, as by the command. If the browser goes away meanwhile, it is done to its end.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response

from torpor.history.protocol import SessionNotFound, Status, check_session_id
from torpor.worker.access.life import Life
from torpor.worker.archive import contents
from torpor.worker.audit.entry import Subject
from torpor.worker.audit.trail import Sides
from torpor.worker.console.visit import Visit
from torpor.worker.deployment import identity
from torpor.worker.sleep import attempt as archiving
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake import restore as restoring
from torpor.worker.wake.restore import RestoreOutcome


@dataclass(frozen=True, slots=True)
class Offer:
    """An act that makes sense with a session as it is."""

    act: str
    name: str
    what: str


_REQUEUE = Offer("requeue", "Take out of quarantine", "Makes it due again, and forgets its failed attempts.")
_SLEEP = Offer(
    "sleep",
    "Put to sleep now",
    "Archives it, verifies that, and deletes it from Redis if nobody has used it meanwhile.",
)
_WAKE = Offer("wake", "Wake", "Brings its archived messages back to Redis.")


def offers(seen: Life) -> list[Offer]:
    """What an operator may do with a session now."""
    if seen.purge is not None or not seen.is_readable:
        return []
    is_stuck = seen.state == Status.QUARANTINED
    has_more = seen.archived > 0 and not seen.complete
    return [
        *([_REQUEUE] if is_stuck else []),
        *([_SLEEP] if seen.is_awake and not is_stuck and not seen.unavailable else []),
        *([_WAKE] if has_more else []),
    ]


def why_less(seen: Life) -> str | None:
    """Why less is offered than for another session; None of a purged one, whose page says that it was purged."""
    if seen.purge is not None:
        return None
    if not seen.is_readable:
        return (
            "It can't be put to sleep, woken, shown or erased before it can be read again: find out with torpor doctor "
            "what Redis has under its keys, and mend or remove that."
        )
    if seen.unavailable:
        return "It can be put to sleep or woken when the archive answers again."
    if not seen.is_awake and not seen.archived:
        return "There is nothing to wake: none of its messages can be restored any more."
    return None


def sleep(visit: Visit) -> Response:
    """Put the session to sleep, even if it is not due."""
    session_id, services = _session(visit), visit.services
    identity.make(services.sessions, services.archive)
    with visit.audited(visit.optional_reason(), Subject(sessions=[session_id])) as count:
        result = archiving.archive_session(services, session_id)
        if result.outcome is Outcome.MISSING and not contents.look(services.archive, session_id):
            raise SessionNotFound(f"session {session_id!r} is neither in Redis nor in the archive")
        result.check()
        count.note(int(result.outcome is Outcome.ARCHIVED))
    if result.outcome is Outcome.MISSING:
        return _back(visit, "The session was asleep already.")
    return _back(visit, f"The session sleeps now. {result.messages:,} messages are verified in the archive.")


def wake(visit: Visit) -> Response:
    """Bring the archived messages of the session back to Redis."""
    session_id, services = _session(visit), visit.services
    identity.require(services.sessions, services.archive)
    with visit.audited(visit.optional_reason(), Subject(sessions=[session_id])) as count:
        result = restoring.restore_session(services, session_id)
        result.check()
        count.note(int(result.messages > 0))
    visit.warnings.extend(
        f"{name} was not restored, because a later archive has replaced it" for name in result.divergent
    )
    if result.outcome is RestoreOutcome.COMPLETE or not result.messages:
        return _back(visit, "The session was awake already: all of its messages are in Redis.")
    return _back(visit, f"The session is awake. {result.messages:,} messages came from the archive.")


def requeue(visit: Visit) -> Response:
    """Take the session out of quarantine, and make it due."""
    session_id, services = _session(visit), visit.services
    identity.check_recorded(services.sessions, services.archive.url)
    # As the command does, it works while the archive is down.
    named = Subject(sessions=[session_id])
    with visit.audited(visit.optional_reason(), named, sides=Sides.UNCOMPARED) as count:
        if not services.sessions.requeue(session_id):
            raise SessionNotFound(f"session {session_id!r} is not in quarantine")
        count.sessions = 1
    return _back(visit, "The session is due again. Its failed attempts are forgotten.")


def _session(visit: Visit) -> str:
    return check_session_id(visit.given("id"))


def _back(visit: Visit, said: str) -> Response:
    return visit.go_to(visit.path("/session", id=_session(visit)), said)
