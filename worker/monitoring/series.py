"""Series: how a figure has changed over a span, in parts of equal length, from the samples."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from math import floor

from torpor.history.protocol import Sample


def levels(samples: Sequence[Sample], name: str, now: datetime, span: timedelta, width: int) -> list[float | None]:
    """The highest value of a figure in each of `width` parts of the span before now; None where there is no sample."""
    found: list[float | None] = [None] * width
    for sample in samples:
        value, part = sample.figures.get(name), _part(sample, now, span, width)
        if value is not None and part is not None:
            found[part] = max(found[part] or 0, value)
    return found


def rates(samples: Sequence[Sample], name: str, now: datetime, span: timedelta, width: int) -> list[float | None]:
    """By how much a count has grown in a minute, in each part of the span, as `levels`.

    A count that has fallen was begun anew, by a Redis that was emptied, and tells nothing of that minute.
    """
    found: list[float | None] = [None] * width
    for before, sample in pairwise(samples):
        part = _part(sample, now, span, width)
        minutes = (sample.at - before.at) / timedelta(minutes=1)
        grown = sample.figures.get(name, 0) - before.figures.get(name, 0)
        if part is not None and minutes > 0 and grown >= 0:
            found[part] = max(found[part] or 0, grown / minutes)
    return found


def _part(sample: Sample, now: datetime, span: timedelta, width: int) -> int | None:
    part = floor((sample.at - (now - span)) / span * width)
    return part if 0 <= part < width else width - 1 if part == width else None
