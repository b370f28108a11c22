"""Spans of time and numbers of bytes, as people read and write them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from torpor.history.protocol import InvalidArgument

_SPAN = re.compile(r"(\d{1,9})([smhdw]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def span(value: timedelta | float | None) -> str:
    """A span of time for people: 45s, 12m, 3h 20m, 5d 2h; '-' for none."""
    if value is None:
        return "-"
    seconds = round(value.total_seconds() if isinstance(value, timedelta) else value)
    for unit, size, smaller, smaller_size in (("d", 86_400, "h", 3_600), ("h", 3_600, "m", 60)):
        if seconds >= size:
            rest = seconds % size // smaller_size
            return f"{seconds // size}{unit} {rest}{smaller}" if rest else f"{seconds // size}{unit}"
    return f"{seconds // 60}m {seconds % 60}s" if seconds >= 60 else f"{seconds}s"


def size(value: int | None) -> str:
    """A number of bytes for people; '-' for none."""
    if value is None:
        return "-"
    amount = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:,.0f} {unit}" if unit == "B" else f"{amount:,.1f} {unit}"
        amount /= 1024
    return f"{amount:,.1f} TiB"


def span_of(text: str) -> timedelta:
    """The span of `90d`, `12h`, `30m` or `45s`, of seconds if it has no unit; raises InvalidArgument."""
    match = _SPAN.fullmatch(text.strip())
    if not match:
        raise InvalidArgument(f"{text!r} is not a span such as 90d, 12h, 30m or 45s")
    try:
        return timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    except OverflowError as exc:
        raise InvalidArgument(f"{text!r} is longer than any session has been idle") from exc


def moment_of(text: str, now: Callable[[], datetime]) -> datetime:
    """The moment of `2026-11-29`, `2026-11-29T12:00+01:00`, or of a span before `now` such as `7d`.

    A moment without an offset is in UTC. Raises InvalidArgument.
    """
    if (match := _SPAN.fullmatch(text.strip())) and match[2]:
        try:
            return now() - span_of(text)
        except OverflowError as exc:
            raise InvalidArgument(f"{text!r} is before all time") from exc
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as exc:
        raise InvalidArgument(f"{text!r} is neither a span such as 7d or 12h, nor a moment such as 2026-11-29") from exc
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
