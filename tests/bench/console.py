"""Measures the console's lists and searches over many sessions, on a real Redis and a folder archive.

    PYTHONPATH=.:tests python tests/bench/console.py --sessions 1000000          make console-bench

The sessions in Redis are written by a script of this file, as an application's first message leaves them. Those asleep
are written by the product's own segment writer, with their owner markers: of 200,000 only 20,000, unless
--written-asleep says more, so that the files of the others need not be made. The console is a process of its own, as
`torpor console` starts it. Redis's CPU is that of its process (INFO cpu), its idle work included.
"""

# ruff: noqa: T201 - a program prints its results

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis

from support.compose import deployment_of
from support.consoles import Visitor, started
from support.servers import start_redis
from torpor.history.protocol import SessionInfo
from torpor.worker.access.cursor import Cursor, Stretch
from torpor.worker.archive import names
from torpor.worker.archive.segment import pack
from torpor.worker.archive.segment_metadata import SegmentMetadata
from torpor.worker.deployment.services import Services

MEDIAN_LIMIT_MS, CPU_LIMIT_MS = 500.0, 20.0
# The sessions of the owner that is looked for, awake and asleep.
OWNED, OWNED_ASLEEP = 100, 20
OF_OTHERS = 20
ROUNDS = 30
MESSAGE = json.dumps({"type": "human", "data": {"content": "Where is my order?", "type": "human"}}).encode()
# KEYS[1] the shard's tag; ARGV: a message, the due moment, how many fields and values follow, these; ids and owners.
WRITE = """
local first = 4 + ARGV[3]
for index = first, #ARGV, 2 do
  local id, owner = ARGV[index], ARGV[index + 1]
  redis.call('RPUSH', KEYS[1] .. ':m:' .. id, ARGV[1])
  redis.call('HSET', KEYS[1] .. ':s:' .. id, 'owner', owner, unpack(ARGV, 4, first - 1))
  redis.call('ZADD', KEYS[1] .. ':due', ARGV[2], id)
  redis.call('SADD', KEYS[1] .. ':o:' .. owner, id)
end
"""


def named(number: int) -> tuple[str, str]:
    """The id and the owner of a session that is awake."""
    return f"support/{number:08}", "ann" if number < OWNED else f"owner-{number // OF_OTHERS}"


def named_asleep(number: int) -> tuple[str, str]:
    return f"asleep/{number:08}", "ann" if number < OWNED_ASLEEP else f"owner-{number // OF_OTHERS}"


def fill(services: Services, client: redis.Redis, sessions: int) -> None:
    """Sessions in Redis, of one message each, that fall due in the next days."""
    services.sessions.append("first", [MESSAGE], owner="first")
    keyspace = services.sessions.deployment.keyspace
    found: dict[bytes, bytes] = client.hgetall(keyspace.of(b"first").metadata(b"first"))  # type: ignore[assignment]
    fields = [each for pair in found.items() if pair[0] not in (b"owner", b"seen") for each in pair]
    due = int(time.time() * 1000) + 86_400_000
    shards: dict[int, list[str]] = defaultdict(list)
    for number in range(sessions):
        session_id, owner = named(number)
        shards[keyspace.shard_of(session_id.encode())] += (session_id, owner)
    for shard, texts in shards.items():
        for at in range(0, len(texts), 2_000):
            arguments: list[Any] = [MESSAGE, due + at, len(fields), *fields, *texts[at : at + 2_000]]
            client.eval(WRITE, 1, keyspace.shard(shard).tag, *arguments)


def fill_asleep(services: Services, sessions: int) -> None:
    """Sessions that only the archive has: a segment of one message each, and the owner's marker."""
    [info] = services.sessions.infos(["first"])
    assert isinstance(info, SessionInfo)

    def put(number: int) -> None:
        session_id, owner = named_asleep(number)
        snapshot = replace(info, session_id=session_id, owner=owner)
        packed = pack(session_id, info.epoch, 0, 0, [[MESSAGE]])
        marker = {"session": session_id, "owner": owner}
        services.archive.put(names.owner_marker(owner, session_id, info.epoch), BytesIO(), 0, metadata=marker)
        with packed.body:
            services.archive.put(
                names.segment_name(session_id, packed.name),
                packed.body,
                packed.size,
                metadata=SegmentMetadata.of(snapshot, packed).stored(),
            )

    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(put, range(sessions)):
            pass


