"""What this process measures, as metrics by OpenTelemetry's API, if it is installed. Without an SDK they do nothing.

Source of names and units: https://opentelemetry.io/docs/specs/semconv/general/metrics/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

try:
    from opentelemetry import metrics
except ModuleNotFoundError:  # whoever installs an SDK has it
    metrics = None  # type: ignore[assignment]

# Takes one value.
Record = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Instrument:
    """An instrument, and the attributes whose values follow the name in a series: `request:put`."""

    name: str
    unit: str
    help: str
    attributes: tuple[str, ...] = ()


# By the name of the measure.
INSTRUMENTS: Mapping[str, Instrument] = {
    "attempt": Instrument(
        "torpor.attempt.duration",
        "s",
        "From the beginning of an attempt to its commit, of sessions that were archived or kept.",
    ),
    "segment": Instrument("torpor.segment.size", "By", "Size of uploaded segments."),
    "wake": Instrument("torpor.wake.duration", "s", "From the beginning of a restore to the session in Redis."),
    "requests": Instrument(
        "torpor.archive.requests", "{request}", "Requests to the archive, with their retries.", ("verb", "outcome")
    ),
    "request": Instrument(
        "torpor.archive.request.duration", "s", "Duration of requests to the archive that ended well.", ("verb",)
    ),
}


@cache
def counter(series: str) -> Record | None:
    """Adds a value to the counter of a series; None without the API."""
    if metrics is None:
        return None
    instrument, attributes = _of(series)
    return partial(_counter(instrument).add, attributes=attributes)


def histogram(series: str, bounds: tuple[float, ...]) -> Record | None:
    """Adds a value to the histogram of a series, whose buckets have these upper bounds; None without the API."""
    if metrics is None:
        return None
    instrument, attributes = _of(series)
    return partial(_histogram(instrument, bounds).record, attributes=attributes)


def _of(series: str) -> tuple[Instrument, Mapping[str, str]]:
    name, *values = series.split(":")
    instrument = INSTRUMENTS[name]
    return instrument, dict(zip(instrument.attributes, values, strict=True))


# An instrument that is made before an SDK is configured becomes the SDK's then.
@cache
def _counter(instrument: Instrument) -> metrics.Counter:
    return metrics.get_meter("torpor").create_counter(instrument.name, instrument.unit, instrument.help)


@cache
def _histogram(instrument: Instrument, bounds: Sequence[float]) -> metrics.Histogram:
    create = partial(metrics.get_meter("torpor").create_histogram, instrument.name, instrument.unit, instrument.help)
    try:
        return create(explicit_bucket_boundaries_advisory=bounds)
    except TypeError:  # an API before 1.30 takes no bounds
        return create()


def markdown() -> str:
    """The table for the page about metrics."""
    rows = ["| metric | type | unit | attributes | meaning |", "| --- | --- | --- | --- | --- |"]
    for measure, each in INSTRUMENTS.items():
        kind = "counter" if measure == "requests" else "histogram"
        attributes = ", ".join(f"`{attribute}`" for attribute in each.attributes) or "-"
        rows.append(f"| `{each.name}` | {kind} | {each.unit} | {attributes} | {each.help} |")
    return "\n".join(rows) + "\n"
