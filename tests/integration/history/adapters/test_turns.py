"""Turns of LangChain's RunnableWithMessageHistory in whose middle something happens to the session."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from math import nan
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio.cluster
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatResult
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory

from support.identity import bind
from support.servers import RedisServer
from support.sessions import purge_session
from support.transcripts import read_transcript
from support.watched_clients import Watched
from torpor import MemorystoreChatMessageHistory
from torpor.history.adapters.messages import decode_message, encode_message
from torpor.history.protocol import OwnerMismatch, SessionPurged, SessionStore
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import Settings
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session
from torpor.worker.wake.session_archive import SessionArchive

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:RunnableWithMessageHistory is deprecated:langchain_core._api.deprecation.LangChainDeprecationWarning"
    ),
]

BEFORE: list[BaseMessage] = [HumanMessage("one"), AIMessage("two"), HumanMessage("three"), AIMessage("four")]
CONFIG: RunnableConfig = {"configurable": {"session_id": "s"}}


@pytest.fixture
def services(redis_server: RedisServer, sessions: SessionStore, scratch: Path) -> Services:
    archive = open_archive((scratch / "archive").as_uri())
    settings = Settings(**redis_server.settings, archive_url=archive.url, lease_seconds=30)
    connected = Services(settings, sessions, archive)
    bind(connected)
    return connected


# What happens to the session, and what is left of it but for the turn


def written(messages: list[BaseMessage]) -> list[bytes]:
    return list(map(encode_message, messages))


def nothing(services: Services) -> None:
    pass


def sleep(services: Services) -> None:
    assert archive_session(services, "s").outcome in (Outcome.ARCHIVED, Outcome.MISSING)


def sleep_and_wake(services: Services) -> None:
    sleep(services)
    restore_session(services, "s")


def sleep_and_be_used(services: Services) -> None:
    sleep(services)
    services.sessions.append("s", written([HumanMessage("other")]), owner="ann")


def sleep_and_grow_long(services: Services) -> None:
    sleep(services)
    services.sessions.append("s", written([HumanMessage("other")] * 9), owner="ann")


def be_used(services: Services) -> None:
    services.sessions.append("s", written([HumanMessage("other")]), owner="ann")


def clear(services: Services) -> None:
    services.sessions.clear("s")


def clear_and_be_used(services: Services) -> None:
    clear(services)
    be_used(services)


def purge(services: Services) -> None:
    purge_session(services, "s")


LEFT: dict[Callable[[Services], None], list[BaseMessage]] = {
    nothing: BEFORE,
    sleep: BEFORE,
    sleep_and_wake: BEFORE,
    sleep_and_be_used: [*BEFORE, HumanMessage("other")],
    sleep_and_grow_long: [*BEFORE, *[HumanMessage("other")] * 9],
    be_used: [*BEFORE, HumanMessage("other")],
    clear: [],
    clear_and_be_used: [HumanMessage("other")],
    purge: [],
}
HAPPENINGS = list(LEFT)


# What a turn runs, and how it is called


class Model(GenericFakeChatModel):
    """A chat model during whose answer something happens."""

    act: Callable[[], None]

    def _generate(self, *args: Any, **options: Any) -> ChatResult:
        self.act()
        return super()._generate(*args, **options)


def model(act: Callable[[], None]) -> Runnable[Any, Any]:
    return Model(messages=iter([AIMessage("reply"), AIMessage("reply")]), act=act)


def function(act: Callable[[], None]) -> Runnable[Any, Any]:
    def answer(_: Any) -> AIMessage:
        act()
        return AIMessage("reply")

    async def aanswer(given: Any) -> AIMessage:
        return answer(given)

    return RunnableLambda(answer, aanswer)


def prompt(act: Callable[[], None]) -> Runnable[Any, Any]:
    return ChatPromptTemplate([MessagesPlaceholder("past"), ("human", "{question}")]) | model(act)


@dataclass(frozen=True)
class Mode:
    """A way to use RunnableWithMessageHistory."""

    runnable: Callable[[Callable[[], None]], Runnable[Any, Any]]
    keys: dict[str, Any] = field(default_factory=dict)
    given: Callable[[str], Any] = lambda text: [HumanMessage(text)]


MODES = {
    "list-function": Mode(function),
    "list-model": Mode(model),
    "key-function": Mode(function, {"input_messages_key": "question"}, lambda text: {"question": text}),
    "dict-prompt": Mode(
        prompt, {"input_messages_key": "question", "history_messages_key": "past"}, lambda text: {"question": text}
    ),
}


def invoke(chain: Runnable[Any, Any], given: Any) -> None:
    chain.invoke(given, CONFIG)


def stream(chain: Runnable[Any, Any], given: Any) -> None:
    list(chain.stream(given, CONFIG))


async def ainvoke(chain: Runnable[Any, Any], given: Any) -> None:
    await chain.ainvoke(given, CONFIG)


async def astream(chain: Runnable[Any, Any], given: Any) -> None:
    async for _ in chain.astream(given, CONFIG):
        pass


class WatchedAsyncRedis(Watched, redis.asyncio.Redis):  # type: ignore[misc]
    """A watched client of asyncio: what is to be done before a command is done when it is made."""


class WatchedAsyncCluster(Watched, redis.asyncio.cluster.RedisCluster):  # type: ignore[misc]
    """Likewise of a Cluster."""


def watched_asyncio(server: RedisServer) -> Any:
    if "redis_cluster" in server.settings:
        return WatchedAsyncCluster(host="127.0.0.1", port=server.port)
    return WatchedAsyncRedis(port=server.port, username=server.user, password=server.password)


def once(act: Callable[[], None]) -> Callable[[], None]:
    """Does it the first time only."""
    left = [act]
    return lambda: left.pop()() if left else None


@dataclass
class Turn:
    """A turn in whose middle, or just before whose messages are written, something happens."""

    server: RedisServer
    mode: Mode
    call: Callable[..., Any]
    happens: Callable[[], None]
    before_the_write: bool = False

    def take(self, **options: Any) -> None:
        """Take it with a history of its own, which has these options."""
        if self.call in (ainvoke, astream):
            asyncio.run(self._atake(options))
        else:
            with self.server.watched() as client:
                self.call(self._chain(client, options), self.mode.given("five"))

    async def _atake(self, options: dict[str, Any]) -> None:
        async with watched_asyncio(self.server) as client:
            await self.call(self._chain(client, options), self.mode.given("five"))

    def _chain(self, client: Any, options: dict[str, Any]) -> Runnable[Any, Any]:
        happens = once(self.happens)

        def inside() -> None:
            if self.before_the_write:  # whatever is sent next
                client.before = lambda _: happens()
            else:
                happens()

        def history(session_id: str) -> MemorystoreChatMessageHistory:
            return MemorystoreChatMessageHistory(client, session_id, **{"owner": "ann"} | options)

        return RunnableWithMessageHistory(self.mode.runnable(inside), history, **self.mode.keys)


def found(services: Services) -> list[str]:
    """The messages of the session, asleep and awake."""
    asleep = read_transcript(services, "s")
    restore_session(services, "s")
    assert services.sessions.messages("s") == asleep
    return [str(decode_message(element).content) for element in asleep]


def dump(messages: list[BaseMessage]) -> list[str]:
    return [str(message.content) for message in messages]


every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
every_call = pytest.mark.parametrize("call", [invoke, stream, ainvoke, astream])
every_happening = pytest.mark.parametrize("happening", HAPPENINGS)


@every_mode
@every_call
@every_happening
def test_whatever_happens_in_a_turn_each_message_is_there_once_and_in_order(
    services: Services,
    redis_server: RedisServer,
    mode: Mode,
    call: Callable[..., Any],
    happening: Callable[[Services], None],
) -> None:
    services.sessions.append("s", written(BEFORE), owner="ann")
    Turn(redis_server, mode, call, partial(happening, services)).take(allow_reuse=True)
    assert found(services) == dump([*LEFT[happening], HumanMessage("five"), AIMessage("reply")])


@every_mode
@pytest.mark.parametrize("call", [invoke, ainvoke])
@every_happening
def test_whatever_happens_before_a_turn_is_written_each_message_is_there_once_and_in_order(
    services: Services,
    redis_server: RedisServer,
    mode: Mode,
    call: Callable[..., Any],
    happening: Callable[[Services], None],
) -> None:
    services.sessions.append("s", written(BEFORE), owner="ann")
    sleep(services)
    turn = Turn(redis_server, mode, call, partial(happening, services), before_the_write=True)
    turn.take(allow_reuse=True, archive=SessionArchive(services.archive.url))
    assert found(services) == dump([*LEFT[happening], HumanMessage("five"), AIMessage("reply")])


@every_mode
@pytest.mark.parametrize("call", [invoke, ainvoke])
@pytest.mark.parametrize("begins_with", [[], [HumanMessage("other")]], ids=["nothing", "a part"])
def test_a_session_that_wakes_up_in_a_turn_is_followed_by_what_is_new(
    services: Services, redis_server: RedisServer, mode: Mode, call: Callable[..., Any], begins_with: list[BaseMessage]
) -> None:
    services.sessions.append("s", written(BEFORE), owner="ann")
    sleep(services)
    if begins_with:
        services.sessions.append("s", written(begins_with), owner="ann")

    def wake() -> None:
        restore_session(services, "s")

    Turn(redis_server, mode, call, wake).take()
    assert found(services) == dump([*BEFORE, *begins_with, HumanMessage("five"), AIMessage("reply")])


@every_mode
@every_call
def test_a_session_that_is_purged_in_a_turn_stays_purged_and_langchain_logs_that(
    services: Services,
    redis_server: RedisServer,
    mode: Mode,
    call: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    services.sessions.append("s", written(BEFORE), owner="ann")
    Turn(redis_server, mode, call, partial(purge, services)).take()
    with pytest.raises(SessionPurged):
        read_transcript(services, "s")
    assert services.sessions.messages("s") == []
    [logged] = [record.getMessage() for record in caplog.records if record.name == "langchain_core.callbacks.manager"]
    assert "SessionPurged" in logged
    assert "five" not in logged


@pytest.mark.parametrize("call", [invoke, ainvoke])
def test_a_turn_of_another_owner_does_not_begin(
    services: Services, redis_server: RedisServer, call: Callable[..., Any]
) -> None:
    services.sessions.append("s", written(BEFORE), owner="ann")
    with pytest.raises(OwnerMismatch):
        Turn(redis_server, MODES["list-function"], call, lambda: None).take(owner="bob")
    assert found(services) == dump(BEFORE)


# What LangChain hands back changed


CHANGED: list[BaseMessage] = [
    HumanMessage("a", additional_kwargs={"score": nan, "none": None}),
    AIMessageChunk(content="b", id="run-1", tool_calls=[{"name": "look", "args": {}, "id": "1", "type": "tool_call"}]),
    ToolMessage("c", tool_call_id="1", artifact={"rows": [1, 2]}),
    AIMessage("d", response_metadata={"long": 2**70}),
]


@pytest.mark.parametrize("mode", [MODES["list-model"], MODES["dict-prompt"]], ids=["list-model", "dict-prompt"])
@every_call
def test_messages_that_come_back_otherwise_than_they_were_read_are_known(
    services: Services, redis_server: RedisServer, mode: Mode, call: Callable[..., Any]
) -> None:
    services.sessions.append("s", written(CHANGED), owner="ann")
    Turn(redis_server, mode, call, partial(sleep, services)).take()
    assert read_transcript(services, "s")[:4] == written(CHANGED)
    assert found(services) == ["a", "b", "c", "d", "five", "reply"]


# A history that is shared by several turns


def shared(client: Any, act: Callable[[], None], **options: Any) -> tuple[MemorystoreChatMessageHistory, Any]:
    """A history, and a chain that has it in all turns."""
    history = MemorystoreChatMessageHistory(client, "s", **{"owner": "ann"} | options)
    return history, RunnableWithMessageHistory(function(act), lambda session_id: history)


def test_turns_one_after_the_other_can_share_a_history(services: Services) -> None:
    history, chain = shared(services.sessions.client, partial(sleep, services))
    for number in range(3):
        history.messages  # noqa: B018 - somebody looks at it meanwhile
        chain.invoke([HumanMessage(str(number))], CONFIG)
    assert found(services) == ["0", "reply", "1", "reply", "2", "reply"]


def test_a_turn_that_fails_leaves_the_next_one_alone(services: Services) -> None:
    services.sessions.append("s", written(BEFORE), owner="ann")

    def fail_once() -> None:
        happens()

    def fail() -> None:
        be_used(services)
        raise ConnectionError

    happens = once(fail)
    _, chain = shared(services.sessions.client, fail_once)
    with pytest.raises(ConnectionError):
        chain.invoke([HumanMessage("lost")], CONFIG)
    chain.invoke([HumanMessage("five")], CONFIG)
    assert found(services) == [*dump(BEFORE), "other", "five", "reply"]


@pytest.mark.parametrize("happening", [sleep, clear, sleep_and_wake])
def test_threads_can_share_a_history(services: Services, happening: Callable[[Services], None]) -> None:
    services.sessions.append("s", written(BEFORE), owner="ann")
    happens = once(partial(happening, services))
    both = threading.Barrier(2, action=happens, timeout=30)
    _, chain = shared(services.sessions.client, lambda: (both.wait(), None)[1])
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda text: chain.invoke([HumanMessage(text)], CONFIG), ["five", "six"]))
    left = len(LEFT[happening])
    assert found(services)[:left] == dump(LEFT[happening])
    assert sorted(found(services)[left:]) == ["five", "reply", "reply", "six"]


def test_tasks_can_share_a_history(services: Services, redis_server: RedisServer) -> None:
    services.sessions.append("s", written(BEFORE), owner="ann")

    async def converse() -> None:
        begun = 0
        asleep = asyncio.Event()

        async def answer(_: Any) -> AIMessage:
            nonlocal begun
            begun += 1
            if begun == 2:
                sleep(services)
                asleep.set()
            await asleep.wait()
            return AIMessage("reply")

        async with watched_asyncio(redis_server) as client:
            history = MemorystoreChatMessageHistory(client, "s", owner="ann")
            chain = RunnableWithMessageHistory(RunnableLambda(answer), lambda session_id: history)
            await asyncio.gather(*(chain.ainvoke([HumanMessage(text)], CONFIG) for text in ("five", "six")))

    asyncio.run(converse())
    assert found(services)[:4] == dump(BEFORE)
    assert sorted(found(services)[4:]) == ["five", "reply", "reply", "six"]


def test_what_a_runnable_reads_and_writes_itself_is_fresh_and_kept(services: Services) -> None:
    services.sessions.append("s", written(BEFORE), owner="ann")

    def look_and_note() -> None:
        be_used(services)
        assert dump(history.messages) == [*dump(BEFORE), "other"]
        history.add_message(ToolMessage("noted", tool_call_id="1"))

    history, chain = shared(services.sessions.client, look_and_note)
    chain.invoke([HumanMessage("five")], CONFIG)
    assert found(services) == [*dump(BEFORE), "other", "noted", "five", "reply"]
    assert dump(history.messages) == found(services)


class KeepsLastFour(MemorystoreChatMessageHistory):
    """A history of the sort that LangChain's documentation shows: it trims itself."""

    def add_messages(self, messages: Any) -> None:
        kept = [*self.messages, *messages][-4:]
        self.clear()
        super().add_messages(kept)


