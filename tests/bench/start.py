"""A worker's time from its start to its first claim, and its memory when it has nothing to do, beside another build.

    make start-bench ARGS="--beside OTHER/.venv/bin/torpor"

Workers with two processes start alternately in both builds, with sessions that are due, an empty broker in the same
Redis, and a bucket of the emulator. The memory is that of all processes, each shared page counted once (PSS), after
they have archived these sessions.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from support.compose import archived, deployment_of
from support.emulator import new_bucket, storage_emulator
from support.servers import RedisServer, start_redis
from support.waiting import wait_until
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import environment

OWN = Path(sys.executable).with_name("torpor")
# As in the Dockerfile.
OPTIONS = ["worker", "--loglevel", "INFO", "--concurrency", "2", "--without-gossip", "--without-mingle"]
# So that both processes have worked, and have connected to Redis and to the bucket.
SESSIONS = 200
_TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1024 * 1024


class Started(NamedTuple):
    """What a worker took: seconds to its first claim, of time and of CPU, seconds of CPU until idle, and MiB then."""

    seconds: float
    cpu_to_claim: float
    cpu: float
    memory: float


def start(torpor: Path, server: RedisServer, emulator: str, folder: Path) -> Started:
    """Start a worker, let it archive what is due, measure it, and stop it."""
    with server.client() as client:
        client.flushall()
        services = deployment_of(server, f"gs://{new_bucket(emulator)}/chats", sweep_interval_seconds=3600)
        for number in range(SESSIONS):
            services.sessions.append(f"session-{number}", [b"{}"])
            services.sessions.close(f"session-{number}")
        with (folder / "worker.log").open("wb") as log:
            began = time.monotonic()
            process = subprocess.Popen(
                [torpor, *OPTIONS], env=_environment(services), cwd=folder, stdout=log, stderr=log
            )
        try:
            wait_until(lambda: _claims(services), what="the worker claims a session")
            seconds = time.monotonic() - began
            cpu_to_claim = _cpu(process.pid)
            wait_until(lambda: archived(services) == SESSIONS, what="the worker has archived all sessions")
            memory = sum(map(_memory, _family(process.pid))) / MIB
            return Started(seconds, cpu_to_claim, _cpu(process.pid), memory)
        finally:
            process.terminate()
            process.wait(60)


def _environment(services: Services) -> Mapping[str, str]:
    # PYTHONPATH would make the other build import this one's code.
    return {name: value for name, value in environment(services.settings).items() if not name.startswith("PYTHON")}


def _claims(services: Services) -> int:
    return services.sessions.figures().counts["claims"]


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _family(int(child)))]


def _cpu(pid: int) -> float:
    return sum(map(_cpu_seconds, _family(pid)))


def _cpu_seconds(pid: int) -> float:
    """User and system time; https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _memory(pid: int) -> int:
    """The bytes of a process; of a page that n processes share, an n-th."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def measure(builds: Mapping[str, Path], rounds: int) -> None:
    """Start each build's worker in each round, and print the medians."""
    taken: dict[str, list[Started]] = {name: [] for name in builds}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = start_redis(folder)
        try:
            with storage_emulator(folder) as emulator:
                for number in range(-1, rounds):  # a first round compiles, and does not count
                    for build in list(builds)[:: 1 if number % 2 else -1]:
                        started = start(builds[build], server, emulator, folder)
                        if number >= 0:
                            taken[build].append(started)
        finally:
            server.stop()
    for build, rows in taken.items():
        sys.stdout.write(f"{build}: {_medians(rows)}\n")


def _medians(rows: Sequence[Started]) -> str:
    seconds, cpu_to_claim, cpu, memory = (statistics.median(each) for each in zip(*rows, strict=True))
    return (
        f"{seconds:.2f} s and {cpu_to_claim:.2f} s of CPU to the first claim, {cpu:.2f} s of CPU until idle, "
        f"{memory:.0f} MiB when idle"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torpor", type=Path, default=OWN, help="the command of this build, in another environment")
    parser.add_argument("--beside", type=Path, help="the torpor command of another build, in its own environment")
    parser.add_argument("--rounds", type=int, default=9, help="how often each worker starts")
    options = parser.parse_args()
    measure({"this build": options.torpor, **({"the other": options.beside} if options.beside else {})}, options.rounds)


if __name__ == "__main__":
    main()
