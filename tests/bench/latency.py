"""Measures how soon a worker acts, on a real Redis with a real Celery worker and a folder archive.

    python tests/bench/latency.py                 make latency

From a closed session to its archived object, from the end of an idle timeout to the archived object, both also with
the listener off (beat every second), and the latency of a writer while 10,000 sessions are archived.
A session counts as archived when its segment has its name in the folder: the time of that file counts.
"""

# ruff: noqa: T201 - a program prints its results

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage

from support.compose import archived, deployment_of
from support.servers import start_redis
from support.waiting import wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import Expiry, RedisMemoryFull
from torpor.worker.archive.contents import look
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import environment

TURN = [HumanMessage("x" * 60), AIMessage("y" * 600)]
INTERVAL = 1.0
CORES = os.sched_getaffinity(0)


@contextmanager
def worker(services: Services, folder: Path, *, beat: bool, cores: set[int] = CORES) -> Iterator[None]:
    """A worker as in docker-compose.yml, with beat or without, on some of the cores."""
    command = [sys.executable, "-m", "celery", "-A", "torpor.worker.app", "worker", "-c", "2"]
    command += ["--without-gossip", "--without-mingle"]
    if beat:
        command += ["--beat", "--schedule", str(folder / "schedule")]
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment(services.settings), cwd=folder, stdout=log, stderr=log)
        os.sched_setaffinity(process.pid, cores)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def history(services: Services, session_id: str, ttl: int) -> MemorystoreChatMessageHistory:
    return MemorystoreChatMessageHistory(services.sessions.client, session_id, ttl)


def archived_at(services: Services, session_id: str) -> float:
    """The moment (s since 1970) at which the session's segment was written."""
    [segment] = look(services.archive, session_id).segments
    return segment.stored.generation / 1e9


def closed(services: Services, rounds: int) -> list[float]:
    """Seconds from close() to the archived object, one session at a time."""
    taken = []
    for number in range(rounds):
        session_id = f"closed-{number}"
        history(services, session_id, 3600).add_messages(TURN)
        before = archived(services)
        begun = time.time()
        history(services, session_id, 3600).close()
        wait_until(lambda before=before: archived(services) > before, 60)  # type: ignore[misc]
        taken.append(archived_at(services, session_id) - begun)
    return taken


def idle(services: Services, rounds: int) -> list[float]:
    """Seconds from the end of the idle timeout to the archived object; timeouts end one after the other."""
    due: dict[str, float] = {}
    before = archived(services)
    for number in range(rounds):
        session_id = f"idle-{number}"
        history(services, session_id, 1).add_messages(TURN)
        info = services.sessions.info(session_id)
        assert info
        assert info.due_at
        due[session_id] = info.due_at.timestamp()
        time.sleep(0.05)
    wait_until(lambda: archived(services) == before + rounds, 60)
    return [archived_at(services, session_id) - moment for session_id, moment in due.items()]


def row(name: str, seconds: list[float]) -> str:
    taken = sorted(second * 1000 for second in seconds)
    p99 = taken[min(len(taken) - 1, int(len(taken) * 0.99))]
    return f"| {name} | {len(taken)} | {statistics.median(taken):.1f} | {p99:.1f} | {taken[-1]:.1f} |"


def measure(rounds: int, *, listen: bool) -> list[str]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = start_redis(folder)
        interval = 3600 if listen else INTERVAL
        url = (folder / "archive").as_uri()
        services = deployment_of(server, url, listen=listen, sweep_interval_seconds=interval)
        try:
            with worker(services, folder, beat=not listen):
                for warm in range(4):  # both processes of the pool have connected
                    session_id = f"warm-{warm}"
                    history(services, session_id, 3600).add_messages(TURN)
                    history(services, session_id, 3600).close()
                wait_until(lambda: archived(services) == 4, 60)
                how = "listening, no beat" if listen else f"listener off, sweeps every {INTERVAL:.0f} s"
                return [
                    row(f"closed to archived ({how})", closed(services, rounds if listen else 10)),
                    row(f"idle timeout to archived ({how})", idle(services, rounds)),
                ]
        finally:
            server.stop()


