"""The heartbeat file of a worker, and the health check of docker-compose.yml that looks at it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
import redis

from support.compose import COMPOSE, deployment_of, image
from support.servers import RedisServer
from support.sessions import with_settings
from support.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.single_node(reason="Celery has no Cluster as its broker, and the process is the same"),
]


def is_healthy(heartbeat: Path) -> bool:
    """What docker-compose.yml finds."""
    worker = COMPOSE["services"]["worker"]
    kind, test = worker["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    command = test.replace("$$", "$").replace(worker["environment"]["TORPOR_HEARTBEAT_FILE"], str(heartbeat))
    return subprocess.run(["sh", "-c", command], capture_output=True, check=False).returncode == 0


def test_a_worker_is_healthy_while_it_takes_tasks(
    client: redis.Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    heartbeat = tmp_path / "heartbeat"
    deployment = with_settings(deployment_of(redis_server, (tmp_path / "archive").as_uri()), heartbeat_file=heartbeat)
    assert not is_healthy(heartbeat)
    with image("worker", deployment, tmp_path):
        wait_until(lambda: is_healthy(heartbeat), 60, "the worker takes tasks")
        old = time.time() - 600
        os.utime(heartbeat, (old, old))
        assert not is_healthy(heartbeat)
        wait_until(lambda: is_healthy(heartbeat), 30, "it has taken no task since, and beats nevertheless")