@dataclass
class Meter:
    """Asks the console, and measures what that costs."""

    visitor: Visitor
    client: redis.Redis

    def cpu_ms(self) -> float:
        """The CPU time of Redis so far."""
        found: dict[str, Any] = self.client.info("cpu")
        return 1000 * float(found["used_cpu_user"] + found["used_cpu_sys"])

    def measure(self, what: str, path: Callable[[int], str], *, rows: int | None = None) -> tuple[float, float]:
        """Print the median and the worst time of a page, and Redis's CPU a page; returns the first and the last."""
        self.visitor.get(path(0))
        before, times = self.cpu_ms(), []
        for round_ in range(ROUNDS):
            began = time.perf_counter()
            page = self.visitor.get(path(round_)).text
            times.append(1000 * (time.perf_counter() - began))
            found = page.count('<th scope="row"')
            assert rows in (None, found), (what, found)
        cpu = (self.cpu_ms() - before) / ROUNDS
        median = statistics.median(times)
        print(f"| {what} | {median:,.0f} | {max(times):,.0f} | {cpu:.1f} |", flush=True)
        return median, cpu

    def search(self, query: str, sessions: int) -> None:
        """Print when the first row of a search comes, how long it takes until its end, and what it costs Redis."""
        before, began, first, text = self.cpu_ms(), time.perf_counter(), 0.0, ""
        with self.visitor.http.get(f"{self.visitor.url}/sessions?{query}", stream=True, timeout=3_600) as reply:
            for part in reply.iter_content(None, decode_unicode=True):
                text += part
                if not first and '<th scope="row"' in text:
                    first = time.perf_counter() - began
        seconds, cpu = time.perf_counter() - began, self.cpu_ms() - before
        found = text.count('<th scope="row"')
        assert "</html>" in text
        when = f"{first:.2f} s" if first else "-"
        print(
            f"| {query} | {found} | {when} | {seconds:.1f} s | {sessions / seconds:,.0f} | {cpu:,.0f} ms |"
            f" {100 * cpu / 1000 / seconds:.1f} % |",
            flush=True,
        )


def figures(meter: Meter, awake: int, asleep: int) -> bool:
    """Print the table of pages; returns True if those that are asked for by id and owner keep to the limits."""
    last = awake - 1
    deep = quote(str(Cursor(Stretch.AWAKE, named(awake // 2)[0])))
    print("| page | median ms | worst ms | Redis CPU ms |\n| --- | --- | --- | --- |")
    meter.measure("overview", lambda _: "/?part=now")
    kept = [
        meter.measure("by id, awake", lambda number: f"/sessions?id={quote(named(last - number)[0])}", rows=1),
        meter.measure("by id, asleep", lambda number: f"/sessions?id={quote(named_asleep(number)[0])}", rows=1),
        meter.measure(f"by owner, {OF_OTHERS} sessions", lambda _: f"/sessions?owner={named(last - OF_OTHERS)[1]}"),
        meter.measure(f"by owner, {OWNED + OWNED_ASLEEP} sessions", lambda _: "/sessions?owner=ann", rows=100),
    ]
    meter.measure("the list, first page", lambda _: "/sessions", rows=100)
    meter.measure("the list, a page in the middle", lambda _: f"/sessions?cursor={deep}", rows=100)
    meter.measure("a session's page, awake", lambda number: f"/session?id={quote(named(number)[0])}")
    meter.measure("a session's page, asleep", lambda number: f"/session?id={quote(named_asleep(number)[0])}")
    return all(median <= MEDIAN_LIMIT_MS and cpu <= CPU_LIMIT_MS for median, cpu in kept)


def main() -> None:
    parser = argparse.ArgumentParser(description="The console over many sessions.")
    parser.add_argument("--sessions", type=int, default=1_000_000, help="All of them.")
    parser.add_argument("--asleep", type=int, default=200_000, help="How many of them are asleep.")
    parser.add_argument("--written-asleep", type=int, default=20_000, help="How many of these are really written.")
    given = parser.parse_args()
    awake, asleep = given.sessions - given.asleep, min(given.asleep, given.written_asleep)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        server = start_redis(folder)
        stack.callback(server.stop)
        services = deployment_of(server, (folder / "archive").as_uri(), idle_timeout_seconds=86_400)
        client = stack.enter_context(server.client())
        began = time.perf_counter()
        fill(services, client, awake)
        fill_asleep(services, asleep)
        print(
            f"{awake:,} sessions in Redis, {asleep:,} in the archive, filled in {time.perf_counter() - began:.0f} s\n"
        )
        console = stack.enter_context(started(services, folder))
        meter = Meter(console.visitor(), client)
        is_kept = figures(meter, awake, asleep)
        limits = f"{MEDIAN_LIMIT_MS:.0f} ms, {CPU_LIMIT_MS:.0f} ms of Redis"
        print(f"\nby id and owner, at most {limits}: {'kept' if is_kept else 'NOT KEPT'}\n")
        print("| search | found | first row | all | sessions/s | Redis CPU | share |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        meter.search("state=awake&prefix=support/000001", awake)  # 100 of them: the page is full before the end
        meter.search("state=awake&prefix=support/0000012", awake)
        meter.search("state=awake&prefix=nobody", awake)
        meter.search("state=asleep&prefix=asleep/0000012", asleep)
        meter.search("state=quarantined", awake)
    raise SystemExit(not is_kept)


if __name__ == "__main__":
    main()
