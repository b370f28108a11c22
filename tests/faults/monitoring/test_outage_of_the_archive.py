"""An outage of the archive as an operator sees it: one event, one line each, the alert, status; nothing quarantined.

The expressions of the alerts and of the dashboard run in a real Prometheus that scrapes a real worker.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
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
from torpor.worker.deployment.settings import environment
from torpor.worker.monitoring.table import METRICS
from torpor.worker.ops.status import overview

RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "torpor.json"
SOON = Expiry(idle=timedelta(seconds=1))
SESSIONS = 5
POSTPONED = 'torpor_attempts_total{outcome="postponed"}'
UNAVAILABLE = re.compile(r"^(warning: the )?archive .*unavailable")
# The whole length: OUTAGE_SECONDS=120 pytest tests/faults/monitoring/test_outage_of_the_archive.py
OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "8"))
# No wake, no purge and no full node in this deployment.
WITHOUT_DATA = ("memory_limit",)

pytestmark = [
    pytest.mark.timeout(240 + 2 * OUTAGE_SECONDS),
    pytest.mark.single_node(reason="Celery has no Cluster as its broker, and the processes are the same"),
]


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


def status_lines(deployment: Services) -> list[str]:
    """What `torpor status` prints, to both of its streams."""
    command = [sys.executable, "-m", "torpor", "status"]
    done = subprocess.run(
        command, env=environment(deployment.settings), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    assert done.returncode in (0, 2)  # 2 if the archive refuses every request
    return done.stdout.decode().splitlines()


def records(folder: Path, worker: str) -> list[dict[str, str]]:
    """The log of a worker."""
    lines = (folder / worker / "worker.log").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_an_outage_of_the_archive_is_told_of_once_everywhere(
    client: redis.Redis, redis_server: RedisServer, bucket: str, proxy: StorageProxy, tmp_path: Path
) -> None:
    ports = {"one": free_port(), "two": free_port()}
    url = f"gs://{bucket}/chats"
    of_worker = {
        name: deployment_of(redis_server, url, http_port=port, log_format="json", retry_delay_seconds=1.0)
        for name, port in ports.items()
    }
    deployment = of_worker["one"]
    with ExitStack() as stack:
        for name, own in of_worker.items():
            (tmp_path / name).mkdir()
            stack.enter_context(image("worker", own, tmp_path / name, "-n", f"{name}@%h"))
        stack.enter_context(image("beat", deployment, tmp_path))
        wait_until(lambda: all(status_of(port, "/readyz") == 200 for port in ports.values()), 60, "both are ready")
        deployment.sessions.append("before", [b"{}"], expiry=SOON)
        wait_until(lambda: archived(deployment) == 1, 60, "the workers work")
        port = ports["one"]
        observer = stack.enter_context(prometheus(tmp_path, port, quick_rules(tmp_path)))
        wait_until(lambda: observer.query("torpor_archive_available == 1"), 60, "it is scraped")
        assert "TorporArchiveUnavailable" not in observer.alerts()

        def fires() -> bool:
            return observer.alerts().get("TorporArchiveUnavailable") == "firing"

        proxy.fail(answered(403))
        ends = time.monotonic() + OUTAGE_SECONDS
        for number in range(SESSIONS):
            deployment.sessions.append(f"s{number}", [b"{}"], expiry=SOON)
        wait_until(fires, 120, "the alert is true")
        assert UNAVAILABLE.search(status_lines(deployment)[0])
        wait_until(
            lambda: scrape(port)[POSTPONED] >= 2 * OUTAGE_SECONDS, OUTAGE_SECONDS + 120, "it is tried again and again"
        )
        wait_until(lambda: time.monotonic() > ends, OUTAGE_SECONDS, "the outage is over")
        wait_until(fires, 60, "the alert is true to the end")  # on a busy machine a scrape may come too late
        assert UNAVAILABLE.search(status_lines(deployment)[0])
        assert kinds(deployment) == ["archive.unavailable"]
        proxy.heal()

        wait_until(lambda: archived(deployment) == 1 + SESSIONS, 120, "all sleep")
        wait_until(lambda: "TorporArchiveUnavailable" not in observer.alerts(), 60, "the alert ends")
        assert not UNAVAILABLE.search(status_lines(deployment)[0])
        for query in expressions():
            wait_until(lambda query=query: observer.query(query) or _may_be_empty(query), 30, query)  # type: ignore[misc]
    assert kinds(deployment) == ["archive.unavailable", "archive.available"]
    seen = overview(deployment)
    assert (seen.quarantined, seen.live, seen.warnings) == (0, 0, [])
    logged = [record for name in ports for record in records(tmp_path, name)]
    told = [each["message"] for each in logged if each["severity"] not in ("INFO", "DEBUG")]
    of_archive = [message for message in told if "the broker can order" not in message]
    assert sorted(message.split(":")[0] for message in of_archive) == ["archive.available", "archive.unavailable"], told
    # No line for each try. The clocks of both workers are the same.
    began, ended = sorted(each["time"] for each in logged if each["message"] in of_archive)
    meanwhile = [each["message"] for each in logged if began < each["time"] < ended and each["severity"] != "DEBUG"]
    assert not [message for message in meanwhile if "archived" not in message], meanwhile


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
