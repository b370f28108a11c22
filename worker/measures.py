"""What this process has measured since it last added that to the deployment's measures in Redis.

Redis sums up the measures of all processes. So a restart loses none, and a killed process only those of its last
moment. A measure is a field of a hash and a whole number that is added to it. OpenTelemetry gets each value, too.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from torpor.worker import meters

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_KIB = 1024
# Each histogram and its upper bounds; the last bucket has none.
BUCKETS: Mapping[str, tuple[float, ...]] = {
    "attempt": _SECONDS,
    "wake": _SECONDS,
    "request": _SECONDS,
    "segment": (_KIB, 4 * _KIB, 16 * _KIB, 64 * _KIB, 256 * _KIB, 1024 * _KIB, 4096 * _KIB, 16384 * _KIB, 65536 * _KIB),
}
INFINITE = "+Inf"
SUM = "sum"
# The sum of a histogram is stored in millionths, because Redis adds whole numbers.
SUM_UNIT = 1_000_000

# So many measurements at most wait to be summed up.
_MOST_WAITING = 1_000

# A measurement only appends here, so that it costs next to nothing in the middle of the work.
_waiting: deque[tuple[str, float | None]] = deque()
_lock = threading.Lock()
_measured: Counter[str] = Counter()


def count(series: str) -> None:
    """Count one more of a series, a name with the values of its labels: `requests:put:ok`."""
    _add(series, None)


def observe(series: str, value: float) -> None:
    """Add a value, in seconds or bytes, to a histogram: a name with the values of its labels, `request:put`."""
    _add(series, value)


def take() -> Mapping[str, int]:
    """What was measured since the last call, by field."""
    with _lock:
        _sum_up()
        taken = dict(_measured)
        _measured.clear()
    return taken


def _add(series: str, value: float | None) -> None:
    _waiting.append((series, value))
    if len(_waiting) > _MOST_WAITING:
        with _lock:
            _sum_up()


def _sum_up() -> None:
    """Add what waits to the sums, and give it to OpenTelemetry."""
    for _ in range(len(_waiting)):
        series, value = _waiting.popleft()
        if value is None:
            _measured[series] += 1
            if add := meters.counter(series):
                add(1)
            continue
        histogram = _histogram(series)
        _measured[histogram.buckets[bisect_left(histogram.bounds, value)]] += 1
        _measured[histogram.sum] += round(value * SUM_UNIT)
        if histogram.record:
            histogram.record(value)


class _Histogram(NamedTuple):
    bounds: tuple[float, ...]
    buckets: tuple[str, ...]  # a field for each bucket
    sum: str  # the field of the sum
    record: meters.Record | None


@cache
def _histogram(series: str) -> _Histogram:
    bounds = BUCKETS[series.partition(":")[0]]
    buckets = [f"{series}|{bound}" for bound in [*(f"{bound:g}" for bound in bounds), INFINITE]]
    return _Histogram(bounds, tuple(buckets), f"{series}|{SUM}", meters.histogram(series, bounds))


def _begin_anew() -> None:
    """In a forked process: its parent adds what the parent has measured."""
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.Lock()
    _waiting.clear()
    _measured.clear()


os.register_at_fork(after_in_child=_begin_anew)
