"""The page of a session: what is known of it, its life, its objects, and what can be done with it."""

from __future__ import annotations

from starlette.responses import Response

from torpor.worker.access.happenings import EVENTS
from torpor.worker.access.life import life
from torpor.worker.console.visit import Visit


def show(visit: Visit) -> Response:
    """The page."""
    seen = life(visit.services, visit.given("id"))
    return visit.page("session.html", seen=seen, events=EVENTS)
