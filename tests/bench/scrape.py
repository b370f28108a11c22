"""Measures what a scrape of the metrics costs Redis, beside an empty deployment and with many sessions.

    python tests/bench/scrape.py --sessions 1000000           make scrape-bench

Prints milliseconds of Redis's CPU time a scrape, of the round that has taken least: another process on the machine
makes a round dearer, never cheaper. The sessions are entries of the due index, and the tallies have counts: a scrape
sees no more of sessions that are not due.
"""

# ruff: noqa: T201 - a program prints its results

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import redis

from support.compose import deployment_of
from support.servers import RedisServer, start_redis
from torpor.worker.deployment.services import Services
from torpor.worker.monitoring.figures import gather

LIMIT_MS = 5.0
ROUNDS, SCRAPES = 10, 10
# What the tally of a shard has after sessions were archived, kept, postponed and woken.
COUNTED = (
    "claims",
    "archived",
    "archived_messages",
    "archived_bytes",
    "freed_bytes",
    "kept",
    "postponed",
    "restored",
    "restored_messages",
    "woken",
)


def fill(server: RedisServer, services: Services, sessions: int) -> None:
    """Sessions that fall due in the next day, in all shards, and counts of what happened before."""
    services.sessions.append("first", [b"{}"])
    keyspace = services.sessions.deployment.keyspace
    tomorrow = int(time.time() * 1000) + 86_400_000
    with server.client() as client:
        for shard in range(keyspace.shards):
            numbers = range(shard, sessions, keyspace.shards)
            client.zadd(keyspace.shard(shard).due, {f"session-{number}": tomorrow - number for number in numbers})
            client.hset(keyspace.shard(shard).tally, mapping=dict.fromkeys(COUNTED, 100_000 + shard))


def cost(server: RedisServer, services: Services) -> float:
    """Milliseconds of Redis's CPU time a scrape, in the cheapest round."""
    with server.client() as client:
        return min(spent(client, services) for _ in range(ROUNDS))


def spent(client: redis.Redis, services: Services) -> float:
    """Milliseconds of Redis's CPU time a scrape, in one round."""
    before = client.info("cpu")
    for _ in range(SCRAPES):
        gather(services)
    after = client.info("cpu")
    return 1000 * sum(float(after[name] - before[name]) for name in ("used_cpu_user", "used_cpu_sys")) / SCRAPES


def main() -> None:
    parser = argparse.ArgumentParser(description="What a scrape of the metrics costs Redis.")
    parser.add_argument("--sessions", type=int, default=1_000_000)
    sessions = parser.parse_args().sessions
    with tempfile.TemporaryDirectory() as folder:
        server = start_redis(Path(folder))
        try:
            services = deployment_of(server, (Path(folder) / "archive").as_uri())
            services.sessions.append("first", [b"{}"])
            print(f"empty: {cost(server, services):.1f} ms")
            fill(server, services, sessions)
            full = cost(server, services)
            print(f"{sessions:,} sessions: {full:.1f} ms (at most {LIMIT_MS:.0f})")
        finally:
            server.stop()
    raise SystemExit(full > LIMIT_MS)


if __name__ == "__main__":
    main()
