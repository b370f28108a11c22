"""MemorystoreChatMessageHistory as an application uses it: the drop-in."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import redis
import redis.asyncio
from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.runnables.utils import ConfigurableFieldSpec

from support.histories import NO_RETRY, TURN, described, history
from support.keyspace import raw
from support.ports import free_port
from support.servers import RedisServer
from support.sessions import commit
from support.stored_sessions import snapshot_of
from support.watched_clients import WatchedRedis
from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import (
    Caller,
    RedisUnavailable,
    SessionOperations,
    SessionStore,
    Status,
    TranscriptChanged,
)

# The drop-in


def test_it_is_a_langchain_chat_history_of_client_session_and_ttl(client: redis.Redis) -> None:
    chat = MemorystoreChatMessageHistory(client, "s", 3600)
    assert isinstance(chat, BaseChatMessageHistory)
    assert chat.session_id == "s"
    chat.add_messages(TURN)
    assert chat.messages == TURN
    assert described(chat).idle_timeout == timedelta(hours=1)


def test_each_way_of_adding_appends_at_the_end(client: redis.Redis) -> None:
    chat = history(client)
    chat.add_message(SystemMessage("Be brief."))
    chat.add_user_message("hello")
    chat.add_ai_message("hi")
    chat.add_user_message(HumanMessage("how?", name="ann"))
    chat.add_ai_message(AIMessage("so", id="run-2"))
    chat.add_messages(TURN)
    expected = [
        SystemMessage("Be brief."),
        HumanMessage("hello"),
        AIMessage("hi"),
        HumanMessage("how?", name="ann"),
        AIMessage("so", id="run-2"),
        *TURN,
    ]
    assert chat.messages == expected
    assert history(client).messages == expected
    assert str(chat).startswith("System: Be brief.\nHuman: hello\nAI: hi\n")


def test_a_session_that_is_not_there_has_no_messages_and_reading_makes_none(client: redis.Redis) -> None:
    assert history(client).messages == []
    assert history(client).info() is None
    assert raw(client, "KEYS", "*") == []


def test_adding_no_messages_makes_no_session(client: redis.Redis) -> None:
    history(client).add_messages([])
    assert raw(client, "KEYS", "*") == []


def test_a_cleared_session_is_empty_and_can_go_on(client: redis.Redis) -> None:
    chat = history(client)
    chat.add_messages(TURN)
    chat.clear()
    assert chat.messages == []
    chat.add_user_message("again")
    assert chat.messages == [HumanMessage("again")]


def test_sessions_and_namespaces_do_not_see_each_other(client: redis.Redis) -> None:
    chats = [history(client, "a"), history(client, "b"), history(client, "a", namespace="other")]
    for number, chat in enumerate(chats):
        chat.add_user_message(f"of {number}")
    chats[0].clear()
    assert [[message.content for message in chat.messages] for chat in chats] == [[], ["of 1"], ["of 2"]]


@pytest.mark.parametrize("replies", [{"decode_responses": True}, {"decode_responses": False}], ids=["str", "bytes"])
@pytest.mark.parametrize("protocol", [2, 3], ids=["resp2", "resp3"])
def test_every_kind_of_client_reads_the_same(
    client: redis.Redis, redis_server: RedisServer, replies: dict[str, bool], protocol: int
) -> None:
    with redis_server.client(protocol=protocol, **replies) as connected:
        chat = history(connected, "ü", ttl=60, max_age=600, owner="änn")
        chat.add_messages(TURN)
        assert chat.messages == TURN == history(client, "ü", owner="änn").messages
        assert described(chat).owner == "änn"
        assert chat.info() == history(client, "ü", owner="änn").info()
        chat.set_expiry(ttl=90)
        store = SessionStore(connected)
        assert list(store.sessions()) == ["ü"]
        assert chat.close()
        assert sum(store.due_counts().values()) == 1
        [lease] = store.claim(range(256), 10, timedelta(minutes=1))
        assert described(chat).status is Status.IN_WORK
        assert commit(store, lease, snapshot_of(store, lease)) == "deleted"
        assert chat.messages == []
        chat.clear()
        assert described(chat).message_count == 0


def echo_count(messages: list[BaseMessage]) -> AIMessage:
    return AIMessage(f"you have said {len(messages)} things")


deprecated_by_langchain = pytest.mark.filterwarnings(
    "ignore:RunnableWithMessageHistory is deprecated:langchain_core._api.deprecation.LangChainDeprecationWarning"
)


@deprecated_by_langchain
def test_a_runnable_with_message_history_keeps_its_turns_in_list_mode(client: redis.Redis) -> None:
    chain = RunnableWithMessageHistory(RunnableLambda(echo_count), lambda session_id: history(client, session_id))
    config: Any = {"configurable": {"session_id": "s"}}
    assert chain.invoke([HumanMessage("one")], config).content == "you have said 1 things"
    assert chain.invoke([HumanMessage("two")], config).content == "you have said 3 things"
    assert [message.content for message in history(client).messages] == [
        "one",
        "you have said 1 things",
        "two",
        "you have said 3 things",
    ]
    assert history(client, "other").messages == []


@deprecated_by_langchain
def test_a_runnable_with_message_history_keeps_its_turns_in_dict_mode(client: redis.Redis) -> None:
    def answer(given: dict[str, Any]) -> dict[str, Any]:
        return {"reply": AIMessage(f"{given['question']} after {len(given['past'])}")}

    chain = RunnableWithMessageHistory(
        RunnableLambda(answer),
        lambda user, thread: history(client, f"{user}/{thread}", owner=user),
        input_messages_key="question",
        output_messages_key="reply",
        history_messages_key="past",
        history_factory_config=[ConfigurableFieldSpec(id=field, annotation=str) for field in ("user", "thread")],
    )
    config: Any = {"configurable": {"user": "ann", "thread": "1"}}
    assert chain.invoke({"question": "one"}, config)["reply"].content == "one after 0"
    assert chain.invoke({"question": "two"}, config)["reply"].content == "two after 2"
    chat = history(client, "ann/1", owner="ann")
    assert chat.messages == [
        HumanMessage("one"),
        AIMessage("one after 0"),
        HumanMessage("two"),
        AIMessage("two after 2"),
    ]
    assert described(chat).owner == "ann"


def test_asynchronous_calls_on_a_blocking_client_leave_the_event_loop_free(watched: WatchedRedis) -> None:
    chat = history(watched)
    threads: set[int] = set()
    watched.before = lambda _: threads.add(threading.get_ident())

    async def converse() -> None:
        await chat.aadd_messages(TURN)
        assert await chat.aget_messages() == TURN
        await chat.aclear()
        assert await chat.alen() == 0

    asyncio.run(converse())
    assert threads
    assert threading.get_ident() not in threads


class Insomnia:
    """An archive that wakes a session, which falls asleep at once."""

    woken = 0

    async def wake(
        self, sessions: SessionOperations, session_id: str, owner: Caller, *, assign_owner: bool = False
    ) -> None:
        self.woken += 1


def test_a_session_that_falls_asleep_as_often_as_it_is_woken_is_not_taken_for_an_empty_one(client: redis.Redis) -> None:
    archive = Insomnia()
    with pytest.raises(TranscriptChanged, match="fell asleep each time it was woken"):
        _ = history(client, archive=archive).messages
    assert archive.woken == 5


# Round trips


def test_making_a_history_does_no_io() -> None:
    with redis.Redis(port=free_port(), retry=NO_RETRY) as nowhere:
        chat = MemorystoreChatMessageHistory(nowhere, "s", 60, owner="ann", shards=16)
        assert chat.session_id == "s"
        with pytest.raises(RedisUnavailable):
            _ = chat.messages


def test_a_turn_is_one_round_trip_and_so_is_reading(watched: WatchedRedis) -> None:
    chat = history(watched, ttl=60, max_age=600, owner="ann")
    chat.add_messages(TURN)
    watched.commands.clear()
    chat.add_messages(TURN * 100)
    assert watched.commands == ["EVALSHA"]
    assert len(chat.messages) == 404
    assert watched.commands == ["EVALSHA"] * 2


def test_a_client_asks_for_the_deployment_once_for_all_its_histories(watched: WatchedRedis) -> None:
    history(watched, "a").add_messages(TURN)
    watched.commands.clear()
    history(watched, "b").add_messages(TURN)
    assert watched.commands == ["EVALSHA"]


# Concurrency and size


def test_turns_of_many_threads_never_interleave(client: redis.Redis) -> None:
    threads, turns, length = 8, 20, 3
    start = threading.Barrier(threads)

    def converse(thread: int) -> None:
        chat = history(client)
        start.wait()
        for turn in range(turns):
            chat.add_messages([HumanMessage(f"{thread}/{turn}/{part}") for part in range(length)])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(converse, range(threads)))
    said = [str(message.content) for message in history(client).messages]
    assert len(said) == threads * turns * length
    order: dict[str, list[int]] = {}
    for first in range(0, len(said), length):
        thread, turn, _ = said[first].split("/")
        assert said[first : first + length] == [f"{thread}/{turn}/{part}" for part in range(length)]
        order.setdefault(thread, []).append(int(turn))
    assert all(seen == list(range(turns)) for seen in order.values())


def test_a_turn_of_thousands_of_messages_is_written_whole_and_in_order(client: redis.Redis) -> None:
    chat = history(client)
    turn: list[BaseMessage] = [HumanMessage(str(number)) for number in range(2501)]
    chat.add_messages(turn)
    assert chat.messages == turn
