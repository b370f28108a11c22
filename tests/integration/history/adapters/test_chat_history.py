"""MemorystoreChatMessageHistory as an application uses it: the drop-in, its expiry, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import redis
import redis.asyncio
from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.runnables.utils import ConfigurableFieldSpec
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.keyspace import dump, raw
from support.ports import free_port
from support.servers import RedisServer
from support.sessions import commit
from support.waiting import wait_until
from support.watched_clients import WatchedRedis
from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import (
    AsyncSessionStore,
    ClientMismatch,
    Expiry,
    InvalidArgument,
    InvalidExpiry,
    InvalidOwner,
    InvalidSessionId,
    MessageCorrupt,
    MessageNotSerializable,
    OwnerMismatch,
    Policies,
    RedisRefused,
    RedisUnavailable,
    SessionInfo,
    SessionNotFound,
    SessionOperations,
    SessionStore,
    ShardCountMismatch,
    Status,
    TranscriptChanged,
    TransientError,
)

TURN: list[BaseMessage] = [
    HumanMessage("Wie geht's? 😀"),
    AIMessage("", tool_calls=[{"name": "look", "args": {"at": "ü"}, "id": "call-1", "type": "tool_call"}]),
    ToolMessage("fine", tool_call_id="call-1"),
    AIMessage("gut\n", id="run-1"),
]


NO_RETRY = Retry(NoBackoff(), 0)


def history(client: redis.Redis, session_id: str = "s", **options: Any) -> MemorystoreChatMessageHistory:
    return MemorystoreChatMessageHistory(client, session_id, **options)


def described(chat: MemorystoreChatMessageHistory) -> SessionInfo:
    info = chat.info()
    assert info is not None
    return info


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
        assert chat.messages == TURN == history(client, "ü").messages
        assert described(chat).owner == "änn"
        assert chat.info() == history(client, "ü").info()
        chat.set_expiry(ttl=90)
        store = SessionStore(connected)
        assert list(store.sessions()) == ["ü"]
        assert chat.close()
        assert sum(store.due_counts().values()) == 1
        [lease] = store.claim(range(256), 10, timedelta(minutes=1))
        assert described(chat).status is Status.IN_WORK
        [snapshot] = store.snapshots([lease])
        assert isinstance(snapshot, SessionInfo)
        assert commit(store, lease, snapshot) == "deleted"
        assert chat.messages == []
        chat.clear()
        assert described(chat).message_count == 0


def echo_count(messages: list[BaseMessage]) -> AIMessage:
    return AIMessage(f"you have said {len(messages)} things")


async def aecho_count(messages: list[BaseMessage]) -> AIMessage:
    return echo_count(messages)


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
    chat = history(client, "ann/1")
    assert chat.messages == [
        HumanMessage("one"),
        AIMessage("one after 0"),
        HumanMessage("two"),
        AIMessage("two after 2"),
    ]
    assert described(chat).owner == "ann"


def test_asynchronous_calls_on_a_blocking_client_say_so(watched: WatchedRedis) -> None:
    chat = history(watched)

    async def converse() -> None:
        for operation in (
            chat.aget_messages,
            lambda: chat.aadd_messages(TURN),
            chat.aclear,
            chat.ainfo,
            chat.alen,
            chat.aclose,
            lambda: chat.alast(1),
        ):
            with pytest.raises(ClientMismatch, match=r"blocking client: give it one of redis\.asyncio"):
                await operation()
        with pytest.raises(ClientMismatch):
            chat.apages()

    asyncio.run(converse())
    assert watched.commands == []


class Insomnia:
    """An archive that wakes a session, which falls asleep at once."""

    woken = 0

    async def wake(self, sessions: SessionOperations, session_id: str) -> None:
        self.woken += 1


def test_a_session_that_falls_asleep_as_often_as_it_is_woken_is_not_taken_for_an_empty_one(client: redis.Redis) -> None:
    archive = Insomnia()
    with pytest.raises(TranscriptChanged, match="falls asleep as often as it is woken"):
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


# Expiry


def test_info_describes_a_session(client: redis.Redis) -> None:
    chat = history(client, ttl=3600, max_age=7200, owner="ann")
    chat.add_messages(TURN)
    info = described(chat)
    assert (info.session_id, info.status, info.message_count) == ("s", Status.LIVE, 4)
    assert (info.idle_timeout, info.max_age) == (timedelta(hours=1), timedelta(hours=2))
    assert (info.owner, info.attempts, info.error, info.floor, info.restored_count) == ("ann", 0, None, None, 0)
    assert info.due_at == info.last_active + timedelta(hours=1)
    assert info.created <= info.last_written == info.last_active
    seconds, micros = raw(client, "TIME")
    assert abs(info.created.timestamp() - int(seconds) - int(micros) / 1e6) < 60


def test_a_session_without_expiry_of_its_own_has_the_default_of_24_hours(client: redis.Redis) -> None:
    chat = history(client)
    chat.add_messages(TURN)
    info = described(chat)
    assert (info.idle_timeout, info.max_age) == (timedelta(hours=24), None)
    assert (info.expiry.idle, info.expiry.max_age) == (None, None)
    assert info.due_at == info.last_active + timedelta(hours=24)


def test_live_data_carries_no_redis_ttl(client: redis.Redis) -> None:
    history(client, ttl=1, max_age=1, owner="ann").add_messages(TURN)
    keys = raw(client, "KEYS", "*")
    assert len(keys) == 5
    assert {raw(client, "PTTL", key) for key in keys} == {-1}


def test_a_session_is_due_at_its_maximum_age_however_active_it_is(client: redis.Redis) -> None:
    chat = history(client, ttl=3600, max_age=60)
    for _ in range(3):
        chat.add_messages(TURN)
    info = described(chat)
    assert info.due_at == info.created + timedelta(seconds=60)


def test_ttl_max_age_and_owner_only_fill_in_what_a_session_has_not_got(client: redis.Redis) -> None:
    history(client).add_messages(TURN)
    history(client, ttl=60).add_messages(TURN)
    history(client, max_age=600, owner="ann").add_messages(TURN)
    late = history(client, ttl=90, max_age=900)
    late.add_messages(TURN)
    info = described(late)
    assert (info.expiry.idle, info.expiry.max_age) == (timedelta(seconds=60), timedelta(seconds=600))
    assert info.owner == "ann"
    assert info.due_at == info.last_active + timedelta(seconds=60)
    assert raw(client, "KEYS", "*:o:*") != []


def test_another_owner_is_refused_and_writes_nothing(client: redis.Redis) -> None:
    history(client, owner="ann").add_messages(TURN)
    before = dump(client)
    with pytest.raises(OwnerMismatch, match="'bob'"):
        history(client, owner="bob", ttl=60).add_messages(TURN)
    assert dump(client) == before


def test_set_expiry_changes_what_is_given_and_moves_the_due_moment(client: redis.Redis) -> None:
    chat = history(client, ttl=60, max_age=600)
    chat.add_messages(TURN)
    chat.set_expiry(ttl=90)
    info = described(chat)
    assert (info.idle_timeout, info.max_age) == (timedelta(seconds=90), timedelta(seconds=600))
    assert info.due_at == info.last_active + timedelta(seconds=90)
    chat.set_expiry(max_age=30)
    info = described(chat)
    assert (info.idle_timeout, info.due_at) == (timedelta(seconds=90), info.created + timedelta(seconds=30))
    chat.set_expiry(ttl=None, max_age=None)
    info = described(chat)
    assert (info.idle_timeout, info.max_age) == (timedelta(hours=24), None)
    assert info.due_at == info.last_active + timedelta(hours=24)


def test_set_expiry_needs_something_to_set_and_a_session_to_set_it_on(client: redis.Redis) -> None:
    chat = history(client)
    with pytest.raises(SessionNotFound, match="restore it first"):
        chat.set_expiry(ttl=60)
    chat.add_messages(TURN)
    before = dump(client)
    with pytest.raises(InvalidArgument, match="ttl, max_age or archive_retention"):
        chat.set_expiry()
    for wrong in (0, -1, 1.5, True, "60"):
        with pytest.raises(InvalidExpiry):
            chat.set_expiry(ttl=wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidExpiry):
            chat.set_expiry(max_age=wrong)  # type: ignore[arg-type]
    assert dump(client) == before


def test_a_retention_in_the_archive_is_filled_in_changed_and_kept_over_a_clear(client: redis.Redis) -> None:
    history(client).add_messages(TURN)
    assert described(history(client)).expiry.retention is None
    history(client, archive_retention=600).add_messages(TURN)
    chat = history(client, archive_retention=900)
    chat.add_messages(TURN)
    info = described(chat)
    assert info.expiry == Expiry(retention=timedelta(seconds=600))
    assert info.due_at == info.last_active + timedelta(hours=24)
    chat.set_expiry(archive_retention=60)
    chat.clear()
    chat.add_messages(TURN)
    assert described(chat).expiry == Expiry(retention=timedelta(seconds=60))
    chat.set_expiry(ttl=90)
    assert described(chat).expiry == Expiry(timedelta(seconds=90), None, timedelta(seconds=60))
    chat.set_expiry(archive_retention=None)
    assert described(chat).expiry == Expiry(timedelta(seconds=90))


def record(client: redis.Redis, *rules: dict[str, Any]) -> None:
    """Have the deployment's rules recorded, as a worker does when it starts."""
    policies = Policies.parse(json.dumps(rules).encode())
    SessionStore(client).configure(idle=timedelta(hours=24), max_age=None, policies=policies)


