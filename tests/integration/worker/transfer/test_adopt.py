"""Adopting what other libraries have written: all of it once, in order, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from support.foreign import Foreign
from support.keyspace import dump, raw
from support.servers import RedisServer, start_redis
from support.sessions import purge_session
from support.watched_clients import WatchedRedis
from torpor import MemorystoreChatMessageHistory
from torpor.history import calls
from torpor.history.calls import Call
from torpor.history.protocol import (
    LAYOUTS,
    InvalidArgument,
    Layout,
    MessageCorrupt,
    NotAdoptable,
    OwnerMismatch,
    PermanentError,
    Policies,
    RedisUnavailable,
    SessionExists,
    SessionStore,
)
from torpor.history.store.runner import Runner
from torpor.worker.deployment.services import Services
from torpor.worker.ops import doctor
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.wake.restore import read_transcript
from torpor.worker.wake.session_archive import SessionArchive

FORMATS = list(LAYOUTS)
MEMORYSTORE = LAYOUTS["memorystore"]
TURN: list[BaseMessage] = [
    HumanMessage("Wie geht's? 😀", id="1", additional_kwargs={"nan": [1.5, None]}),
    AIMessage("", tool_calls=[{"name": "look", "args": {"at": "ü"}, "id": "call-1", "type": "tool_call"}]),
    ToolMessage("fine", tool_call_id="call-1"),
    AIMessage("gut \ud83d\n", usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),
]
WEIRD_IDS = ["{a}", "a{b}c", "a}b", "}{", "{}a", "{", "a{b", "{{a}}", "a*[b]?\\", "a b\n", "日本語", "x" * 1_024]


def history(client: Any, session_id: str = "s", adopt: Any = "memorystore", **options: Any) -> Any:
    return MemorystoreChatMessageHistory(client, session_id, adopt=adopt, **options)


def said(chat: MemorystoreChatMessageHistory) -> list[str]:
    return [str(message.content) for message in chat.messages]


def leftovers(client: Any) -> list[bytes]:
    """What an adoption leaves while it is not finished."""
    return [key for pattern in ("torpor:adopting:*", "{torpor:*}:a") for key in raw(client, "KEYS", pattern)]


class Killed(BaseException):
    """Stands for a process that ends here."""


class Interrupted(SessionStore):
    """The real store, with something that happens before and after its calls; a process dies at the nth of them."""

    moments = itertools.count()
    dies_at: int | None = None
    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    async def perform(self, call: Call[Any]) -> Any:
        self._pass()
        result = await super().perform(call)
        self._pass()
        return result

    def _pass(self) -> None:
        self.meanwhile()
        if next(self.moments) == self.dies_at:
            raise Killed


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two messages or so."""
    monkeypatch.setattr("torpor.history.store.adoption.PAGE_BYTES", 400)


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


# Expiry


def idle_seconds(chat: MemorystoreChatMessageHistory) -> float:
    info = chat.info()
    assert info
    return info.idle_timeout.total_seconds()


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
    found = calls.peek_list("torpor", "s", MEMORYSTORE, 0, 1_024).decode([b"", 1, b"%d" % ttl_ms, b"{}"])
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

    store = Interrupted(client)
    store.meanwhile = one_more
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
    store = Interrupted(client)
    store.meanwhile = lambda: kill_when(client, taken=True)
    with pytest.raises(Killed):
        store.adopt("s", MEMORYSTORE)
    assert not services.sessions.info("s")
    standing = purge_session(services, "s")
    assert (standing.state, standing.found.messages) == ("complete", 6)
    assert leftovers(client) == []
    assert said(history(client, allow_reuse=True)) == []


def kill_when(client: redis.Redis, *, taken: bool) -> None:
    if taken == bool(raw(client, "KEYS", "torpor:adopting:*")):
        raise Killed


# What is no conversation


