"""Commands that only look record nothing."""

from __future__ import annotations

import pytest
import redis
from langchain_core.messages import AIMessage

from support.command import Torpor
from support.keyspace import raw
from support.rewinding import S, chat
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.drain import drain

# What only looks


@pytest.fixture
def services(unused: Services) -> Services:
    """Nobody has used Redis or the archive."""
    return unused


@pytest.mark.parametrize(
    "command", ["status", "sessions", f"show {S}", f"export {S}", f"purge --session {S} --dry-run"]
)
def test_a_command_that_only_looks_records_nothing_in_an_empty_redis(
    client: redis.Redis, services: Services, torpor: Torpor, command: str
) -> None:
    name = command.split(maxsplit=1)[0]
    is_missing = name == "purge" or (services.archive.url.startswith("file:") and name in ("show", "export"))
    assert torpor(*command.split()).code == (2 if is_missing else 3 if S in command.split() else 0)
    assert raw(client, "KEYS", "*") == []
    assert list(services.archive.list("")) == []


def test_a_look_at_an_empty_redis_records_nothing(client: redis.Redis, services: Services) -> None:
    empty = chat(client)
    assert (empty.info(), empty.messages, empty.close()) == (None, [], False)
    assert services.sessions.due_counts() == {}
    assert raw(client, "KEYS", "*") == []
    assert drain(services, [0]) == {}
    assert set(raw(client, "KEYS", "*")) <= {b"{torpor:events}:measures"}, "only what the looks have cost the archive"
    empty.add_messages([AIMessage("first")])
    assert b"torpor:config" in raw(client, "KEYS", "*")
