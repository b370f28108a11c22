"""What this process has measured since it last added that to the deployment's measures in Redis.

Redis sums up the measures of all processes. So a restart loses none, and a killed process only those of its last
moment. A measure is a field of a hash and a whole number that is added to it. OpenTelemetry gets each value, too.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

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

_lock = threading.Lock()
_measured: Counter[str] = Counter()


def count(series: str) -> None:
    """Count one more of a series, a name with the values of its labels: `requests:put:ok`."""
    with _lock:
        _measured[series] += 1
    if add := meters.counter(series):
        add(1)


def observe(series: str, value: float) -> None:
    """Add a value, in seconds or bytes, to a histogram: a name with the values of its labels, `request:put`."""
    bounds = BUCKETS[series.partition(":")[0]]
    place = bisect_left(bounds, value)
    bucket = f"{bounds[place]:g}" if place < len(bounds) else INFINITE
    with _lock:
        _measured[f"{series}|{bucket}"] += 1
        _measured[f"{series}|{SUM}"] += round(value * SUM_UNIT)
    if record := meters.histogram(series, bounds):
        record(value)


def take() -> Mapping[str, int]:
    """What was measured since the last call, by field."""
    with _lock:
        taken = dict(_measured)
        _measured.clear()
    return taken


def _begin_anew() -> None:
    """In a forked process: its parent adds what the parent has measured."""
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.Lock()
    _measured.clear()


os.register_at_fork(after_in_child=_begin_anew)
