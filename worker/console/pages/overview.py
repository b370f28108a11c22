"""The first page: what is live, waiting and asleep, who works, Redis's memory, and what somebody must look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from starlette.responses import JSONResponse, Response

from torpor.history.protocol import InvalidArgument, Sample
from torpor.worker.console.visit import Visit
from torpor.worker.monitoring import series
from torpor.worker.ops.glance import glance
from torpor.worker.ops.status_warnings import health_in_words
from torpor.worker.quantities import size

_SPANS = {"day": timedelta(days=1), "week": timedelta(days=7)}
_LEVELS = {
    "live": "Live",
    "waiting": "Waiting",
    "quarantined": "Quarantined",
    "memory_kib": "Memory used",
    "memory_limit_kib": "Memory limit",
}
_RATES = {"archived": "Fell asleep", "restored": "Woken", "purged": "Purged"}
# How many points a plot has, and rows a table.
_POINTS, _ROWS = 288, 24


def show(visit: Visit) -> Response:
    """The page. With `part`, only what it replaces of itself while it is open."""
    seen = glance(visit.services, timedelta())
    template = "overview_now.html" if visit.given("part", "") else "overview.html"
    return visit.page(
        template,
        seen=seen,
        archive=visit.services.archive.url,
        health=health_in_words(seen.archive_health, seen.now),
        spans=list(_SPANS),
    )


def samples(visit: Visit) -> Response:
    """The last day or week as columns for the plots; moments in seconds since 1970."""
    now, span, taken = _taken(visit)
    ends = [end.timestamp() for end in _ends(now, span, _POINTS)]
    return JSONResponse({"at": ends, **_columns(taken, now, span, _POINTS)})


def figures(visit: Visit) -> Response:
    """The last day or week as a table."""
    now, span, taken = _taken(visit)
    columns = _columns(taken, now, span, _ROWS)
    shown = [[_text(name, value) for value in column] for name, column in columns.items()]
    rows = list(zip(_ends(now, span, _ROWS), zip(*shown, strict=True), strict=True))
    titles = [*_LEVELS.values(), *_RATES.values()]
    return visit.page("figures.html", span=visit.given("span", "day"), titles=titles, rows=rows[::-1])


def _taken(visit: Visit) -> tuple[datetime, timedelta, Sequence[Sample]]:
    span = _SPANS.get(visit.given("span", "day"))
    if span is None:
        raise InvalidArgument(f"span is one of {', '.join(_SPANS)}")
    return visit.services.sessions.now(), span, list(visit.services.sessions.samples(span))


def _columns(
    taken: Sequence[Sample], now: datetime, span: timedelta, parts: int
) -> Mapping[str, Sequence[float | None]]:
    return {
        **{name: series.levels(taken, name, now, span, parts) for name in _LEVELS},
        **{name: series.rates(taken, name, now, span, parts) for name in _RATES},
    }


def _ends(now: datetime, span: timedelta, parts: int) -> Iterator[datetime]:
    """The end of each part of the span."""
    return (now - span + span * (part + 1) / parts for part in range(parts))


def _text(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return size(round(value) * 1024) if name.endswith("_kib") else f"{value:,.0f}"
