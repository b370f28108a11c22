"""langchain-community's own history writes, and reads what comes back, with the langchain-core of the lock."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from langchain_core.messages import BaseMessage, HumanMessage, message_to_dict

from support.command import Torpor
from support.keyspace import raw
from support.said_in_python import SAID
from support.servers import RedisServer
from torpor import MemorystoreChatMessageHistory

pytestmark = [
    pytest.mark.parametrize("archive_url", ["folder"], indirect=True),
    pytest.mark.filterwarnings("ignore"),  # the package is deprecated as a whole
]


def theirs(server: RedisServer, session_id: str = "s", **options: Any) -> Any:
    from langchain_community.chat_message_histories import RedisChatMessageHistory

    return RedisChatMessageHistory(session_id, url=server.url, **options)


def dicts(messages: list[BaseMessage]) -> list[dict[str, Any]]:
    return [message_to_dict(each) for each in messages]


def test_all_that_it_writes_sleeps_wakes_and_is_read_by_it_again(
    client: redis.Redis, redis_server: RedisServer, torpor: Torpor
) -> None:
    history = theirs(redis_server, ttl=600)
    history.add_messages(list(SAID.values()))
    shown, elements = history.messages, raw(client, "LRANGE", history.key, 0, -1)
    assert [each.type for each in shown] == [each.type for each in SAID.values()]
    [found] = torpor("adopt", "--detect", "*", "--json").json
    assert (found["name"], found["sessions"]) == ("community", 1)
    assert torpor("adopt", "--match", "s", "--format", "community").code == 0
    assert history.messages == []
    assert torpor("archive", "s").code == 0
    assert torpor("restore", "s").code == 0
    assert dicts(MemorystoreChatMessageHistory(client, "s").messages) == dicts(shown)
    assert torpor("archive", "s").code == 0
    done = torpor("export", "s", "--to", "community", "--ttl", "60")
    assert (done.code, done.out) == (0, f"given back: message_store:s, {len(SAID)} messages\n")
    assert raw(client, "LRANGE", history.key, 0, -1) == elements
    assert 50 < raw(client, "TTL", history.key) <= 60
    assert dicts(history.messages) == dicts(shown)


def test_it_goes_on_with_what_python_has_said(client: redis.Redis, redis_server: RedisServer, torpor: Torpor) -> None:
    chat = MemorystoreChatMessageHistory(client, "s")
    chat.add_messages(list(SAID.values()))
    assert torpor("export", "s", "--to", "community", "--prefix", "theirs:").code == 0
    history = theirs(redis_server, key_prefix="theirs:")
    assert dicts(history.messages) == dicts(chat.messages)
    history.add_message(HumanMessage("and then?"))
    assert [each.text for each in history.messages][-2:] == ["aside", "and then?"]
    history.clear()
    assert not raw(client, "EXISTS", "theirs:s")
