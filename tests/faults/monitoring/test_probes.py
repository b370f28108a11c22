"""/readyz turns red within ten seconds of a loss and green after it; /livez is red only if the main thread is stuck."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.compose import deployment_of, image
from support.paths import ROOT, TESTS
from support.ports import free_port
from support.scraping import fetch, scrape, status_of
from support.servers import RedisServer, start_redis
from support.storage_proxy import StorageProxy, answered, stalled_before
from support.waiting import scaled, wait_until
from torpor.worker.deployment.settings import environment

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.single_node(reason="Celery has no Cluster as its broker, and the processes are the same"),
]

KEPT = "--appendonly", "yes", "--appendfsync", "no"


@contextmanager
def kept_redis(folder: Path) -> Iterator[RedisServer]:
    server = start_redis(folder, *KEPT)
    try:
        yield server
    finally:
        server.stop()


def wait_for_red(port: int, what: str) -> None:
    """Wait until /readyz is red because of `what`, ten seconds at most."""
    began = time.monotonic()
    wait_until(lambda: fetch(port, "/readyz")[0] == 503, 30, "it is red")
    assert time.monotonic() - began < scaled(10)
    assert what in fetch(port, "/readyz")[1]
    assert status_of(port, "/livez") == 200


def test_readiness_follows_redis_and_the_archive_and_liveness_does_not(
    emulator: str, bucket: str, proxy: StorageProxy, tmp_path: Path
) -> None:
    port = free_port()
    with kept_redis(tmp_path) as server:
        deployment = deployment_of(server, f"gs://{bucket}/chats", http_port=port)
        with image("worker", deployment, tmp_path):
            wait_until(lambda: status_of(port, "/readyz") == 200, 60, "it is ready")
            for fault in (answered(503), stalled_before):
                proxy.fail(fault)
                wait_for_red(port, "the archive: ")
                proxy.heal()
                wait_until(lambda: status_of(port, "/readyz") == 200, 60, "it is green again")
            # A Redis that hangs, and one that is gone.
            os.kill(server.process.pid, signal.SIGSTOP)
            wait_for_red(port, "Redis: ")
            os.kill(server.process.pid, signal.SIGCONT)
            wait_until(lambda: status_of(port, "/readyz") == 200, 60, "it is green again")
            server.stop()
            wait_for_red(port, "Redis: ")
            assert scrape(port) == {"torpor_redis_up": 0.0}
            again = start_redis(tmp_path, *KEPT, port=server.port)
            try:
                wait_until(lambda: status_of(port, "/readyz") == 200, 60, "it is green again")
                assert status_of(port, "/livez") == 200
                assert scrape(port)["torpor_redis_up"] == 1.0
            finally:
                again.stop()


def test_readiness_follows_a_broker_of_its_own_and_liveness_does_not(tmp_path: Path) -> None:
    port, broker_port = free_port(), free_port()
    (tmp_path / "broker").mkdir()
    with kept_redis(tmp_path) as server:
        broker = start_redis(tmp_path / "broker", port=broker_port)
        try:
            archive = (tmp_path / "archive").as_uri()
            deployment = deployment_of(server, archive, http_port=port, broker_url=broker.url)
            with image("worker", deployment, tmp_path, may_die=True):
                wait_until(lambda: status_of(port, "/readyz") == 200, 60, "it is ready")
                broker.stop()
                wait_for_red(port, "the broker: ")
                broker = start_redis(tmp_path / "broker", port=broker_port)
                wait_until(lambda: status_of(port, "/readyz") == 200, 60, "it is green again")
        finally:
            broker.stop()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_stuck_main_thread_turns_liveness_red(tmp_path: Path, pool: str) -> None:
    port = free_port()
    with kept_redis(tmp_path) as server:
        deployment = deployment_of(server, (tmp_path / "archive").as_uri(), http_port=port)
        command = f"-m celery -A support.stuck_worker worker --loglevel INFO -c 1 --pool {pool}".split()
        variables = environment(deployment.settings) | {"PYTHONPATH": f"{TESTS}{os.pathsep}{ROOT}"}
        with (tmp_path / "worker.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *command], env=variables, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
            )
        try:
            wait_until(lambda: " ready." in (tmp_path / "worker.log").read_text(), 60, "it takes tasks")
            assert status_of(port, "/livez") == 200
            os.kill(process.pid, signal.SIGUSR2)
            wait_until(lambda: status_of(port, "/livez") == 503, 60, "it is red")
            assert "stuck" in fetch(port, "/livez")[1]
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_a_port_that_is_in_use_is_named(tmp_path: Path) -> None:
    with kept_redis(tmp_path) as server:
        deployment = deployment_of(server, (tmp_path / "archive").as_uri(), http_port=server.port)
        command = [sys.executable, "-m", "torpor", "worker", "-c", "1"]
        done = subprocess.run(
            command, env=environment(deployment.settings), cwd=tmp_path, capture_output=True, text=True, check=False
        )
    assert done.returncode == 2
    assert f"TORPOR_HTTP_PORT: port {server.port} can't be opened" in done.stderr


def test_metrics_are_served_by_a_process_of_their_own_too(tmp_path: Path) -> None:
    port = free_port()
    with kept_redis(tmp_path) as server:
        deployment = deployment_of(server, (tmp_path / "archive").as_uri())
        command = [sys.executable, "-m", "torpor", "serve-metrics", "--port", str(port)]
        process = subprocess.Popen(command, env=environment(deployment.settings), cwd=tmp_path)
        try:
            wait_until(lambda: status_of(port, "/readyz") == 200, 60, "it is ready")
            assert scrape(port)["torpor_workers"] == 0
            assert status_of(port, "/livez") == 200
            assert status_of(port, "/") == 404
        finally:
            process.terminate()
        assert process.wait(scaled(20)) == 0
