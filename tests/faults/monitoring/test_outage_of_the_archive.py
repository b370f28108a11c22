"""An outage of the archive as an operator sees it: one event, one line each, the alert, status; nothing quarantined.

The expressions of the alerts and of the dashboard run in a real Prometheus that scrapes a real worker.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
import redis
import yaml

from support.compose import archived, deployment_of, image
from support.paths import ROOT
from support.ports import free_port
from support.scraping import prometheus, scrape, status_of
from support.servers import RedisServer, missing
from support.storage_proxy import StorageProxy, answered
from support.waiting import wait_until
from torpor.history.protocol import Expiry
from torpor.worker.deployment.events import follow
from torpor.worker.deployment.services import Services
from torpor.worker.monitoring.table import METRICS
from torpor.worker.ops.status import overview
from torpor.worker.ops.status_warnings import Code

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.single_node(reason="Celery has no Cluster as its broker, and the processes are the same"),
]

RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "torpor.json"
SOON = Expiry(idle=timedelta(seconds=1))
# No wake, no purge and no full node in this deployment.
WITHOUT_DATA = ("memory_limit",)


def expressions() -> list[str]:
    """The queries of the dashboard, with values for its variables."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    return [query.replace("$job", ".+").replace("$__rate_interval", "30s") for query in queries]


def quick_rules(folder: Path) -> Path:
    """The alert rules with no wait before they fire."""
    rules = yaml.safe_load(RULES.read_text())
    for rule in rules["groups"][0]["rules"]:
        rule.pop("for", None)
    path = folder / "rules.yml"
    path.write_text(yaml.safe_dump(rules))
    return path


def kinds(services: Services) -> list[str]:
    found = [fields["kind"] for _, fields in follow(services, count=1_000, forever=False)]
    return [kind for kind in found if kind.startswith("archive.")]


def test_an_outage_of_the_archive_is_told_of_once_everywhere(
    client: redis.Redis, redis_server: RedisServer, bucket: str, proxy: StorageProxy, tmp_path: Path
) -> None:
    port = free_port()
    deployment = deployment_of(
        redis_server, f"gs://{bucket}/chats", http_port=port, log_format="json", retry_delay_seconds=1.0
    )
    with image("worker", deployment, tmp_path), image("beat", deployment, tmp_path):
        wait_until(lambda: status_of(port, "/readyz") == 200, 60, "it is ready")
        deployment.sessions.append("before", [b"{}"], expiry=SOON)
        wait_until(lambda: archived(deployment) == 1, 60, "the worker works")
        with prometheus(tmp_path, port, quick_rules(tmp_path)) as observer:
            wait_until(lambda: observer.query("torpor_archive_available == 1"), 60, "it is scraped")
            assert "TorporArchiveUnavailable" not in observer.alerts()
            proxy.fail(answered(403))
            for number in range(5):
                deployment.sessions.append(f"s{number}", [b"{}"], expiry=SOON)
            wait_until(lambda: observer.alerts().get("TorporArchiveUnavailable") == "firing", 120, "the alert is true")
            seen = overview(deployment)
            assert [warning.code for warning in seen.warnings] == [Code.ARCHIVE_UNAVAILABLE]
            assert seen.warnings[0].text.startswith("the archive is unavailable since ")
            wait_until(lambda: scrape(port)['torpor_attempts_total{outcome="postponed"}'] >= 8, 120, "it goes on")
            proxy.heal()
            wait_until(lambda: archived(deployment) == 6, 120, "all sleep")
            wait_until(lambda: "TorporArchiveUnavailable" not in observer.alerts(), 60, "the alert ends")
            for query in expressions():
                wait_until(lambda query=query: observer.query(query) or _may_be_empty(query), 30, query)  # type: ignore[misc]
    assert kinds(deployment) == ["archive.unavailable", "archive.available"]
    assert overview(deployment).quarantined == 0
    lines = [line for line in (tmp_path / "worker.log").read_text().splitlines() if line.startswith("{")]
    told = [each for line in lines if (each := json.loads(line))["severity"] not in ("INFO", "DEBUG")]
    of_archive = [each["message"] for each in told if "the broker can order" not in each["message"]]
    assert [message.split(":")[0] for message in of_archive] == ["archive.unavailable", "archive.available"], of_archive


def _may_be_empty(query: str) -> bool:
    return any(part in query for part in WITHOUT_DATA)


def test_the_rules_are_right_for_promtool() -> None:
    tool = shutil.which("promtool") or missing("promtool")
    done = subprocess.run([tool, "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_metric_that_a_rule_or_a_panel_names_is_in_the_table() -> None:
    names = {metric.name for metric in METRICS}
    rules = [rule["expr"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]]
    used = {name for text in [*rules, *expressions()] for name in re.findall(r"\btorpor_\w+", text)}
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in used} <= names
