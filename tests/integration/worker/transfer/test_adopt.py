"""Adopting the sessions of other libraries: each message once, in order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import redis
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from support.adopting import (
    FORMATS,
    MEMORYSTORE,
    TURN,
    WEIRD_IDS,
    Killed,
    Moments,
    history,
    idle_seconds,
    kill_when,
    leftovers,
    said,
)
from support.foreign import LAYOUTS, Foreign
from support.keyspace import dump, raw
from support.observed import ObservedStore
from support.servers import RedisServer
from support.sessions import purge_session
from support.watched_clients import WatchedRedis
from torpor import MemorystoreChatMessageHistory
from torpor.history import calls
from torpor.history.protocol import (
    InvalidArgument,
    Layout,
    NotAdoptable,
    OwnerMismatch,
    Policies,
    SessionStore,
)
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.wake.session_archive import SessionArchive

# What is adopted


@pytest.mark.parametrize("name", FORMATS)
def test_what_another_library_has_written_is_read_as_it_was_written(client: redis.Redis, name: str) -> None:
    theirs = Foreign(client, LAYOUTS[name])
    theirs.add(*TURN)
    elements = theirs.elements
    chat = history(client, adopt=name)
    assert chat.messages == TURN
    assert SessionStore(client).messages("s") == elements
    assert not raw(client, "EXISTS", theirs.key)
    assert leftovers(client) == []


OPERATIONS: dict[str, Callable[[MemorystoreChatMessageHistory], object]] = {
    "messages": lambda chat: chat.messages,
    "add_messages": lambda chat: chat.add_messages([HumanMessage("new")]),
    "last": lambda chat: chat.last(1),
    "len": len,
    "pages": lambda chat: list(chat.pages()),
    "info": lambda chat: chat.info(),
    "set_expiry": lambda chat: chat.set_expiry(ttl=5),
    "close": lambda chat: chat.close(),
    "hold": lambda chat: chat.hold("why"),
    "release_hold": lambda chat: chat.release_hold(),
    "clear": lambda chat: chat.clear(),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_whatever_is_done_first_adopts_first(client: redis.Redis, operation: str) -> None:
    theirs = Foreign(client)
    theirs.add("old")
    OPERATIONS[operation](history(client))
    assert not raw(client, "EXISTS", theirs.key)
    there = [message["data"]["content"] for message in map(json.loads, SessionStore(client).messages("s"))]
    assert there == {"clear": [], "add_messages": ["old", "new"]}.get(operation, ["old"])


@pytest.mark.parametrize("session_id", WEIRD_IDS, ids=repr)
@pytest.mark.parametrize("name", FORMATS)
def test_sessions_of_any_id_are_adopted_and_stay_apart(client: redis.Redis, name: str, session_id: str) -> None:
    Foreign(client, LAYOUTS[name], session_id).add("a", "b")
    Foreign(client, LAYOUTS[name], "other").add("c")
    assert said(history(client, session_id, adopt=name)) == ["a", "b"]
    assert said(history(client, "other", adopt=name)) == ["c"]
    assert leftovers(client) == []


def test_keys_with_a_prefix_of_the_applications_own_are_adopted(client: redis.Redis) -> None:
    layout = Layout("chat[1]:", newest_first=True)
    Foreign(client, layout).add("a", "b")
    assert said(history(client, adopt=layout)) == ["a", "b"]


def test_a_client_of_asyncio_adopts_likewise(client: redis.Redis, redis_server: RedisServer) -> None:
    Foreign(client).add(*TURN)

    async def converse() -> list[BaseMessage]:
        async with redis_server.asyncio_client() as connected:
            chats = [history(connected) for _ in range(5)]
            return max(await asyncio.gather(*(chat.aget_messages() for chat in chats)), key=len)

    assert asyncio.run(converse()) == TURN
    assert history(client).messages == TURN
    assert leftovers(client) == []


def test_a_long_session_is_adopted_page_by_page(client: redis.Redis) -> None:
    theirs = Foreign(client, LAYOUTS["community"])
    contents_ = [f"{number} {'x' * (1_500_000 if number % 900 == 7 else 10)}" for number in range(2_500)]
    theirs.add(*contents_)
    assert said(history(client, adopt="community")) == contents_
    assert leftovers(client) == []


# What it costs


def test_a_history_that_adopts_costs_one_round_trip_more_once(watched: WatchedRedis) -> None:
    history(watched, adopt=None).add_user_message("known to Redis")
    for adopt, more in ((None, 0), ("memorystore", 1), ("community", 1)):
        chat = history(watched, adopt=adopt)
        watched.commands.clear()
        assert len(chat.messages) == 1
        assert len(watched.commands) == 1 + more
        assert len(chat.messages) == 1
        assert len(watched.commands) == 2 + more


def test_without_adopt_nothing_of_another_library_is_touched(client: redis.Redis) -> None:
    theirs = Foreign(client, ttl=100)
    theirs.add(*TURN)
    chat = history(client, adopt=None)
    chat.add_user_message("new")
    assert said(chat) == ["new"]
    assert theirs.messages == TURN


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_left_of_the_ttl_becomes_the_idle_timeout_and_nothing_expires(client: redis.Redis, name: str) -> None:
    theirs = Foreign(client, LAYOUTS[name], ttl=1_000)
    theirs.add("a")
    raw(client, "PEXPIRE", theirs.key, 599_900)
    chat = history(client, adopt=name)
    assert idle_seconds(chat) == 600
    assert {raw(client, "PTTL", key) for key in raw(client, "KEYS", "*:[ms]:s")} == {-1}


@pytest.mark.parametrize(("ttl_ms", "seconds"), [(0, 1), (1, 1), (1_001, 2), (2**62, 36_500 * 86_400)])
def test_a_ttl_is_rounded_up_to_seconds_within_what_a_session_can_have(ttl_ms: int, seconds: int) -> None:
    found = calls.peek_list("torpor", "s", MEMORYSTORE, 0, page_bytes=1_024, max_bytes=4_096).decode(
        [b"", 1, b"%d" % ttl_ms, b"{}"]
    )
    assert found
    assert found.ttl == timedelta(seconds=seconds)


def test_a_ttl_of_the_applications_counts_more_than_what_is_left(client: redis.Redis) -> None:
    Foreign(client, ttl=7).add("a")
    assert idle_seconds(history(client, ttl=3_600)) == 3_600


def test_a_session_that_has_an_idle_timeout_keeps_it(client: redis.Redis) -> None:
    history(client, ttl=60).add_user_message("here already")
    Foreign(client, ttl=1_000).add("a")
    assert idle_seconds(history(client)) == 60
    assert said(history(client)) == ["here already", "a"]


def test_a_policy_bounds_what_is_left_of_a_ttl(client: redis.Redis) -> None:
    rules = Policies.parse(b'[{"session_prefix": "", "idle_timeout_min_seconds": 900}]')
    SessionStore(client).configure(idle=timedelta(days=1), max_age=None, policies=rules)
    Foreign(client, ttl=7).add("a")
    assert idle_seconds(history(client)) == 900


# The other library goes on


def test_what_the_other_library_adds_later_is_adopted_by_the_next_history(client: redis.Redis) -> None:
    theirs = Foreign(client)
    theirs.add("a")
    first = history(client)
    assert said(first) == ["a"]
    theirs.add("b")
    assert theirs.elements
    assert said(first) == ["a"]
    assert said(history(client)) == ["a", "b"]


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("name", FORMATS)
def test_what_it_adds_while_it_is_adopted_is_not_lost(client: redis.Redis, name: str) -> None:
    theirs = Foreign(client, LAYOUTS[name])
    theirs.add(*map(str, range(7)))
    numbers = iter(range(7, 40))

    def one_more() -> None:
        number = next(numbers, None)
        if number is not None:
            theirs.add(str(number))

    passing = Moments()
    store = ObservedStore(client, passing)
    passing.meanwhile = one_more
    store.adopt("s", LAYOUTS[name])
    assert next(numbers, None) is None
    assert said(history(client, adopt=name)) == [str(number) for number in range(40)]


def test_a_session_that_sleeps_is_woken_before_what_is_adopted(client: redis.Redis, services: Services) -> None:
    history(client, adopt=None).add_user_message("first")
    archive_session(services, "s")
    Foreign(client).add("second")
    assert said(history(client, archive=SessionArchive(services.archive.url))) == ["first", "second"]


# Owners, purges


def test_the_owner_of_the_history_owns_what_it_adopts(client: redis.Redis, sessions: SessionStore) -> None:
    Foreign(client).add("a")
    assert said(history(client, owner="ann")) == ["a"]
    assert list(sessions.owned("ann")) == ["s"]


def test_what_belongs_to_another_owners_session_stays_where_it_is(client: redis.Redis) -> None:
    history(client, owner="ann").add_user_message("ann's")
    Foreign(client).add("whose?")
    before = dump(client)
    for _ in range(2):
        with pytest.raises(OwnerMismatch):
            _ = history(client, owner="bob").messages
    assert dump(client) == before
    assert said(history(client, owner="ann")) == ["ann's", "whose?"]


def test_nothing_is_adopted_into_a_session_that_was_purged(client: redis.Redis, services: Services) -> None:
    history(client, adopt=None).add_user_message("gone")
    purge_session(services, "s")
    Foreign(client).add("late")
    before = dump(client)
    assert said(history(client)) == []
    assert dump(client) == before
    assert said(history(client, allow_reuse=True)) == ["late"]


@pytest.mark.usefixtures("small_pages")
def test_a_purge_finds_what_an_adopter_that_was_killed_has_taken(client: redis.Redis, services: Services) -> None:
    Foreign(client).add(*"abcdef")
    passing = Moments()
    store = ObservedStore(client, passing)
    passing.meanwhile = lambda: kill_when(client, taken=True)
    with pytest.raises(Killed):
        store.adopt("s", MEMORYSTORE)
    assert not services.sessions.info("s")
    standing = purge_session(services, "s")
    assert (standing.state, standing.found.messages) == ("complete", 6)
    assert leftovers(client) == []
    assert said(history(client, allow_reuse=True)) == []


# What is no conversation


NO_CONVERSATIONS: dict[str, tuple[str, ...]] = {
    "a hash": ("HSET", "k", "field", "value"),
    "a string": ("SET", "k", "value"),
    "a set": ("SADD", "k", "value"),
    "no JSON": ("RPUSH", "k", '{"type": "human", "data": {"content": ""}}', "hello"),
    "no object": ("RPUSH", "k", "[]"),
    "no data": ("RPUSH", "k", '{"type": "human", "data": {"content": ""}}', '{"type": "human"}'),
    "data that LangChain can't read": ("RPUSH", "k", '{"type": "human", "data": {"content": 7}}'),
    "a type that LangChain does not know": ("RPUSH", "k", '{"type": "alien", "data": {"content": "hi"}}'),
    "no type": ("RPUSH", "k", '{"type": 7, "data": {}}'),
    "a task of Celery's": ("LPUSH", "k", '{"body": "W10=", "headers": {}, "properties": {}}'),
    "nested too deeply": ("RPUSH", "k", "[" * 100_000),
}


@pytest.mark.parametrize("command", NO_CONVERSATIONS.values(), ids=list(NO_CONVERSATIONS))
def test_what_is_no_conversation_is_left_as_it_is_and_named(client: redis.Redis, command: tuple[str, ...]) -> None:
    raw(client, *command)
    history(client, "other", adopt=None).add_user_message("the deployment is known")
    before = dump(client)
    with pytest.raises(NotAdoptable, match="the key 'k' can't be adopted and stays as it is") as refused:
        _ = history(client, "k").messages
    assert "hello" not in str(refused.value)
    assert dump(client) == before


def test_a_bad_message_far_from_the_first_is_found_before_anything_is_changed(client: redis.Redis) -> None:
    theirs = Foreign(client)
    theirs.add(*map(str, range(1_500)))
    raw(client, "RPUSH", theirs.key, "bad")
    with pytest.raises(NotAdoptable, match="message 1500: not all of it is LangChain messages"):
        len(history(client))
    assert len(theirs.elements) == 1_501
    assert leftovers(client) == []


@pytest.mark.parametrize("name", FORMATS)
def test_messages_in_the_other_order_stay_where_they_are_unless_it_is_forced(client: redis.Redis, name: str) -> None:
    layout = LAYOUTS[name]
    theirs = Foreign(client, replace(layout, newest_first=not layout.newest_first))
    theirs.add(*TURN)
    history(client, "other", adopt=None).add_user_message("the deployment is known")
    before = dump(client)
    with pytest.raises(NotAdoptable, match="first: name the other layout, or insist with --force or Layout"):
        _ = history(client, adopt=name).messages
    assert dump(client) == before
    assert history(client, adopt=replace(layout, check_order=False)).messages == TURN[::-1]


def test_an_old_process_may_answer_and_hear_the_next_question_after_an_adoption(client: redis.Redis) -> None:
    theirs = Foreign(client)
    theirs.add(HumanMessage("a question"))
    assert said(history(client)) == ["a question"]
    theirs.add(AIMessage("an answer"), HumanMessage("another question"))
    assert said(history(client)) == ["a question", "an answer", "another question"]


def test_a_server_without_documents_has_none_and_a_cluster_is_refused(
    client: redis.Redis, request: pytest.FixtureRequest
) -> None:
    history(client, adopt=None).add_user_message("mine")
    if request.config.getoption("--server") == "cluster":
        with pytest.raises(NotAdoptable, match="a Cluster has the documents of a session on several nodes"):
            said(history(client, adopt="langchain-redis"))
        return
    assert said(history(client, adopt="langchain-redis")) == ["mine"]
    assert said(history(client, "other", adopt=Layout("chat:"))) == []


def test_torpors_own_lists_are_never_adopted(client: redis.Redis) -> None:
    history(client, adopt=None).add_user_message("mine")
    [own] = raw(client, "KEYS", "*:m:s")
    with pytest.raises(NotAdoptable, match="Torpor's own"):
        _ = history(client, own.decode()).messages
    assert said(history(client)) == ["mine"]


@pytest.mark.parametrize("adopt", ["redis", "", 7, ["memorystore"]], ids=repr)
def test_a_layout_that_nobody_knows_is_refused(client: redis.Redis, adopt: Any) -> None:
    with pytest.raises(InvalidArgument, match="one of memorystore, community"):
        history(client, adopt=adopt)


@pytest.mark.parametrize("prefix", ["\ud83d", 7], ids=repr)
def test_a_prefix_that_no_key_can_have_is_refused(prefix: Any) -> None:
    with pytest.raises(InvalidArgument, match="prefix"):
        Layout(prefix)
