"""The page of a session: what is known of it, its life, its objects, and what can be done with it."""

from __future__ import annotations

from starlette.responses import Response

from torpor.history.protocol import HoldKind
from torpor.worker.access.happenings import EVENTS
from torpor.worker.access.life import life
from torpor.worker.console.pages import session_acts
from torpor.worker.console.visit import Visit


def show(visit: Visit) -> Response:
    """The page."""
    seen = life(visit.services, visit.given("id"))
    own = next((hold for hold in seen.holds if hold.kind is HoldKind.SESSION), None)
    return visit.page(
        "session.html",
        seen=seen,
        hold=own,
        events=EVENTS,
        offers=session_acts.offers(seen),
        why_less=session_acts.why_less(seen),
        needs_reason=visit.services.settings.require_reason,
    )