def test_policies_bound_what_an_application_asks_for(client: redis.Redis, redis_server: RedisServer) -> None:
    record(
        client,
        {"owner_prefix": "guest-", "idle_timeout_seconds": 300, "idle_timeout_max_seconds": 900},
        {"session_prefix": "", "idle_timeout_min_seconds": 60, "max_age_max_seconds": 7200},
    )
    with redis_server.client() as application:
        of_guest = history(application, "a", ttl=3600, max_age=3600, owner="guest-1")
        without = history(application, "b", owner="guest-2")
        of_ann = history(application, "c", ttl=1, owner="ann")
        for chat in (of_guest, without, of_ann):
            chat.add_messages(TURN)
        info = described(of_guest)
        assert (info.idle_timeout, info.max_age) == (timedelta(seconds=900), timedelta(seconds=3600))
        assert info.due_at == info.last_active + timedelta(seconds=900)
        assert described(without).expiry == Expiry(timedelta(seconds=300))
        assert described(of_ann).expiry == Expiry(timedelta(seconds=60), timedelta(hours=2))


def test_set_expiry_stays_within_the_policies_for_the_sessions_own_owner(
    client: redis.Redis, redis_server: RedisServer
) -> None:
    rule = {"owner": "ann", "idle_timeout_seconds": 300, "idle_timeout_max_seconds": 900, "max_age_max_seconds": 7200}
    record(client, rule)
    with redis_server.client() as application:
        history(application, owner="ann").add_messages(TURN)
        for chat in (history(application), history(application, owner="bob")):
            chat.set_expiry(ttl=3600)
            assert described(chat).expiry == Expiry(timedelta(seconds=900), timedelta(hours=2))
            chat.set_expiry(ttl=60, max_age=60)
            assert described(chat).expiry == Expiry(timedelta(seconds=60), timedelta(seconds=60))
            chat.set_expiry(ttl=None, max_age=None)
            assert described(chat).expiry == Expiry(timedelta(seconds=300), timedelta(hours=2))
        with pytest.raises(SessionNotFound):
            history(application, "none").set_expiry(ttl=60)


