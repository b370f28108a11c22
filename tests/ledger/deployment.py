"""The deployment of a round: a Redis and an archive behind proxies, and workers that are replaced when they die."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import redis

from support.emulator import new_bucket, storage_emulator
from support.paths import ROOT, TESTS
from support.redis_proxy import Proxy
from support.servers import start_redis
from support.storage_proxy import StorageProxy
from torpor.history.protocol import Compression
from torpor.worker.deployment.settings import Settings, environment, load_settings

# The settings of the two workers.
COMPRESSIONS = {
    "mixed": (Compression.NONE, Compression.ZSTD),
    "none": (Compression.NONE, Compression.NONE),
    "zstd": (Compression.ZSTD, Compression.ZSTD),
}


class Failed(Exception):
    """A round could not be finished."""


@dataclass(frozen=True)
class Deployment:
    """A round's Redis and archive: `faulty` goes through the proxies, `direct` around them."""

    seed: str
    sessions: int
    writers: int
    compressions: Sequence[Compression]
    faulty: Settings
    direct: Settings
    emulator: dict[str, str]  # the environment of the way through the proxies


@dataclass(frozen=True)
class Parts:
    """A round's servers and the proxies before them. `emulator` is the environment of the way around them."""

    deployment: Deployment
    proxy: Proxy
    storage: StorageProxy | None  # before a bucket
    folder: Path  # of the archive, if there is no bucket
    broker: redis.Redis
    emulator: dict[str, str]


@contextmanager
def started(folder: Path, store: str, seed: str, options: argparse.Namespace) -> Iterator[Parts]:
    compressions = COMPRESSIONS[options.compression]
    with ExitStack() as stack:
        server = start_redis(folder)
        stack.callback(server.stop)
        proxy = stack.enter_context(Proxy(server.port))
        broker = stack.enter_context(redis.Redis(port=server.port, db=1))
        storage, emulator, archive_url = None, {}, (folder / "archive").as_uri()
        if store == "gcs":
            url = stack.enter_context(storage_emulator(folder))
            storage = stack.enter_context(StorageProxy(url).running())
            emulator, archive_url = {"STORAGE_EMULATOR_HOST": url}, f"gs://{new_bucket(url)}/chats"
        settings = {
            "archive_url": archive_url,
            "broker_url": f"redis://127.0.0.1:{server.port}/1",
            "lease_seconds": 2,
            "sweep_interval_seconds": 0.5,
            "retry_delay_seconds": 0.5,
            "drain_seconds": 5,
            "concurrency": 4,
            "batch": 16,
            # Workers die all the time here, which is not their sessions' fault. A session that can't be archived
            # is found nevertheless, because it never falls asleep.
            "max_attempts": 1_000,
            "compression": compressions[-1],
        }
        deployment = Deployment(
            seed,
            options.sessions,
            options.writers,
            compressions,
            faulty=load_settings({**settings, "redis_url": proxy.url}),
            direct=load_settings({**settings, "redis_url": server.url}),
            emulator={"STORAGE_EMULATOR_HOST": storage.url} if storage else {},
        )
        os.environ.update(emulator)
        yield Parts(deployment, proxy, storage, folder / "archive", broker, emulator)


class Program:
    """A worker or beat in a process group of its own; it is replaced when it dies."""

    def __init__(self, name: str, command: Sequence[str], env: dict[str, str], folder: Path) -> None:
        self.name = name
        self._command = [sys.executable, "-m", "celery", *command]
        self._env = env
        self._folder = folder
        self._orphaned: float | None = None
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with (self._folder / f"{self.name}.log").open("ab") as log:
            return subprocess.Popen(
                self._command, env=self._env, cwd=self._folder, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def running(self) -> bool:
        if self._process.returncode is not None:
            return False
        # WNOWAIT: until the process is reaped, no other process gets its id or its group's.
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def kill(self) -> None:
        """Kill the process and all its children, also those that it has left behind."""
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._orphaned = None

    def kill_head(self, orphans_for: float) -> None:
        """Kill the worker itself; its children go on for a while beside the next worker."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._orphaned = time.monotonic() + orphans_for

    @property
    def processes(self) -> list[int]:
        """The process and its children; empty if it has died."""
        pid = self._process.pid
        with suppress(FileNotFoundError, ProcessLookupError):
            return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
        return []

    def keep_up(self) -> None:
        """Replace programs that have died."""
        if not self.running and time.monotonic() > (self._orphaned or 0):
            self.kill()
            self._process = self._start()


@contextmanager
def run_workers(
    folder: Path, settings: Settings, extra: dict[str, str], app: str, compressions: Sequence[Compression]
) -> Iterator[list[Program]]:
    """A worker for each of the `compressions`, and beat."""
    env = environment(settings) | {"PYTHONPATH": f"{TESTS}{os.pathsep}{ROOT}"} | extra
    running: list[Program] = []
    try:
        for number, compression in enumerate(compressions):
            command = f"-A {app} worker -c 2 -n {app}-{number}@%h --without-gossip --without-mingle".split()
            own = {"LEDGER_SEED": f"{number}", "LEDGER_KILL_WHOM": ("process", "group")[number]}
            own["TORPOR_COMPRESSION"] = compression
            running.append(Program(f"{app}-{number}", command, env | own, folder))
        command = f"-A {app} beat --schedule {folder / 'schedule'}".split()
        running.append(Program(f"{app}-beat", command, env, folder))
        yield running
    finally:
        for program in running:
            program.kill()
