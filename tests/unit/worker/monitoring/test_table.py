"""The table of metrics follows Prometheus's conventions, and the page shows it."""

from __future__ import annotations

import re

import pytest

from support.paths import ROOT
from torpor.history.overview import COUNTS
from torpor.worker.measures import BUCKETS
from torpor.worker.monitoring.table import METRICS, Kind, Metric, markdown

ENDINGS = {Kind.COUNTER: "_total", Kind.HISTOGRAM: r"_(seconds|bytes)"}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_named_by_prometheuss_conventions(metric: Metric) -> None:
    assert re.fullmatch(rf"torpor_[a-z_]+?{ENDINGS.get(metric.kind, '')}", metric.name)
    if metric.kind is Kind.GAUGE:
        assert not metric.name.endswith("_total")
    assert metric.help.endswith(".")
    assert "|" not in metric.help


def test_names_are_unique_and_every_count_of_the_tally_is_shown() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    counters = [metric for metric in METRICS if metric.kind is Kind.COUNTER]
    shown = {value for metric in counters for value in metric.values} | {metric.source for metric in counters}
    assert set(COUNTS) <= shown
    assert {metric.source for metric in METRICS if metric.kind is Kind.HISTOGRAM} == set(BUCKETS)


def test_the_page_shows_the_table() -> None:
    assert markdown() in (ROOT / "docs" / "metrics.md").read_text()
