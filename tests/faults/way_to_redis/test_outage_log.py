"""An outage of Redis has two lines in the log of a worker, and two in the log of beat, however many tries fail."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from support.compose import archived, deployment_of, image
from support.ports import free_port
from support.servers import start_redis
from support.waiting import wait_until
from torpor.history.protocol import Expiry
from torpor.worker.deployment.services import Services

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.single_node(reason="Celery has no Cluster as its broker, and the processes are the same"),
]

KEPT = "--appendonly", "yes", "--appendfsync", "no"
SECONDS = 12


def records(log: Path) -> list[dict[str, str]]:
    """The records of a log in JSON, without the lines that Celery writes itself at a start and at a shutdown."""
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def told(log: Path) -> list[str]:
    return [re.sub(r" after \d+ ", " after N ", each["message"])[:20] for each in records(log) if is_told(each)]


def is_told(record: dict[str, str]) -> bool:
    return record["logger"] == "torpor.outages"


def say(deployment: Services, session_id: str) -> None:
    deployment.sessions.append(session_id, [b"{}"], expiry=Expiry(idle=timedelta(seconds=1)))


def fail_for_a_while(deployment: Services, folder: Path, port: int, stop: Callable[[], None]) -> Callable[[], None]:
    """Stop the server until the worker and beat have failed several times; returns how to stop the next one."""
    stop()
    logs = folder / "worker.log", folder / "beat.log"
    wait_until(lambda: all(log.read_text().count("Redis fails") for log in logs), 60, "both have told of it")
    debug = folder / "worker.log"
    wait_until(lambda: debug.read_text().count("not listening for a moment") >= 3, 90, "the worker has tried again")
    return start_redis(folder, *KEPT, port=port).stop


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_twelve_seconds_without_redis_have_two_lines_and_no_traceback(tmp_path: Path, pool: str) -> None:
    port = free_port()
    server = start_redis(tmp_path, *KEPT, port=port)
    stop = server.stop
    deployment = deployment_of(server, (tmp_path / "archive").as_uri(), log_format="json")
    debug = "--loglevel", "DEBUG"  # so that the test sees the failures that are not told of
    try:
        with (
            image("worker", deployment, tmp_path, *debug, "--pool", pool),
            image("beat", deployment, tmp_path),
        ):
            say(deployment, "a")
            wait_until(lambda: archived(deployment) == 1, 60, "the worker works")
            stop = fail_for_a_while(deployment, tmp_path, port, stop)
            say(deployment, "b")
            wait_until(lambda: archived(deployment) == 2, 90, "the worker works again")
            logs = [tmp_path / "worker.log", tmp_path / "beat.log"]
            wait_until(lambda: all("works again" in log.read_text() for log in logs), 60, "both have told of the end")
    finally:
        stop()
    for log in logs:
        assert [each.split()[1] for each in told(log)] == ["fails:", "works"], told(log)
        shown = [each for each in records(log) if each["severity"] not in ("DEBUG", "INFO")]
        failures = [each for each in shown if not is_told(each) and "the broker can order" not in each["message"]]
        assert not failures
        assert "Traceback" not in "".join(each["message"] for each in shown)


def test_of_sweeps_and_drains_only_what_a_drain_has_done_is_logged_above_debug(tmp_path: Path) -> None:
    server = start_redis(tmp_path)
    deployment = deployment_of(server, (tmp_path / "archive").as_uri(), log_format="json", listen=False)
    try:
        with image("worker", deployment, tmp_path, "--loglevel", "DEBUG"), image("beat", deployment, tmp_path):
            log = tmp_path / "worker.log"
            wait_until(lambda: log.read_text().count("torpor.sweep") >= 12, 60, "some sweeps find nothing")
            say(deployment, "a")
            wait_until(lambda: "drained" in log.read_text(), 60, "one finds something")
            wait_until(lambda: re.search(r"Task torpor.drain\S+ succeeded", log.read_text()), 60, "its drain has ended")
    finally:
        server.stop()
    of_celery = [each for each in records(log) if re.match(r"Task torpor\.(sweep|drain)\[", each["message"])]
    assert len(of_celery) >= 10
    assert {each["severity"] for each in of_celery} == {"DEBUG"}
    done = [each for each in records(log) if each["message"].startswith("drained")]
    assert [(each["severity"], each["message"]) for each in done] == [("INFO", "drained 1 shards: 1 archived")]
    assert "Sending due task" not in (tmp_path / "beat.log").read_text()
