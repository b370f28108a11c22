"""The processes that docker-compose.yml runs, started here with the same commands."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from support.identity import bind
from support.paths import ROOT
from support.servers import RedisServer
from support.waiting import scaled
from torpor.worker.deployment.services import Services, connect
from torpor.worker.deployment.settings import environment, load_settings

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


@contextmanager
def image(
    service: str, services: Services, folder: Path, *options: str, may_die: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """The process that docker-compose.yml runs for a service, with the environment of these settings.

    Celery gets its `options` as well.
    """
    arguments = [*COMPOSE["services"][service]["command"], *options]
    with run_image(service, arguments, services, folder, may_die=may_die) as process:
        yield process


@contextmanager
def run_image(
    name: str, arguments: Sequence[str], services: Services, folder: Path, *, may_die: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """The process of a container with these arguments; `folder` is its /tmp, and gets its log."""
    command = [part.replace("/tmp/", f"{folder}/") for part in arguments]
    env = environment(services.settings)
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log)
    try:
        yield process
        assert may_die or process.poll() in (None, 0), f"{shlex.join(command)}:\n{(folder / f'{name}.log').read_text()}"
    finally:
        process.terminate()
        try:
            process.wait(scaled(20))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def deployment_of(redis_server: RedisServer, archive_url: str, **settings: Any) -> Services:
    """A deployment whose sessions go to sleep after a second."""
    given = {
        **redis_server.settings,
        "archive_url": archive_url,
        "idle_timeout_seconds": 1,
        "sweep_interval_seconds": 0.5,
    }
    services = connect(load_settings(given | settings))
    bind(services)
    return services


def archived(services: Services) -> int:
    """How many sessions were archived since the deployment's start."""
    return sum(shard.archived for shard in services.sessions.overview())