NO_CONVERSATIONS: dict[str, tuple[str, ...]] = {
    "a hash": ("HSET", "k", "field", "value"),
    "a string": ("SET", "k", "value"),
    "a set": ("SADD", "k", "value"),
    "no JSON": ("RPUSH", "k", '{"type": "human", "data": {}}', "hello"),
    "no object": ("RPUSH", "k", "[]"),
    "no data": ("RPUSH", "k", '{"type": "human", "data": {}}', '{"type": "human"}'),
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


# Faults


def moments(client: redis.Redis, name: str) -> int:
    """How many moments an adoption has, before and after each of its calls."""
    Foreign(client, LAYOUTS[name]).add(*"abcde")
    store = Interrupted(client)
    store.append("other", [b"{}"])  # the deployment is known
    store.moments = itertools.count()
    store.adopt("s", LAYOUTS[name])
    return next(store.moments)


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_killed_anywhere_an_adoption_is_finished_by_the_next(
    client: redis.Redis, services: Services, name: str
) -> None:
    total = moments(client, name)
    assert total > 20
    for moment in range(total):
        session_id = f"s{moment}"
        theirs = Foreign(client, LAYOUTS[name], session_id, ttl=600)
        theirs.add(*"abcde")
        store = Interrupted(client)
        store.moments, store.dies_at = itertools.count(), moment
        with pytest.raises(Killed):
            store.adopt(session_id, LAYOUTS[name])
        if moment % 2:
            theirs.add("f")
        if moment % 3 == 0:
            archive_session(services, session_id)
        chat = history(client, session_id, adopt=name, archive=SessionArchive(services.archive.url))
        assert said(chat) == [*"abcdef"][: 5 + moment % 2], moment
        assert idle_seconds(chat) in (600, 599)
        for ended in services.sessions.adoptions():  # killed just before its record was deleted
            assert services.sessions.finish_adoption(ended) == 0
        assert leftovers(client) == []


@pytest.mark.usefixtures("small_pages")
def test_a_session_that_is_archived_in_the_middle_of_its_adoption_is_complete_in_the_end(
    client: redis.Redis, services: Services
) -> None:
    Foreign(client).add(*"abcdefgh")
    store = Interrupted(client)
    store.meanwhile = lambda: archive_session(services, "s")
    store.adopt("s", MEMORYSTORE)
    found = [json.loads(element)["data"]["content"] for element in read_transcript(services, "s")]
    assert found == [*"abcdefgh"]


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("name", FORMATS)
def test_of_many_who_adopt_at_once_each_message_is_written_by_one(
    client: redis.Redis, redis_server: RedisServer, name: str
) -> None:
    sessions = [f"s{number}" for number in range(20)]
    for session_id in sessions:
        Foreign(client, LAYOUTS[name], session_id).add(*"abcdefg")
    together = threading.Barrier(4)

    def adopt_all(_: int) -> int:
        with redis_server.client() as connected:
            store = SessionStore(connected)
            together.wait()
            return sum(store.adopt(session_id, LAYOUTS[name]) for session_id in sessions)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(adopt_all, range(4))) >= 7 * len(sessions)
    for session_id in sessions:
        assert said(history(client, session_id)) == [*"abcdefg"]
    assert leftovers(client) == []


def test_two_layouts_of_one_session_are_adopted_one_after_the_other(client: redis.Redis) -> None:
    Foreign(client, LAYOUTS["community"]).add("a", "b")
    store = Interrupted(client)
    store.meanwhile = lambda: kill_when(client, taken=True)
    with pytest.raises(Killed):
        store.adopt("s", LAYOUTS["community"])
    Foreign(client).add("c")
    assert said(history(client, adopt="memorystore")) == ["a", "b", "c"]
    assert leftovers(client) == []


def test_a_taking_that_is_sent_again_much_later_takes_the_new_messages_as_new_ones(client: redis.Redis) -> None:
    """The first sending was executed, its reply lost, and others have finished meanwhile; as many messages came."""
    theirs = Foreign(client)
    theirs.add("a", "b")
    store = SessionStore(client)
    sent = calls.take_list("torpor", "s", MEMORYSTORE, "0a1b", 2)
    assert store.run(sent)
    store.adopt("s", MEMORYSTORE)
    theirs.add("c", "d")
    assert store.run(sent)
    assert said(history(client)) == ["a", "b", "c", "d"]


def test_a_redis_that_is_away_is_an_error_and_the_next_use_adopts(client: redis.Redis) -> None:
    Foreign(client).add("a")
    chat = history(client)
    perform, sent = Runner.perform, itertools.count()

    async def fail(self: Any, call: Call[Any]) -> Any:
        if next(sent) == 3:
            raise RedisUnavailable("gone")
        return await perform(self, call)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, "perform", fail)
        with pytest.raises(RedisUnavailable):
            _ = chat.messages
    assert said(chat) == ["a"]


@pytest.mark.single_node(reason="the limit is one node's")
def test_at_the_memory_limit_what_another_library_has_can_still_be_adopted(tmp_path: Path) -> None:
    server = start_redis(tmp_path, "--maxmemory-policy", "noeviction")
    try:
        with server.client() as client:
            Foreign(client).add(*"abc")
            raw(client, "CONFIG", "SET", "maxmemory", "1")
            assert said(history(client)) == [*"abc"]
            assert leftovers(client) == []
    finally:
        server.stop()


