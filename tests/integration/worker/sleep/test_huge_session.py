"""A session of 100,000 messages is archived and restored in little memory, in a process of its own."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import pytest
import redis

from support.huge_session import MIB, added_memory, message, write
from support.keyspace import raw
from torpor.history.protocol import SessionOperations, SessionStore
from torpor.history.store.reading import PAGE_BYTES
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.wake.restore import restore_session

pytestmark = pytest.mark.slow

BUDGET = 64 * MIB


def stored(client: redis.Redis) -> str:
    [key] = raw(client, "KEYS", "*:m:huge")
    digest = hashlib.sha256()
    first = 0
    while page := raw(client, "LRANGE", key, first, first + 999):
        for element in page:
            digest.update(b"%d:%b" % (len(element), element))
        first += len(page)
    return digest.hexdigest()


def test_a_huge_session_sleeps_and_wakes_in_64_mib(client: redis.Redis, services: Services) -> None:
    sessions = services.sessions
    sessions.append("tiny", [b"{}"])
    written, size = write(sessions)
    assert 45 * MIB < size < 55 * MIB

    added = {"archive": added_memory("archive", services)}
    assert sessions.info("huge") is None
    added["restore"] = added_memory("restore", services)
    assert stored(client) == written

    described = f"{services.archive.url.partition(':')[0]}: added at the peak (MiB)"
    print(described, {job: size // MIB for job, size in added.items()})  # noqa: T201 - pytest -s shows the measurement
    assert max(added.values()) <= BUDGET, added


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


def test_a_page_of_a_restore_holds_a_quarter_of_a_mib_and_the_rest_of_a_message(services: Services) -> None:
    elements = [b'"%b"' % (b"%x" % number * (MIB // 8)) for number in range(16)]
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
    assert restore_session(measuring, "s").messages == 16
    assert len(sizes) == 8
    assert max(sizes) < 0.4 * MIB
    assert services.sessions.messages("s") == elements
