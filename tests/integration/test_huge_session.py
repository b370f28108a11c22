"""A session of 100,000 messages is archived and restored in little memory, in a process of its own."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from typing import Any

import redis
from conftest import raw

from history import SessionOperations, SessionStore
from history.store.application import PAGE_BYTES
from worker.archive import archive_session
from worker.restore import restore_session
from worker.services import Services
from worker.settings import environment

MIB = 1024 * 1024
MESSAGES = 100_000
BUDGET_KIB = 64 * 1024

# What a worker does: connect, do a small job, and then the one that is measured.
WORKER = """
import json, sys
from worker.archive import archive_session
from worker.restore import restore_session
from worker.services import connect
from worker.settings import load_settings

def memory(what):
    [line] = [line for line in open("/proc/self/status") if line.startswith(what)]
    return int(line.split()[1])

services = connect(load_settings())
job = {"archive": archive_session, "restore": restore_session}[sys.argv[1]]
archive_session(services, "tiny")
restore_session(services, "tiny")
idle = memory("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
result = job(services, "huge")
print(json.dumps({"idle": idle, "peak": memory("VmHWM"), "outcome": result.outcome, "messages": result.messages}))
"""


def message(number: int, rng: random.Random) -> bytes:
    """About 500 bytes, hard to compress: the segment is well above what one upload request takes."""
    return b'{"type":"human","data":{"content":"%d %b"}}' % (number, rng.randbytes(228).hex().encode())


def write(sessions: SessionStore) -> tuple[str, int]:
    """Write the session; returns the SHA-256 and the size of its elements, each with its length."""
    rng = random.Random(1)
    digest = hashlib.sha256()
    size = 0
    for first in range(0, MESSAGES, 1_000):
        page = [message(number, rng) for number in range(first, first + 1_000)]
        sessions.append("huge", page)
        for element in page:
            digest.update(b"%d:%b" % (len(element), element))
            size += len(element)
    return digest.hexdigest(), size


def stored(client: redis.Redis) -> str:
    [key] = raw(client, "KEYS", "*:m:huge")
    digest = hashlib.sha256()
    first = 0
    while page := raw(client, "LRANGE", key, first, first + 999):
        for element in page:
            digest.update(b"%d:%b" % (len(element), element))
        first += len(page)
    return digest.hexdigest()


def in_a_process(job: str, services: Services) -> dict[str, Any]:
    command = [sys.executable, "-c", WORKER, job]
    env = environment(services.settings)
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def test_a_huge_session_sleeps_and_wakes_in_64_mib(client: redis.Redis, services: Services) -> None:
    sessions = services.sessions
    sessions.append("tiny", [b"{}"])
    written, size = write(sessions)
    assert 45 * MIB < size < 55 * MIB

    archived = in_a_process("archive", services)
    assert (archived["outcome"], archived["messages"]) == ("archived", MESSAGES)
    assert sessions.info("huge") is None

    restored = in_a_process("restore", services)
    assert (restored["outcome"], restored["messages"]) == ("restored", MESSAGES)
    assert stored(client) == written

    added = {job: done["peak"] - done["idle"] for job, done in (("archive", archived), ("restore", restored))}
    described = f"{services.archive.url.partition(':')[0]}: idle {archived['idle']:,} KiB, at the peak more by (KiB)"
    print(f"{described} {added}")  # noqa: T201 - pytest -s shows the measurement
    assert max(added.values()) <= BUDGET_KIB, added


def test_no_page_is_much_larger_than_1_mib(sessions: SessionStore) -> None:
    sessions.append("s", [b'"%b"' % (b"%d" % (number % 10) * 1_500) for number in range(3_000)])
    pages = [sum(map(len, page.messages)) for page in sessions.pages("s")]
    assert len(pages) > 3
    assert max(pages) < PAGE_BYTES + 1_600
    assert min(pages[:-1]) >= PAGE_BYTES


def test_no_page_of_small_messages_has_more_than_a_thousand(sessions: SessionStore) -> None:
    rng = random.Random(2)
    said = [message(number, rng) for number in range(3_500)]
    sessions.append("s", said)
    pages = [page.messages for page in sessions.pages("s")]
    assert [len(page) for page in pages] == [1_000, 1_000, 1_000, 500]
    assert [each for page in pages for each in page] == said


def test_no_page_of_large_messages_is_much_larger_than_2_mib(sessions: SessionStore) -> None:
    sessions.append("s", [b"%d" % number * MIB for number in range(10)] * 3)
    pages = [sum(map(len, page.messages)) for page in sessions.pages("s")]
    assert sum(pages) == 30 * MIB
    assert max(pages) <= 2 * MIB


def test_a_page_of_a_restore_holds_1_mib(services: Services) -> None:
    elements = [b'"%b"' % (b"%d" % number * (MIB // 2)) for number in range(8)]
    services.sessions.append("s", elements)
    archive_session(services, "s")
    sizes: list[int] = []

    class Measuring(SessionOperations):
        async def stage(self, ticket: Any, staged: int, messages: Any, lease: Any) -> bool:
            sizes.append(sum(map(len, messages)))
            return await super().stage(ticket, staged, messages, lease)

    sessions = SessionStore(services.sessions.client)
    sessions.operations = Measuring(sessions)
    measuring = Services(services.settings, sessions, services.archive)
    assert restore_session(measuring, "s").messages == 8
    assert len(sizes) == 4
    assert max(sizes) < 1.6 * MIB
    assert services.sessions.messages("s") == elements
