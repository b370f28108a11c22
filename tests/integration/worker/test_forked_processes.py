"""What the processes of a worker's pool share with the process that forks them, in place of making their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from support.compose import COMPOSE, archived, deployment_of, run_image
from support.servers import RedisServer
from support.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.single_node(reason="Celery has no Cluster as its broker, and the process is the same"),
]

# `torpor worker`, whose processes write what they have when they are forked, and what they have after a drain.
OBSERVED = """
import gc, json, os, sys
from pathlib import Path
from celery.signals import task_postrun, worker_ready
from torpor.worker.cli import main

def seen():
    from torpor.history.scripts import script
    from torpor.worker.deployment.settings import own_settings
    return {
        "modules": sorted(sys.modules),
        "scripts": script.cache_info().currsize,
        "settings": own_settings.cache_info().misses,
        "frozen": gc.get_freeze_count(),
        "collects": gc.isenabled(),
    }

def write(name, said):
    Path(name + ".new").write_text(json.dumps(said))
    os.replace(name + ".new", name)

def forked():
    global before
    before = seen()

def drained(task, **_):
    if task.name == "torpor.drain":
        write("pool.json", {"before": before, "after": seen()})

def ready(**_):
    write("main.json", seen())

os.register_at_fork(after_in_child=forked)
task_postrun.connect(drained)
worker_ready.connect(ready)
sys.argv = ["torpor", *sys.argv[1:]]
main()
"""
# Which client a bucket gets is seen only when it is connected.
OWN_MODULES = {"torpor.history.clients.bounded_http"}


@pytest.fixture
def observed(client: redis.Redis, redis_server: RedisServer, bucket: str, tmp_path: Path) -> dict[str, Any]:
    """What a worker's processes have said of themselves, by the names of their files."""
    deployment = deployment_of(redis_server, f"gs://{bucket}/chats")
    deployment.sessions.append("s", [b"{}"])
    deployment.sessions.close("s")
    _, *arguments = COMPOSE["services"]["worker"]["command"]
    with run_image("worker", ["python", "-c", OBSERVED, *arguments], deployment, tmp_path):
        wait_until(lambda: archived(deployment) == 1, 60, "the session is archived")
        return {name: _said(tmp_path / f"{name}.json") for name in ("main", "pool")}


def _said(file: Path) -> dict[str, Any]:
    wait_until(file.exists, what=f"a process writes {file.name}")
    said: dict[str, Any] = json.loads(file.read_text())
    return said


def test_a_process_of_the_pool_has_its_modules_settings_and_scripts_from_the_worker(observed: dict[str, Any]) -> None:
    before, after = observed["pool"]["before"], observed["pool"]["after"]
    assert set(after["modules"]) - set(before["modules"]) <= OWN_MODULES
    assert "google.cloud.storage" in before["modules"]
    assert (before["settings"], after["settings"]) == (1, 1)
    assert before["scripts"] == after["scripts"] > 0


def test_python_collects_garbage_only_when_the_pool_has_been_forked(observed: dict[str, Any]) -> None:
    before, after = observed["pool"]["before"], observed["pool"]["after"]
    assert before["frozen"] > 100_000  # all that was imported
    assert (before["collects"], after["collects"], observed["main"]["collects"]) == (False, True, True)
