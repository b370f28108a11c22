"""Graphs that wait for a person's answer: their threads sleep, by a real worker, and another process resumes them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
from langgraph.checkpoint.memory import InMemorySaver

from support.compose import archived, deployment_of, image
from support.graphs import GRAPHS, begin, resume
from support.keyspace import raw
from support.paths import ROOT
from support.savers import config
from support.servers import RedisServer
from support.waiting import wait_until
from torpor import MemorystoreSaver, SessionArchive
from torpor.worker.deployment.services import Services

pytestmark = pytest.mark.slow

# Plays the ends of the graphs in a process of its own, and prints their states.
RESUME = """
import sys
from support.graphs import GRAPHS, resume
from torpor import MemorystoreSaver, SessionArchive, connect
url, archive = sys.argv[1:]
with connect(url) as client:
    saver = MemorystoreSaver(client, archive=SessionArchive(archive))
    for name in GRAPHS:
        print(resume(name, saver, name))
"""


def without_ids(value: Any) -> str:
    """The text of a value without ids that LangGraph draws by chance."""
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "…", str(value))


@pytest.fixture
def deployment(client: redis.Redis, redis_server: RedisServer, archive_url: str) -> Services:
    return deployment_of(redis_server, archive_url)


def history(saver: Any, thread: str) -> list[tuple[Any, ...]]:
    """What each checkpoint of a thread has, newest first, without ids and times."""
    found = saver.list({"configurable": {"thread_id": thread}})
    return [
        (
            each.metadata["step"],
            each.metadata["source"],
            each.checkpoint["channel_values"].get("messages"),
            each.checkpoint["channel_values"].get("notes"),
            sorted((channel, str(value)) for _, channel, value in each.pending_writes if channel != "__interrupt__"),
        )
        for each in sorted(found, key=lambda each: each.checkpoint["ts"], reverse=True)
    ]


@pytest.mark.single_node(reason="the other process connects to one node")
@pytest.mark.parametrize("archive_url", ["gcs"], indirect=True)
def test_an_interrupted_graph_that_slept_ends_in_another_process_as_one_that_never_slept(
    client: redis.Redis, deployment: Services, redis_server: RedisServer, tmp_path: Path
) -> None:
    memory = InMemorySaver()
    awake = {name: (begin(name, memory, name), resume(name, memory, name)) for name in GRAPHS}
    saver = MemorystoreSaver(client, ttl=3600, interrupted_ttl=1)
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    with image("worker", deployment, tmp_path):
        for name in GRAPHS:
            assert begin(name, saver, name) == awake[name][0]
        # On a busy machine, a thread may fall asleep before the last write of its graph, and once more after it.
        wait_until(
            lambda: archived(deployment) >= len(GRAPHS) and not raw(client, "KEYS", "*:[msi]:*"),
            60,
            "the threads are asleep",
        )
        command = [sys.executable, "-c", RESUME, redis_server.url, deployment.archive.url]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert [without_ids(line) for line in done.stdout.splitlines()] == [without_ids(end) for _, end in awake.values()]
    woken = MemorystoreSaver(client, archive=SessionArchive(deployment.archive.url))
    for name in GRAPHS:
        assert without_ids(history(woken, name)) == without_ids(history(memory, name))
        assert woken.get_tuple(config(name)) is not None
