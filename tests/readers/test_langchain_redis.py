"""langchain-redis itself writes, and Torpor adopts it; tests/integration/.../test_langchain_redis.py has the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from support.captured import LANGCHAIN_REDIS
from support.command import Torpor
from support.keyspace import raw
from support.servers import RedisServer
from support.stack import start_stack
from torpor import MemorystoreChatMessageHistory

pytestmark = pytest.mark.filterwarnings("ignore")  # it is deprecated, and redisvl warns of more
[NEWEST] = [each for each in LANGCHAIN_REDIS if each.name == "0.2.6"]
SAID = [
    SystemMessage("Be brief."),
    HumanMessage("Wie geht's? 😀"),
    AIMessage(
        "",
        additional_kwargs={
            "tool_calls": json.loads(NEWEST.elements["ai with OpenAI's tool calls"])["data"]["additional_kwargs"][
                "tool_calls"
            ]
        },
    ),
    ToolMessage("fine", tool_call_id="call-1"),
    AIMessage("good"),
]


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = start_stack(tmp_path_factory.mktemp("stack"))
    yield server
    server.stop()


def theirs(server: RedisServer, session_id: str = "s") -> Any:
    from langchain_redis import RedisChatMessageHistory

    # Its search index is read only in the older form of replies.
    return RedisChatMessageHistory(session_id, redis_url=f"{server.url}?protocol=2", ttl=600)


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_what_it_has_written_is_read_in_python_and_is_gone_there(
    client: redis.Redis, redis_server: RedisServer, torpor: Torpor
) -> None:
    history = theirs(redis_server)
    history.add_messages(SAID)
    shown = history.messages
    [key, *_] = raw(client, "KEYS", "chat:s:*")
    document = json.loads(raw(client, "JSON.GET", key))
    assert document.keys() == json.loads(NEWEST.elements["human"]).keys(), "capture it again"
    [found] = torpor("adopt", "--detect", "*", "--json").json
    assert (found["name"], found["sessions"]) == ("langchain-redis", 1)
    assert torpor("adopt", "--match", "*", "--format", "langchain-redis").out == "adopted: 1 sessions, 5 messages\n"
    assert MemorystoreChatMessageHistory(client, "s").messages == shown
    assert [each.type for each in shown] == ["system", "human", "ai", "tool", "ai"]
    assert history.messages == []


def test_it_goes_on_and_what_it_adds_comes_last(client: redis.Redis, redis_server: RedisServer) -> None:
    history = theirs(redis_server)
    history.add_messages(SAID[:2])
    assert len(MemorystoreChatMessageHistory(client, "s", adopt="langchain-redis").messages) == 2
    history.add_message(SAID[-1])
    read = MemorystoreChatMessageHistory(client, "s", adopt="langchain-redis").messages
    assert [each.content for each in read] == [SAID[0].content, SAID[1].content, "good"]


def test_what_it_loses_itself_is_adopted_and_what_it_confuses_is_not(
    client: redis.Redis, redis_server: RedisServer
) -> None:
    blocks: Any = [{"type": "text", "text": "look"}]
    theirs(redis_server, "Ann").add_messages([HumanMessage("of Ann"), HumanMessage(blocks)])
    theirs(redis_server, "ann").add_message(HumanMessage("of ann"))
    theirs(redis_server, "a,b").add_message(HumanMessage("of a,b"))
    assert [each.content for each in theirs(redis_server, "ann").messages] == ["of Ann", "of ann"]
    assert theirs(redis_server, "a,b").messages == []
    read = {
        each: [
            message.content for message in MemorystoreChatMessageHistory(client, each, adopt="langchain-redis").messages
        ]
        for each in ("Ann", "ann", "a,b")
    }
    assert read == {"Ann": ["of Ann", blocks], "ann": ["of ann"], "a,b": ["of a,b"]}
