"""The metrics in Prometheus's text format."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from torpor.history.protocol import RedisUnavailable
from torpor.worker.deployment.services import Services
from torpor.worker.measures import BUCKETS, INFINITE, SUM, SUM_UNIT
from torpor.worker.monitoring.figures import Figures, gather
from torpor.worker.monitoring.table import METRICS, Kind, Metric

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
# The values of a gauge with the values of its labels.
Samples = Sequence[tuple[Sequence[str], float]]


class Exposition(Collector):
    """Gathers the figures of a deployment for each scrape, one scrape at a time."""

    def __init__(self, services: Callable[[], Services]) -> None:
        """`services` is called at the first scrape; it may raise RedisUnavailable."""
        self._services = services
        self._lock = threading.Lock()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """The metrics as of now."""
        with self._lock:
            return generate_latest(self._registry)

    def describe(self) -> list[Family]:
        """Nothing: else the registry would gather figures when the collector is registered."""
        return []

    def collect(self) -> Iterator[Family]:
        """The families of metrics; of a Redis that does not answer only that."""
        try:
            figures = gather(self._services())
        except RedisUnavailable:
            yield GaugeMetricFamily(METRICS[0].name, METRICS[0].help, value=0)
            return
        yield from families(figures)


def families(figures: Figures) -> Iterator[Family]:
    """All metrics of the table with their values."""
    gauges = _gauges(figures)
    for metric in METRICS:
        if metric.kind is Kind.GAUGE:
            gauge = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
            for labels, value in gauges[metric.name]:
                gauge.add_metric(labels, value)
            yield gauge
        elif metric.kind is Kind.COUNTER:
            yield _counter(metric, figures)
        else:
            yield _histogram(metric, figures.measures.measures)


def _gauges(figures: Figures) -> Mapping[str, Samples]:
    seen, asleep = figures.seen, figures.asleep
    return {
        "torpor_redis_up": [((), 1)],
        "torpor_sessions": [((state,), count) for state, count in figures.states.items()],
        "torpor_sessions_by_kind": [((kind,), count) for kind, count in _kinds(figures).items()],
        "torpor_sessions_asleep": [((), asleep.sessions)] if asleep else [],
        "torpor_sessions_asleep_counted_timestamp_seconds": [((), _timestamp(asleep.at if asleep else None))],
        "torpor_oldest_waiting_seconds": [((), figures.oldest_waiting_seconds)],
        "torpor_archive_available": [((), figures.health.unavailable_since is None)],
        "torpor_archive_breaker_open": [((each.worker,), each.is_failing) for each in figures.health.workers],
        "torpor_redis_memory_bytes": [((node.name or "redis",), node.used) for node in figures.nodes],
        "torpor_redis_memory_limit_bytes": [
            ((node.name or "redis",), node.limit) for node in figures.nodes if node.limit
        ],
        "torpor_workers": [((), len(seen.at_work))],
        "torpor_worker_info": [((each.name, each.version), 1) for each in seen.at_work],
        "torpor_last_sweep_timestamp_seconds": [((), _timestamp(seen.sweep.at if seen.sweep else None))],
        "torpor_last_beat_timestamp_seconds": [((), _timestamp(seen.beat))],
        "torpor_purges_open": [((), seen.noted("purges_open"))],
        "torpor_oldest_purge_seconds": [((), seen.seconds_since("oldest_purge"))],
        "torpor_jobs_open": [((state,), count) for state, count in seen.jobs.items()],
        "torpor_oldest_job_seconds": [((), seen.seconds_since("oldest_job"))],
        "torpor_legal_holds": [((of,), seen.noted(f"holds:{of}")) for of in ("session", "owner")],
    }


def _kinds(figures: Figures) -> Mapping[str, int]:
    states = figures.states
    return {"unknown": states["live"] + states["quarantined"]} if figures.kinds is None else figures.kinds


def _timestamp(moment: datetime | None) -> float:
    return moment.timestamp() if moment else 0


def _counter(metric: Metric, figures: Figures) -> CounterMetricFamily:
    family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    counts = figures.counts
    if metric.values:
        for value in metric.values:
            family.add_metric((value,), counts[value])
    elif not metric.labels:
        family.add_metric((), counts[metric.source])
    else:
        for series, count in sorted(figures.measures.measures.items()):
            name, *labels = series.split(":")
            if name == metric.source:
                family.add_metric(labels, count)
    return family


def _histogram(metric: Metric, measures: Mapping[str, int]) -> HistogramMetricFamily:
    """Redis has the count of each bucket alone. Prometheus's buckets contain those below them."""
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    found: dict[tuple[str, ...], dict[str, int]] = defaultdict(dict)
    if not metric.labels:
        found[()] = {}
    for field, count in sorted(measures.items()):
        series, _, bucket = field.partition("|")
        name, *labels = series.split(":")
        if name == metric.source:
            found[tuple(labels)][bucket] = count
    for values, counts in found.items():
        buckets: list[tuple[str, float]] = []
        total = 0
        for bound in [*(f"{bound:g}" for bound in BUCKETS[metric.source]), INFINITE]:
            total += counts.get(bound, 0)
            buckets.append((bound, total))
        family.add_metric(values, buckets, counts.get(SUM, 0) / SUM_UNIT)
    return family
