"""What the demo runs beside itself: a Redis, a worker, and the console. Each ends with the demo."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fakeredis import TcpFakeServer

from torpor.worker.deployment.settings import Settings, environment
from torpor.worker.errors import SettingsError

_PATIENCE_SECONDS = 30


@contextmanager
def redis_server(url: str | None) -> Iterator[str]:
    """The URL of the given Redis, or of a built-in server that ends with the demo."""
    if url:
        yield url
        return
    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="torpor-demo-redis", daemon=True)
    thread.start()
    try:
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def worker(settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A Celery worker with beat, in its own process that writes to `log`."""
    options = ["--beat", "--schedule", str(log.parent / "beat"), "--concurrency", "2", "--loglevel", "INFO"]
    quiet = ["--without-gossip", "--without-mingle"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "torpor", "worker", *options, *quiet],
            # A worker that is killed leaves a folder of Celery's in the temporary folder; the demo removes its own.
            env={**environment(settings), "TMPDIR": str(log.parent)},
            stdout=output,
            stderr=output,
        )
    with _ending(process):
        yield process


@contextmanager
def console(settings: Settings) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The web console of this machine: its address, with the token, and its process. Raises SettingsError."""
    command = [sys.executable, "-m", "torpor", "console", "--port", "0"]
    process = subprocess.Popen(command, env=environment(settings), stdout=subprocess.PIPE)
    with _ending(process):
        assert process.stdout
        said = process.stdout.readline().decode()
        if not said:
            raise SettingsError(f"the console did not start; see: {' '.join(command[2:])}")
        yield said.partition(" is at ")[2].partition(";")[0].strip(), process


@contextmanager
def _ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End the process with the body."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()
