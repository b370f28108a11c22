"""Measures the purge of an owner with many sessions, half of them archived, on a real Redis and a folder archive.

    python tests/bench/purge.py --sessions 10000           make purge-bench

Prints how long each tenth of the purge took, and the peak of this process's memory before and after it.
"""

# ruff: noqa: T201 - a program prints its results

from __future__ import annotations

import argparse
import gc
import itertools
import resource
import tempfile
import time
from pathlib import Path

from support.compose import deployment_of
from support.servers import start_redis
from torpor.history.protocol import Expiry
from torpor.worker.deployment.services import Services
from torpor.worker.erasure.inventory import Tally
from torpor.worker.erasure.order import Order
from torpor.worker.erasure.purge import purge
from torpor.worker.sleep.drain import drain

TURN = [
    b'{"type":"human","data":{"content":"%s"}}' % (b"x" * 60),
    b'{"type":"ai","data":{"content":"%s"}}' % (b"y" * 600),
]


def fill(services: Services, sessions: int) -> None:
    """Half of the sessions in the archive, half in Redis."""
    for number in range(sessions):
        services.sessions.append(f"session-{number}", TURN, expiry=Expiry.of_seconds(3_600), owner="ann")
        if number % 2:
            services.sessions.close(f"session-{number}")
    while due := services.sessions.due_counts():
        drain(services, list(due))


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description="Purging an owner with many sessions.")
    parser.add_argument("--sessions", type=int, default=10_000)
    sessions = parser.parse_args().sessions
    with tempfile.TemporaryDirectory() as folder:
        server = start_redis(Path(folder))
        try:
            services = deployment_of(server, (Path(folder) / "archive").as_uri(), idle_timeout_seconds=3_600)
            fill(services, 100)  # imports and connects
            purge(services, Order.of(owner="ann"))
            services.sessions.client.flushall()
            fill(services, sessions)
            measure(services, sessions)
        finally:
            server.stop()


def measure(services: Services, sessions: int) -> None:
    gc.collect()
    before, began = peak_mib(), time.monotonic()
    moments: list[tuple[int, float]] = [(0, began)]

    def note(found: Tally) -> None:
        if found.sessions >= moments[-1][0] + sessions // 10:
            moments.append((found.sessions, time.monotonic()))

    standing = purge(services, Order.of(owner="ann"), note)
    ended = time.monotonic()
    assert standing.receipt
    assert standing.receipt.removed.sessions == sessions, standing
    print("| sessions | seconds | sessions a second |\n| --- | --- | --- |")
    for (first, start), (last, end) in itertools.pairwise(moments):
        print(f"| {first:,} to {last:,} | {end - start:.1f} | {(last - first) / (end - start):,.0f} |")
    print(f"| recheck and receipt | {ended - moments[-1][1]:.1f} | {sessions / (ended - moments[-1][1]):,.0f} |")
    print(f"\n{standing.state}: {sessions:,} sessions in {ended - began:.1f} s; peak memory {before:.1f} MiB before, ")
    print(f"{peak_mib() - before:.1f} MiB added")


if __name__ == "__main__":
    main()
