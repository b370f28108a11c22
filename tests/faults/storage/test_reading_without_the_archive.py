"""Chats whose archive is down: a read gives up soon, and a new chat can begin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from support.servers import RedisServer
from support.storage_proxy import Fault, StorageProxy, answered, reset_before, stalled_before
from torpor import MemorystoreChatMessageHistory, MemorystoreSession, SessionArchive
from torpor.history.protocol import Expiry, SessionIncomplete
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveUnavailable
from torpor.worker.sleep.attempt import archive_session

PATIENCE = 2.0
FAULTS = {
    "503": answered(503),
    "429 with Retry-After": answered(429, **{"Retry-After": "20"}),
    "reset": reset_before,
    "stalled": stalled_before,
}
Body = Callable[[MemorystoreSession], Coroutine[Any, Any, Any]]
ITEM: Any = {"role": "user", "content": "one"}


@pytest.fixture(autouse=True)
def quick() -> None:
    """Here the waiting is what is tested."""


@pytest.fixture(params=list(FAULTS.values()), ids=list(FAULTS))
def down(request: pytest.FixtureRequest, proxy: StorageProxy, services: Services) -> None:
    """The archive is down, and one session sleeps in it."""
    services.sessions.append("asleep", [b'{"role":"user","content":"one"}'], expiry=Expiry())
    archive_session(services, "asleep")
    fault: Fault = request.param
    proxy.fail(fault)


def read(
    server: RedisServer,
    archive: SessionArchive,
    body: Callable[[MemorystoreSession], Coroutine[Any, Any, Any]],
    name: str,
) -> Any:
    async def reading() -> Any:
        client = server.asyncio_client()
        try:
            return await body(MemorystoreSession(client, name, archive=archive))
        finally:
            await client.aclose()

    return asyncio.run(reading())


@pytest.mark.usefixtures("down")
@pytest.mark.parametrize("session", ["asleep", "new"])
@pytest.mark.parametrize("adapter", ["blocking", "agents"])
def test_a_read_gives_up_within_the_time_budget(
    services: Services, redis_server: RedisServer, session: str, adapter: str
) -> None:
    archive = SessionArchive(services.archive.url)
    began = time.monotonic()
    with pytest.raises(ArchiveUnavailable):
        if adapter == "agents":
            read(redis_server, archive, lambda agent: agent.get_items(), session)
        else:
            _ = MemorystoreChatMessageHistory(services.sessions.client, session, archive=archive).messages
    assert time.monotonic() - began < PATIENCE + 1


@pytest.mark.usefixtures("down")
@pytest.mark.parametrize("session", ["asleep", "new"])
def test_a_chat_can_go_on_and_is_complete_when_the_archive_is_back(
    services: Services, redis_server: RedisServer, proxy: StorageProxy, session: str
) -> None:
    archive = SessionArchive(services.archive.url, on_archive_down="continue", patience_seconds=0.4)

    async def converse(agent: MemorystoreSession) -> None:
        assert await agent.get_items() == []
        await agent.add_items([ITEM | {"content": "two"}])
        assert await agent.get_items() == [ITEM | {"content": "two"}]
        with suppress(SessionIncomplete):  # what is taken back must be known to be the last of all
            pytest.fail(f"taken back: {await agent.pop_item()}")

    read(redis_server, archive, converse, session)
    proxy.heal()
    found = read(redis_server, archive, lambda agent: agent.get_items(), session)
    assert [item["content"] for item in found] == (["one", "two"] if session == "asleep" else ["two"])


@pytest.mark.parametrize(
    "options", [{"patience_seconds": 0}, {"patience_seconds": float("nan")}, {"on_archive_down": "go"}]
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        SessionArchive("file:///tmp/archive", **options)
