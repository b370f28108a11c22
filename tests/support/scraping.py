"""Scrapes the HTTP port of a process, and runs queries against a real Prometheus."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from support.ports import free_port
from support.servers import missing
from support.waiting import wait_until

Samples = Mapping[str, float]


def fetch(port: int, path: str) -> tuple[int, str]:
    """The status and the body of a page; status 0 if nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()
    except OSError:
        return 0, ""


def status_of(port: int, path: str) -> int:
    return fetch(port, path)[0]


def scrape(port: int) -> Samples:
    """Each sample of /metrics: its name, with its labels in the order of their names, and its value."""
    status, text = fetch(port, "/metrics")
    assert status == 200, text
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


class Prometheus:
    """A real Prometheus that scrapes one port each second, with rules."""

    def __init__(self, port: int) -> None:
        self._port = port

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query."""
        return list(self._ask("query", query=expression)["result"])

    def alerts(self) -> dict[str, str]:
        """The alerts that are true, with their states."""
        return {each["labels"]["alertname"]: each["state"] for each in self._ask("alerts")["alerts"]}

    def _ask(self, what: str, **query: str) -> Any:
        asked = urllib.parse.urlencode(query)
        status, body = fetch(self._port, f"/api/v1/{what}?{asked}")
        assert status == 200, body
        return json.loads(body)["data"]


@contextmanager
def prometheus(folder: Path, scraped: int, rules: Path | None = None) -> Iterator[Prometheus]:
    """A Prometheus with a job `torpor`."""
    binary = shutil.which("prometheus") or missing("prometheus")
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "scrape_configs": [{"job_name": "torpor", "static_configs": [{"targets": [f"127.0.0.1:{scraped}"]}]}],
        "rule_files": [str(rules)] if rules else [],
    }
    (folder / "prometheus.json").write_text(json.dumps(config))
    port = free_port()
    options = {
        "config.file": folder / "prometheus.json",
        "storage.tsdb.path": folder / "prometheus",
        "web.listen-address": f"127.0.0.1:{port}",
    }
    command = [binary, *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        wait_until(lambda: status_of(port, "/-/ready") == 200, 60, "Prometheus answers")
        yield Prometheus(port)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()