@pytest.mark.parametrize(("rule", "commands"), [({"session_prefix": ""}, 1), ({"owner": "ann"}, 2)])
def test_set_expiry_asks_for_the_owner_only_where_a_rule_depends_on_one(
    client: redis.Redis, watched: WatchedRedis, rule: dict[str, str], commands: int
) -> None:
    record(client, {**rule, "idle_timeout_max_seconds": 900})
    chat = history(watched, ttl=60)
    chat.add_messages(TURN)
    watched.commands.clear()
    chat.set_expiry(ttl=90)
    assert watched.commands == ["EVALSHA"] * commands


def test_new_policies_count_for_what_begins_after_them(client: redis.Redis, redis_server: RedisServer) -> None:
    history(client, "old", ttl=3600).add_messages(TURN)
    record(client, {"session_prefix": "", "idle_timeout_max_seconds": 60})
    with redis_server.client() as restarted:
        for session_id in ("old", "new"):
            history(restarted, session_id, ttl=3600).add_messages(TURN)
        assert described(history(client, "old")).idle_timeout == timedelta(hours=1)
        assert described(history(client, "new")).idle_timeout == timedelta(seconds=60)
        history(restarted, "old").set_expiry(ttl=7200)
        assert described(history(client, "old")).idle_timeout == timedelta(seconds=60)


def test_a_closed_session_is_due_at_once_and_keeps_its_messages(client: redis.Redis) -> None:
    chat = history(client)
    assert not chat.close()
    chat.add_messages(TURN)
    assert chat.close()
    info = described(chat)
    assert info.status is Status.DUE
    assert info.message_count == 4


@pytest.mark.parametrize(
    "use",
    [lambda chat: chat.messages, lambda chat: chat.add_messages(TURN)],
    ids=["reading", "writing"],
)
def test_using_a_closed_session_brings_it_back_to_life(
    client: redis.Redis, use: Callable[[MemorystoreChatMessageHistory], object]
) -> None:
    chat = history(client)
    chat.add_messages(TURN)
    chat.close()
    use(chat)
    info = described(chat)
    assert info.status is Status.LIVE
    assert info.due_at == info.last_active + timedelta(hours=24)


def test_describing_a_closed_session_leaves_it_due(client: redis.Redis) -> None:
    chat = history(client)
    chat.add_messages(TURN)
    chat.close()
    before = dump(client)
    assert described(chat).status is Status.DUE
    assert dump(client) == before


def test_reading_moves_last_active_and_leaves_last_written(client: redis.Redis) -> None:
    chat = history(client)
    chat.add_messages(TURN)
    written = described(chat).last_written
    wait_until(lambda: chat.messages and described(chat).last_active > written)
    first = described(chat).last_active
    wait_until(lambda: chat.messages and described(chat).last_active > first)
    assert described(chat).last_written == written
    chat.add_messages(TURN)
    assert described(chat).last_written == described(chat).last_active > written


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
    with pytest.raises(MessageNotSerializable, match=r"the set at data\.additional_kwargs\.tags"):
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
def test_an_unreadable_element_is_corrupt_and_named_by_its_position(client: redis.Redis, element: bytes) -> None:
    chat = history(client)
    chat.add_messages(TURN)
    [key] = raw(client, "KEYS", "*:m:s")
    client.rpush(key, element)
    chat.add_messages(TURN)
    with pytest.raises(MessageCorrupt, match="message 4 of session 's'"):
        _ = chat.messages
    assert described(chat).message_count == 9


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
