"""OpenTelemetry gets every value that a process measures, if an SDK is configured; else nothing is done for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from support.paths import ROOT, TESTS
from torpor.history.protocol import Expiry
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import environment
from torpor.worker.measures import BUCKETS, SUM, SUM_UNIT
from torpor.worker.meters import INSTRUMENTS, markdown
from torpor.worker.monitoring.table import METRICS

in_a_folder = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
ELEMENT = b'{"type": "human", "data": {"content": "a secret"}}'


def run(services: Services, *arguments: str) -> str:
    env = environment(services.settings) | {"PYTHONPATH": f"{TESTS}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def of_measures(measured: dict[str, int]) -> dict[str, dict[str, Any]]:
    """What Redis gets: series -> its count, the counts of its buckets and its sum."""
    found: dict[str, dict[str, Any]] = {}
    for field, value in measured.items():
        series, _, bucket = field.partition("|")
        each = found.setdefault(series, {"count": 0, "buckets": Counter(), "sum": 0.0})
        if bucket == SUM:
            each["sum"] = value / SUM_UNIT
        else:
            each["count"] += value
            each["buckets"][bucket] += value
    return found


@in_a_folder
def test_opentelemetry_gets_what_redis_gets_from_the_moment_at_which_an_sdk_is_configured(services: Services) -> None:
    ids = ["before", "a", "b"]
    for session_id in ids:
        services.sessions.append(session_id, [ELEMENT], expiry=Expiry.of_seconds(3_600))
    printed = run(services, "-m", "support.metered", *ids)
    assert "secret" not in printed
    shown = json.loads(printed)
    measured = of_measures(shown["measures"])
    assert shown["scope"] == "torpor"
    assert shown["metrics"].keys() == {instrument.name for instrument in INSTRUMENTS.values()}
    found = {}
    for name, instrument in INSTRUMENTS.items():
        metric = shown["metrics"][instrument.name]
        assert metric["unit"] == instrument.unit
        for point in metric["points"]:
            assert set(point["attributes"]) == set(instrument.attributes)
            found[":".join([name, *(point["attributes"][each] for each in instrument.attributes)])] = point
    assert found.keys() == measured.keys()
    for series, point in found.items():
        assert point["count"] == measured[series]["count"], series
        if "bounds" in point:
            assert point["bounds"] == list(BUCKETS[series.partition(":")[0]])
            names = [*(f"{bound:g}" for bound in point["bounds"]), "+Inf"]
            counts = dict(zip(names, point["buckets"], strict=True))
            assert {name: count for name, count in counts.items() if count} == measured[series]["buckets"]
            assert point["sum"] == pytest.approx(measured[series]["sum"], abs=1e-5)
    assert measured["attempt"]["count"] == measured["wake"]["count"] == measured["segment"]["count"] == 2


def test_each_measure_has_an_instrument_and_the_page_shows_it() -> None:
    assert markdown() in (ROOT / "docs" / "metrics.md").read_text()
    assert {metric.source for metric in METRICS if metric.source in {*BUCKETS, "requests"}} == set(INSTRUMENTS)


@in_a_folder
def test_without_the_api_a_process_measures_all_the_same(services: Services) -> None:
    program = """
import sys
sys.modules["opentelemetry"] = None
from torpor.worker import measures
measures.count("requests:put:ok")
measures.observe("wake", 0.3)
print(sorted(measures.take()))
"""
    assert run(services, "-c", program) == "['requests:put:ok', 'wake|0.5', 'wake|sum']\n"