def write_for(services: Services, seconds: float, until: Callable[[], bool]) -> list[float]:
    """The seconds of each add_messages of a writer that writes a turn every 5 ms.

    It writes for at least `seconds`, and until `until` is true. `until` is called once a second only, because each call
    costs Redis a script for each shard.
    """
    taken: list[float] = []
    ask_at = time.monotonic() + seconds
    for number in count():
        if time.monotonic() >= ask_at:
            if until():
                return taken
            ask_at = time.monotonic() + 1
        chat = history(services, f"writer-{number % 50}", 3600)
        before = time.perf_counter()
        chat.add_messages(TURN)
        taken.append(time.perf_counter() - before)
        time.sleep(0.005)
    raise AssertionError("it counts for ever")


@contextmanager
def confined(cores: set[int]) -> Iterator[None]:
    """Keep this process, and those that it starts meanwhile, on some of the cores."""
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, CORES)


def beside(sessions: int, nice: int, *, apart: bool) -> list[str]:
    """A writer's turns alone, and while `sessions` sessions are archived.

    On the same cores a writer mostly waits for a core, and less so the nicer the worker is. A worker `apart` has cores
    of its own, as on another machine: then a writer waits only because Redis has more to do.
    """
    theirs = {min(CORES)} if apart else CORES
    with tempfile.TemporaryDirectory() as name, confined(theirs):
        folder = Path(name)
        server = start_redis(folder)
        url = (folder / "archive").as_uri()
        services = deployment_of(server, url, sweep_interval_seconds=1, drain_seconds=5, nice=nice)
        try:
            with worker(services, folder, beat=True, cores=CORES - theirs or CORES):
                history(services, "warm", 3600).add_messages(TURN)
                history(services, "warm", 3600).close()
                wait_until(lambda: archived(services) == 1, 60)
                alone = write_for(services, 10, lambda: True)
                for number in range(sessions):
                    services.sessions.append(f"asleep-{number}", [b'{"content":"%b"}' % (b"x" * 600)] * 2)
                for number in range(sessions):
                    services.sessions.close(f"asleep-{number}")
                begun = time.monotonic()
                busy = write_for(services, 1, lambda: archived(services) >= sessions + 1)
                rate = sessions / (time.monotonic() - begun)
        finally:
            server.stop()
    how = f"worker {'on cores of its own' if apart else 'on the same cores'}, TORPOR_NICE={nice}"
    return [
        row(f"add_messages, alone ({how})", alone),
        row(f"add_messages, beside {sessions:,} sessions being archived, {rate:.0f} a second ({how})", busy),
    ]


def room_made(sessions: int) -> float:
    """Seconds from a worker's start until a Redis at its memory limit, which is also the broker, accepts a write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = start_redis(folder, "--maxmemory-policy", "noeviction")
        services = deployment_of(server, (folder / "archive").as_uri(), sweep_interval_seconds=15)
        large = b'{"content":"%b"}' % (b"x" * 20_000)

        def accepts() -> bool:
            with suppress(RedisMemoryFull):
                return bool(services.sessions.append("new", [large]))
            return False

        try:
            for number in range(sessions):
                services.sessions.append(f"s{number}", [large], expiry=Expiry.of_seconds(3600))
            client: Any = services.sessions.client
            client.config_set("maxmemory", client.info("memory")["used_memory"] - 200_000)
            assert not accepts()
            with worker(services, folder, beat=True):
                begun = time.monotonic()
                wait_until(accepts, 60)
                return time.monotonic() - begun
        finally:
            server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="How soon a worker acts.")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--sessions", type=int, default=10_000, help="how many are archived beside a writer")
    arguments = parser.parse_args()
    rounds = arguments.rounds
    print(f"{os.cpu_count()} cores; milliseconds\n")
    print("| what | sessions | median | 99th percentile | worst |\n| --- | --- | --- | --- | --- |")
    for listen in (True, False):
        print("\n".join(measure(rounds, listen=listen)), flush=True)
    for nice, apart in ((10, True), (10, False), (0, False)):
        print("\n".join(beside(arguments.sessions, nice, apart=apart)), flush=True)
    made = [room_made(500) for _ in range(5)]
    print(row("start of a worker to the first write of a full Redis (500 sessions of 20 kB)", made), flush=True)


if __name__ == "__main__":
    main()