@pytest.mark.parametrize("mode", [MODES["list-function"], MODES["dict-prompt"]], ids=["list", "dict"])
def test_a_history_that_trims_itself_sees_what_is_there(services: Services, mode: Mode) -> None:
    services.sessions.append("s", written(BEFORE), owner="ann")
    history = KeepsLastFour(services.sessions.client, "s", owner="ann")
    chain = RunnableWithMessageHistory(
        mode.runnable(partial(be_used, services)), lambda session_id: history, **mode.keys
    )
    chain.invoke(mode.given("five"), CONFIG)
    assert found(services) == ["four", "other", "five", "reply"]


@pytest.mark.parametrize("mode", [MODES["list-function"], MODES["dict-prompt"]], ids=["list", "dict"])
def test_an_asyncio_turn_over_a_blocking_client_uses_what_a_class_has_changed(services: Services, mode: Mode) -> None:
    services.sessions.append("s", written(BEFORE), owner="ann")
    history = KeepsLastFour(services.sessions.client, "s", owner="ann")
    chain = RunnableWithMessageHistory(
        mode.runnable(partial(be_used, services)), lambda session_id: history, **mode.keys
    )
    asyncio.run(chain.ainvoke(mode.given("five"), CONFIG))
    assert found(services) == ["four", "other", "five", "reply"]


