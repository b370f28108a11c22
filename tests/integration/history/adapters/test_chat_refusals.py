"""What a chat history refuses, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import chain
from typing import Any

import pytest
import redis
import redis.asyncio
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from support.histories import NO_RETRY, TURN, described, history
from support.keyspace import dump, raw
from support.ports import free_port
from support.servers import RedisServer
from support.watched_clients import WatchedRedis
from torpor import AsyncSessionStore
from torpor.history.protocol import (
    InvalidArgument,
    InvalidExpiry,
    InvalidOwner,
    InvalidSessionId,
    MessageNotSerializable,
    RedisRefused,
    RedisUnavailable,
    SessionStore,
    ShardCountMismatch,
    TransientError,
)

# What is refused

BAD_IDS = ["", "x" * 1025, "😀" * 257, "a\ud83d", None, 7, b"s", ["s"]]
BAD_SECONDS = [-1, 0, 1.5, 60.0, True, False, "60", 10**12, float("nan"), timedelta(seconds=60)]


@pytest.mark.parametrize("session_id", BAD_IDS, ids=lambda value: repr(value)[:12])
def test_a_bad_session_id_is_refused_before_anything_is_sent(watched: WatchedRedis, session_id: Any) -> None:
    with pytest.raises(InvalidSessionId, match="session id"):
        history(watched, session_id)
    with pytest.raises(ValueError, match="session id"):
        SessionStore(watched, shards=256).append(session_id, [b"{}"])
    assert dump(watched).keys() <= {b"torpor:config"}


@pytest.mark.parametrize("seconds", BAD_SECONDS, ids=repr)
@pytest.mark.parametrize("name", ["ttl", "max_age"])
def test_a_bad_expiry_is_refused_before_anything_is_sent(watched: WatchedRedis, name: str, seconds: Any) -> None:
    with pytest.raises(InvalidExpiry, match=name):
        history(watched, **{name: seconds})
    assert watched.commands == []


@pytest.mark.parametrize("seconds", [1, 36_500 * 24 * 3600])
def test_an_expiry_is_a_second_to_a_hundred_years(client: redis.Redis, seconds: int) -> None:
    chat = history(client, ttl=seconds)
    chat.add_messages(TURN)
    info = described(chat)
    assert info.due_at == info.last_active + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"owner": ""}, InvalidOwner),
        ({"owner": "x" * 1025}, InvalidOwner),
        ({"owner": 7}, InvalidOwner),
        ({"namespace": "a{b}"}, InvalidArgument),
        ({"namespace": ""}, InvalidArgument),
        ({"shards": 0}, InvalidArgument),
        ({"shards": True}, InvalidArgument),
    ],
    ids=repr,
)
def test_other_bad_arguments_are_refused_before_anything_is_sent(
    watched: WatchedRedis, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        history(watched, **options)
    assert watched.commands == []


@pytest.mark.parametrize("wrong", [object(), None, "redis://localhost"], ids=["object", "None", "URL"])
def test_what_is_no_client_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"expected a client of redis-py or valkey-py"):
        history(wrong)


def test_a_session_store_is_for_a_blocking_client_and_an_async_one_for_asyncio() -> None:
    with pytest.raises(InvalidArgument, match="is an asyncio client"):
        SessionStore(redis.asyncio.Redis())
    with pytest.raises(InvalidArgument, match="is a blocking client"):
        AsyncSessionStore(redis.Redis())


def test_another_shard_count_than_the_recorded_one_is_refused(client: redis.Redis, redis_server: RedisServer) -> None:
    history(client, shards=16).add_messages(TURN)
    before = dump(client)
    with redis_server.client() as other, pytest.raises(ShardCountMismatch, match="has 16 shards, not 32"):
        history(other, shards=32).add_messages(TURN)
    with pytest.raises(ShardCountMismatch, match="pass shards=16"):
        history(client, shards=256).add_messages(TURN)
    assert dump(client) == before


def test_a_client_that_names_no_shard_count_takes_the_recorded_one(
    client: redis.Redis, redis_server: RedisServer
) -> None:
    history(client, shards=3).add_messages(TURN)
    with redis_server.client() as other:
        assert SessionStore(other).deployment.keyspace.shards == 3
        assert history(other).messages == TURN


def test_an_unreachable_redis_is_a_transient_error_that_redis_py_code_catches_too() -> None:
    with redis.Redis(port=free_port(), retry=NO_RETRY) as nowhere:
        chat = history(nowhere)
        for attempt in (lambda: chat.add_messages(TURN), lambda: chat.messages, chat.clear, chat.info, chat.close):
            with pytest.raises(RedisUnavailable) as caught:
                attempt()
            assert isinstance(caught.value, redis.exceptions.ConnectionError)
            assert isinstance(caught.value, TransientError)


def test_an_error_of_redis_itself_is_told_apart(client: redis.Redis) -> None:
    chat = history(client)
    chat.add_messages(TURN)
    [key] = raw(client, "KEYS", "*:m:s")
    client.set(key, "not a list")
    with pytest.raises(RedisRefused, match="WRONGTYPE"):
        _ = chat.messages


def test_a_message_that_json_cannot_hold_keeps_its_whole_turn_out(client: redis.Redis) -> None:
    chat = history(client)
    chat.add_messages(TURN)
    before = dump(client)
    with pytest.raises(MessageNotSerializable, match=r"the set at data\.additional_kwargs\[value 1\]"):
        chat.add_messages([HumanMessage("a"), AIMessage("b", additional_kwargs={"tags": {1}}), HumanMessage("c")])
    with pytest.raises(MessageNotSerializable):
        chat.add_messages([HumanMessage("a"), "b"])  # type: ignore[list-item]
    assert dump(client) == before


def test_weird_ids_work_and_stay_apart(client: redis.Redis) -> None:
    ids = [
        "a/b",
        "a%2Fb",
        "..",
        "../a",
        "a\nb",
        "a\r\nb",
        "{a}",
        "}{",
        "{torpor:0}:m:a",
        "a",
        "😀",
        "\x00",
        "*",
        " ",
        "ü",
    ]
    ids.append("x" * 1024)
    chats = [history(client, session_id, shards=1, owner=session_id) for session_id in ids]
    for chat in chats:
        chat.add_user_message(chat.session_id)
    for chat in chats:
        assert chat.messages == [HumanMessage(chat.session_id)]
        assert (described(chat).owner, described(chat).message_count) == (chat.session_id, 1)
    assert sorted(SessionStore(client).sessions()) == sorted(ids)
    assert len(raw(client, "KEYS", "*:o:*")) == len(ids)


@pytest.mark.parametrize("element", [b"", b"garbage", b"{}", b"\xff", b'{"type":"?","data":{}}'], ids=repr)
def test_a_corrupt_element_is_left_out_and_named_by_its_position(
    client: redis.Redis, caplog: pytest.LogCaptureFixture, element: bytes
) -> None:
    chat = history(client)
    chat.add_messages(TURN)
    [key] = raw(client, "KEYS", "*:m:s")
    client.rpush(key, element)
    chat.add_messages(TURN)
    readers: list[Callable[[], list[BaseMessage]]] = [lambda: chat.messages, lambda: list(chain(*chat.pages(2)))]
    for read in readers:
        caplog.clear()
        assert read() == TURN * 2
        [warning] = caplog.messages
        assert "session 's': message 4 can't be read and is left out" in warning
    assert chat.last(5) == TURN
    assert SessionStore(client).messages("s")[4] == element
    assert described(chat).message_count == 9
