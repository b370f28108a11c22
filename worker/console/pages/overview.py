"""The first page: what is live, waiting and asleep, who works, Redis's memory, and what somebody must look at."""

from __future__ import annotations

from datetime import timedelta

from starlette.responses import JSONResponse, Response

from torpor.history.protocol import InvalidArgument
from torpor.worker.console.visit import Visit
from torpor.worker.monitoring.samples import COUNTED
from torpor.worker.ops.glance import glance

_SPANS = {"day": timedelta(days=1), "week": timedelta(days=7)}


def show(visit: Visit) -> Response:
    """The page. With `part`, only what it replaces of itself while it is open."""
    seen = glance(visit.services, timedelta())
    template = "overview_now.html" if visit.given("part", "") else "overview.html"
    return visit.page(template, seen=seen, archive=visit.services.archive.url, spans=list(_SPANS))


def samples(visit: Visit) -> Response:
    """The samples of the last day or week, as columns for the plots; moments in seconds since 1970."""
    span = _SPANS.get(visit.given("span", "day"))
    if span is None:
        raise InvalidArgument(f"span is one of {', '.join(_SPANS)}")
    taken = list(visit.services.sessions.samples(span))
    names = ("live", "waiting", "quarantined", "memory_kib", "memory_limit_kib", *COUNTED)
    columns = {name: [each.figures.get(name) for each in taken] for name in names}
    return JSONResponse({"at": [each.at.timestamp() for each in taken], **columns})
