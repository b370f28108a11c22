"""Measures the adoption of many sessions of mixed formats as jobs, on a real Redis.

    python tests/bench/jobs.py --sessions 100000          make jobs-bench
    ... --beside OTHER/.venv/bin/torpor                   also adopt one format with another build, side by side
    ... --only mixed                                      one part: mixed, killed, beside or workers

mixed    how fast each tenth of the work goes in one process, and the peak of that process's memory
killed   kill -9 in the middle of the work, and what it takes to go on
beside   one format: with another build, with this one in the command alone, and as a job
workers  one worker process, and four, with --owner-pattern, which asks a bucket 20 ms away for each session
"""

# ruff: noqa: T201 - a program prints its results

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

import redis

from bench.delayed import delayed
from support.compose import deployment_of, image
from support.emulator import new_bucket, storage_emulator
from support.servers import RedisServer, start_redis
from support.waiting import wait_until
from torpor.history.protocol import FORMATS
from torpor.worker.bulk import adopting
from torpor.worker.bulk.adopting import Arguments
from torpor.worker.bulk.works import WORKS
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import environment
from torpor.worker.jobs import look, run
from torpor.worker.jobs.job import Job, JobState
from torpor.worker.jobs.look import Standing

MIXED = {"memorystore": "m", "community": "c", "langchain-js": "j", "openai-agents": "a"}
TEXTS = ["x" * 60, "y" * 600] * 2
LATENCY = 0.020
ROUNDS = 3
# So few sessions at a time that a worker waits for the bucket and not for this machine's cores, and more.
CONCURRENCIES = (2, 4)


def elements(form: str) -> list[bytes]:
    """Two turns in a format, oldest first."""
    roles = itertools.cycle(["human", "ai"] if form != "openai-agents" else ["user", "assistant"])
    if form == "openai-agents":
        return [json.dumps({"role": role, "content": text}).encode() for role, text in zip(roles, TEXTS, strict=False)]
    return [
        json.dumps({"type": role, "data": {"type": role, "content": text}}).encode()
        for role, text in zip(roles, TEXTS, strict=False)
    ]


def fill(client: redis.Redis, sessions: int, forms: dict[str, str]) -> None:
    """So many sessions, of each format as many."""
    with client.pipeline(transaction=False) as pipeline:
        for number, form in zip(range(sessions), itertools.cycle(forms), strict=False):
            layout = FORMATS[form]
            push = pipeline.lpush if layout.newest_first else pipeline.rpush
            push(layout.key(f"{forms[form]}:{number}"), *elements(form))
            if number % 1_000 == 999:
                pipeline.execute()
        pipeline.execute()


def order(services: Services, form: str, owner_pattern: str | None = None) -> str:
    deployment = services.sessions.identity().deployment
    assert deployment
    given = Arguments(format=form, match=f"{MIXED[form]}:*", owner_pattern=owner_pattern)
    return look.place(services, Job.of(adopting.NAME, given, deployment=deployment)).id


def live(services: Services) -> int:
    return sum(shard.live for shard in services.sessions.overview())


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def mixed(services: Services, sessions: int) -> None:
    """Adopt all formats, one after the other."""
    client = services.sessions.client
    fill(client, 100, MIXED)  # imports and connects
    for form in MIXED:
        run.finish(services, WORKS, order(services, form))
    fill(client, sessions, MIXED)
    before, began = peak_mib(), time.monotonic()
    moments, done = [(0, began)], 0
    for form in MIXED:

        def note(standing: Standing, done: int = done) -> None:
            if done + standing.units_done >= moments[-1][0] + sessions // 10:
                moments.append((done + standing.units_done, time.monotonic()))

        result = run.finish(services, WORKS, order(services, form), note).result
        assert result
        done += result.counts["sessions"]
    ended = time.monotonic()
    assert done == sessions, done
    print("\n| sessions | seconds | sessions a second |\n| --- | --- | --- |")
    for (first, start), (last, end) in itertools.pairwise(moments):
        print(f"| {first:,} to {last:,} | {end - start:.1f} | {(last - first) / (end - start):,.0f} |")
    print(f"\n{sessions:,} sessions of {len(MIXED)} formats in {ended - began:.1f} s, ", end="")
    print(f"{sessions / (ended - began):,.0f} a second; peak memory {before:.1f} MiB before, ", end="")
    print(f"{peak_mib() - before:.1f} added")