def test_the_doctor_finds_adoptions_at_which_nobody_is_and_finishes_them(
    client: redis.Redis, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    for session_id, taken in (("a", True), ("b", False)):
        Foreign(client, LAYOUTS["community"], session_id).add("x")
        store = Interrupted(client)
        store.meanwhile = lambda taken=taken: kill_when(client, taken=taken) if leftovers(client) else None  # type: ignore[misc]
        with pytest.raises(Killed):
            store.adopt(session_id, LAYOUTS["community"])
        assert [each.session_id for each in services.sessions.adoptions()] == [session_id]
        assert list(doctor.examine(services)) == []  # somebody may be at it
        with monkeypatch.context() as patch:
            patch.setattr(doctor, "_ADOPTING", timedelta(seconds=-1))
            [finding] = doctor.examine(services)
            assert (finding.session_id, finding.ailment) == (session_id, "adoption that was not finished")
            assert f"message_store:{session_id}" in str(finding.detail)
            [mended] = doctor.examine(services, repair=True)
            assert mended.mended
        assert leftovers(client) == []
        assert said(history(client, session_id, adopt="community")) == ["x"]


@pytest.mark.parametrize("record", [b"", b"{}", b"1:[1]", b"x:[]", b'1:["n", 7, false, null, 0]'], ids=repr)
def test_a_record_that_somebody_has_damaged_is_named(client: redis.Redis, services: Services, record: bytes) -> None:
    theirs = Foreign(client)
    theirs.add("a")
    chat = history(client, adopt=None)
    chat.add_user_message("b")
    [key] = raw(client, "KEYS", "*:s:s")
    raw(client, "HSET", key.replace(b":s:s", b":a"), "s", record)
    with pytest.raises(MessageCorrupt, match="the adoption of session 's' is damaged"):
        history(client).info()
    assert theirs.elements
    assert said(chat) == ["b"]
    assert services.sessions.adoptions() == []


# And back again


@pytest.mark.parametrize("session_id", WEIRD_IDS, ids=repr)
def test_what_is_given_back_is_what_the_other_library_reads(
    client: redis.Redis, sessions: SessionStore, session_id: str
) -> None:
    chat = history(client, session_id)
    chat.add_messages(TURN * 60)
    sessions.give_back(session_id, sessions.messages(session_id))
    theirs = Foreign(client, session_id=session_id)
    assert theirs.messages == TURN * 60
    assert theirs.elements == sessions.messages(session_id)
    assert raw(client, "PTTL", theirs.key) == -1
    assert not raw(client, "KEYS", "torpor:returning:*")


def test_what_is_given_back_has_the_ttl_that_it_is_to_have(client: redis.Redis, sessions: SessionStore) -> None:
    sessions.give_back("s", [b'{"type":"human","data":{}}'], ttl=timedelta(seconds=90))
    assert 89_000 < raw(client, "PTTL", "s") <= 90_000


def test_a_key_that_is_in_use_is_never_replaced(client: redis.Redis, sessions: SessionStore) -> None:
    Foreign(client).add("theirs")
    before = dump(client)
    with pytest.raises(SessionExists, match="the key 's' exists already"):
        sessions.give_back("s", [b'{"type":"human","data":{}}'])
    assert dump(client) == before


@pytest.mark.parametrize("element", [b"{}", b"text", b'{"type":"human"}'])
def test_what_is_no_message_is_not_given_to_another_library(
    client: redis.Redis, sessions: SessionStore, element: bytes
) -> None:
    with pytest.raises(MessageCorrupt, match="message 1 of session 's'"):
        sessions.give_back("s", [b'{"type":"human","data":{}}', element])
    with pytest.raises(InvalidArgument, match="no messages"):
        sessions.give_back("s", [])
    assert not raw(client, "KEYS", "*")


@pytest.mark.parametrize("dies_at", range(8))
def test_a_giver_that_is_killed_leaves_nothing_or_all_of_it(client: redis.Redis, dies_at: int) -> None:
    store = Interrupted(client)
    store.moments, store.dies_at = itertools.count(), dies_at
    messages = [b'{"type":"human","data":{"content":"%d"}}' % number for number in range(250)]
    with pytest.raises(Killed):
        store.give_back("s", messages)
    assert Foreign(client).elements == (messages if dies_at == 7 else [])
    assert all(raw(client, "PTTL", key) > 0 for key in raw(client, "KEYS", "torpor:returning:*"))


def test_a_giving_whose_reply_was_lost_is_given_once(client: redis.Redis, sessions: SessionStore) -> None:
    messages = [b'{"type":"human","data":{}}'] * 2
    place = "torpor", b"s", b"0a1b"
    for call in (
        calls.stage_return(*place, messages, laid=0, lease=timedelta(minutes=1)),
        calls.give_back(*place, 2, None),
    ):
        sessions.run(call)
        sessions.run(call)
    assert Foreign(client).elements == messages
    with pytest.raises(PermanentError):
        sessions.run(calls.give_back("torpor", b"s", b"ffff", 3, None))
