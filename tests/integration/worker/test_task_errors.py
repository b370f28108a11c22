"""Tasks that meet an outage, or a session that they can do nothing with: a line in the worker's log, no traceback."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import redis
from celery import Celery
from celery.result import AsyncResult

from support.compose import deployment_of, image
from support.keyspace import raw
from support.rewinding import say
from support.servers import RedisServer
from support.sessions import purge_session
from support.waiting import scaled, wait_until
from torpor.worker import tasks
from torpor.worker.deployment.celery_config import make_app
from torpor.worker.erasure import orders
from torpor.worker.erasure.order import Order
from torpor.worker.sleep.attempt import archive_session

# Where the end of each task is logged.
DEBUG = "--loglevel", "DEBUG"
EVERY = (
    "torpor.sweep, torpor.sweep_purges, torpor.sweep_jobs, torpor.expire, torpor.drain, torpor.archive_session, "
    "torpor.restore_session, torpor.job"
)
PURGES = "torpor.purge, torpor.purge_session, torpor.purge_owner, torpor.purge_idle"
ARGUMENTS = {
    "torpor.drain": [[0]],
    "torpor.archive_session": ["s"],
    "torpor.restore_session": ["asleep"],
    "torpor.purge": ["begun"],
    "torpor.job": ["none", 0],
    "torpor.purge_session": ["s"],
    "torpor.purge_owner": ["ann"],
    "torpor.purge_idle": [3600],
}


def test_every_task_is_one_of_these() -> None:
    defined = re.findall(r'^@_task\(name="([\w.]+)"', inspect.getsource(tasks), re.MULTILINE)
    assert sorted(defined) == sorted([*EVERY.split(", "), *PURGES.split(", ")])


@pytest.mark.slow
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_an_outage_of_the_archive_is_a_line_for_each_task(
    client: redis.Redis, redis_server: RedisServer, archive_url: str, scratch: Path, tmp_path: Path
) -> None:
    deployment = deployment_of(redis_server, archive_url)
    say(client, "hello", owner="ann")
    say(client, "hello", owner="ann", session_id="asleep")
    archive_session(deployment, "asleep")
    orders.place(deployment, Order.of(session="none", id="begun"))
    log = tmp_path / "worker.log"
    with (
        image("worker", deployment, tmp_path, *DEBUG),
        make_app(lambda: deployment.settings, set_as_current=False) as app,
    ):
        assert send(app, "torpor.sweep_purges", tmp_path) == 1
        (scratch / "archive").rename(scratch / "away")
        for name in (*EVERY.split(", "), *PURGES.split(", ")):
            send(app, name, tmp_path)
        told = log.read_text()
        assert "torpor.sweep_purges[" in told
        for name in ("torpor.sweep_purges", "torpor.expire", "torpor.restore_session", "torpor.purge_session"):
            assert f"Task {name}[" in told
            assert "raised expected: ArchiveMisconfigured" in told
        assert "Traceback" not in told, told


@pytest.mark.slow
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_session_that_a_task_can_do_nothing_with_is_a_line(
    client: redis.Redis, redis_server: RedisServer, archive_url: str, tmp_path: Path
) -> None:
    deployment = deployment_of(redis_server, archive_url)
    for session_id in ("purged", "lost", "no hash"):
        say(client, "hello", owner="ann", session_id=session_id)
    purge_session(deployment, "purged")
    for session_id in ("lost", "no hash"):
        [key] = raw(client, "KEYS", f"*:s:{session_id}")
        raw(client, "DEL", key)
    raw(client, "SET", key, "no hash")
    log = tmp_path / "worker.log"
    with (
        image("worker", deployment, tmp_path, *DEBUG),
        make_app(lambda: deployment.settings, set_as_current=False) as app,
    ):
        for session_id in ("purged", "lost", "no hash", "nobody's"):
            for name in ("torpor.archive_session", "torpor.restore_session", "torpor.purge_session"):
                send(app, name, tmp_path, session_id)
        told = log.read_text()
        assert "torpor.restore_session: session 'purged' was purged" in told
        assert 'torpor.restore_session: session "nobody\'s"' not in told, "a reader may ask for a new session"
        assert "Traceback" not in told, told


def send(app: Celery, name: str, folder: Path, *arguments: object) -> object:
    """Send a task, and wait until the worker has logged how it ended; its result if it has one."""
    sent: AsyncResult[object] = app.send_task(name, arguments or ARGUMENTS.get(name, []), queue="torpor")
    log = folder / "worker.log"
    ended = (f"Task {name}[{sent.id}] succeeded", f"Task {name}[{sent.id}] raised")
    wait_until(lambda: any(each in log.read_text() for each in ended), scaled(30), what=f"{name} has ended")
    line = next(each for each in log.read_text().splitlines() if any(end in each for end in ended))
    return int(line.rpartition(": ")[2]) if "succeeded" in line and line.rpartition(": ")[2].isdigit() else None
