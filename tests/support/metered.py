"""A program that archives and wakes sessions with an SDK of OpenTelemetry, and prints what its reader has got.

python -m support.metered SESSION...
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from torpor.worker.deployment.events import record_measures
from torpor.worker.deployment.services import Services, connect
from torpor.worker.deployment.settings import load_settings
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.wake.restore import restore_session


def work(services: Services, session_id: str) -> None:
    archive_session(services, session_id)
    restore_session(services, session_id)


def in_redis(services: Services) -> Counter[str]:
    """What all processes have measured until now."""
    record_measures(services)
    return Counter(services.sessions.measures().measures)


def _printed(point: Any) -> dict[str, Any]:
    shown: dict[str, Any] = {"attributes": dict(point.attributes)}
    if isinstance(point, NumberDataPoint):
        return shown | {"count": point.value}
    return shown | {
        "count": point.count,
        "sum": point.sum,
        "bounds": point.explicit_bounds,
        "buckets": point.bucket_counts,
    }


def main() -> None:
    services = connect(load_settings())
    first, *others = sys.argv[1:]
    work(services, first)  # nothing of it is kept for the SDK
    before = in_redis(services)
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
    for session_id in others:
        work(services, session_id)
    found = reader.get_metrics_data()
    assert found
    [scope] = found.resource_metrics[0].scope_metrics
    shown = {
        metric.name: {"unit": metric.unit, "points": [_printed(point) for point in metric.data.data_points]}
        for metric in scope.metrics
    }
    print(json.dumps({"scope": scope.scope.name, "metrics": shown, "measures": in_redis(services) - before}))  # noqa: T201


if __name__ == "__main__":
    main()