@every_mode
@pytest.mark.parametrize("call", [ainvoke, astream])
@every_happening
def test_whatever_happens_in_an_asyncio_turn_over_a_blocking_client_each_message_is_there_once(
    services: Services, mode: Mode, call: Callable[..., Any], happening: Callable[[Services], None]
) -> None:
    services.sessions.append("s", written(BEFORE), owner="ann")
    history = MemorystoreChatMessageHistory(services.sessions.client, "s", owner="ann", allow_reuse=True)
    chain = RunnableWithMessageHistory(
        mode.runnable(once(partial(happening, services))), lambda session_id: history, **mode.keys
    )
    asyncio.run(call(chain, mode.given("five")))
    assert found(services) == dump([*LEFT[happening], HumanMessage("five"), AIMessage("reply")])


def test_a_batch_of_turns_is_of_a_session_each(services: Services) -> None:
    chain = RunnableWithMessageHistory(
        function(lambda: None),
        lambda session_id: MemorystoreChatMessageHistory(services.sessions.client, session_id, owner="ann"),
    )
    names = [f"s{number}" for number in range(8)]
    for _ in range(2):
        chain.batch(
            [[HumanMessage(name)] for name in names], [{"configurable": {"session_id": name}} for name in names]
        )
    for name in names:
        said = [str(decode_message(element).content) for element in services.sessions.messages(name)]
        assert said == [name, "reply", name, "reply"]