def killed(services: Services, sessions: int) -> None:
    """Kill the command in the middle; resume it with another one."""
    client = services.sessions.client
    fill(client, sessions, {"memorystore": "m"})
    arguments = [sys.executable, "-m", "torpor"]
    began = time.monotonic()
    process = subprocess.Popen(
        [*arguments, "adopt", "--match", "m:*", "--format", "memorystore"], env=environment(services.settings)
    )
    wait_until(lambda: live(services) >= sessions // 2, 600, "half of the sessions are adopted")
    process.kill()
    process.wait()
    half, adopted = time.monotonic(), live(services)
    [job] = look.open_jobs(services)
    subprocess.run(
        [*arguments, "jobs", "--resume", job], env=environment(services.settings), check=True, stdout=subprocess.DEVNULL
    )
    ended = time.monotonic()
    standing = look.standing(services, WORKS, job)
    assert (standing.state, live(services)) == (JobState.COMPLETE, sessions)
    print(
        f"\nkilled -9 after {half - began:.1f} s with {adopted:,} of {sessions:,} sessions adopted; the next command ",
        end="",
    )
    print(f"finished the job in {ended - half:.1f} s; all are there: {standing.counts}")


def beside(services: Services, sessions: int, *, other: str | None) -> None:
    """Commands that adopt the same sessions, in turn."""
    ours = str(Path(sys.executable).with_name("torpor"))
    sides = {"this build, --here": [ours, "--here"], "this build, a job": [ours]}
    if other:
        sides = {"the other build": [other], **sides}
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(ROUNDS * len(sides)):
        side = list(sides)[(number + number // len(sides)) % len(sides)]
        command, *options = sides[side]
        clean(services)
        fill(services.sessions.client, sessions, {"memorystore": "m"})
        began = time.monotonic()
        subprocess.run(
            [command, "adopt", "--match", "m:*", "--format", "memorystore", *options],
            env=environment(services.settings),
            check=True,
            stdout=subprocess.DEVNULL,
        )
        taken[side].append(time.monotonic() - began)
        assert live(services) == sessions
    print(f"\n| one format, {sessions:,} sessions | seconds, median of {ROUNDS} | all |\n| --- | --- | --- |")
    for side, seconds in taken.items():
        print(f"| {side} | {statistics.median(seconds):.1f} | {', '.join(f'{each:.1f}' for each in seconds)} |")


def clean(services: Services) -> None:
    """Take all sessions out of Redis, but not what the deployment is."""
    client = services.sessions.client
    config = client.dump("torpor:config")
    client.flushall()
    if config:
        client.restore("torpor:config", 0, config)


def workers(server: RedisServer, folder: Path, sessions: int) -> None:
    """The same job by one worker process and by four."""
    print("\n| at a time in a process | one worker, a second | four workers, a second | times as fast | cores busy |")
    print("| --- | --- | --- | --- | --- |")
    with storage_emulator(folder) as emulator, delayed(folder, int(emulator.rpartition(":")[2]), LATENCY) as port:
        for concurrency in CONCURRENCIES:
            taken, busy = {}, {}
            for count in (1, 4):
                bucket = new_bucket(emulator)
                with patch.dict(os.environ, STORAGE_EMULATOR_HOST=f"http://127.0.0.1:{port}"):
                    url = f"gs://{bucket}/chats"
                    taken[count], busy[count] = by_workers(
                        server, folder, url, count=count, concurrency=concurrency, sessions=sessions
                    )
            one, four = (sessions / taken[count] for count in (1, 4))
            shares = f"{busy[1]:.0%}, {busy[4]:.0%}"
            print(f"| {concurrency} | {one:,.0f} | {four:,.0f} | {four / one:.1f} | {shares} |", flush=True)


def by_workers(
    server: RedisServer, folder: Path, archive_url: str, *, count: int, concurrency: int, sessions: int
) -> tuple[float, float]:
    """How many seconds the job takes, and how busy this machine's cores are meanwhile."""
    with server.client() as client, ExitStack() as running:
        client.flushall()
        services = deployment_of(server, archive_url, idle_timeout_seconds=36_000, concurrency=concurrency)
        fill(client, sessions, {"memorystore": "m"})
        for number in range(count):
            place = folder / f"{concurrency}-{count}-{number}"
            place.mkdir()
            running.enter_context(image("worker", services, place, "-c", "1", "-n", f"worker-{number}@%h"))
        running.enter_context(image("beat", services, folder))
        wait_until(lambda: seen_workers(services) == count, 60, "all workers are there")
        began, idle, total = time.monotonic(), *ticks()
        job = order(services, "memorystore", owner_pattern="([^:]+):")
        while look.standing(services, WORKS, job).state is not JobState.COMPLETE:
            time.sleep(0.5)  # between two looks, which cost the bucket something
        ended, idle_then, total_then = time.monotonic(), *ticks()
        assert live(services) == sessions
        return ended - began, 1 - (idle_then - idle) / (total_then - total)


def ticks() -> tuple[int, int]:
    """Of all cores since the start: idle, and all."""
    _, *spent = Path("/proc/stat").read_text().splitlines()[0].split()
    numbers = [int(each) for each in spent[:8]]
    return numbers[3] + numbers[4], sum(numbers)


def seen_workers(services: Services) -> int:
    return sum(name.startswith("seen:worker:") for name in services.sessions.measures().seen)


@contextmanager
def deployment(server: RedisServer, folder: Path) -> Iterator[Services]:
    """A deployment on an empty Redis, with a folder as the archive."""
    with server.client() as client, tempfile.TemporaryDirectory(dir=folder) as archive:
        client.flushall()
        yield deployment_of(server, Path(archive).as_uri(), idle_timeout_seconds=36_000)


def main() -> None:
    parser = argparse.ArgumentParser(description="Adopting many sessions as jobs.")
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--beside", help="the torpor command of another build")
    parser.add_argument("--only", choices=["mixed", "killed", "beside", "workers"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = start_redis(folder)
        try:
            parts: dict[str, Callable[[Services, int], None]] = {
                "mixed": mixed,
                "killed": killed,
                "beside": partial(beside, other=given.beside),
            }
            for part, act in parts.items():
                if given.only in (None, part):
                    with deployment(server, folder) as services:
                        act(services, given.sessions)
            if given.only in (None, "workers"):
                workers(server, folder, given.sessions)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
