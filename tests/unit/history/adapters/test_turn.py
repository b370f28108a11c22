"""The messages that LangChain reads at the end of a turn, and those that everybody else reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.runnables.config import run_in_executor
from langchain_core.runnables.history import RunnableWithMessageHistory

from torpor.history.adapters import turn
from torpor.history.adapters.turn import Turns

pytestmark = pytest.mark.filterwarnings(
    "ignore:RunnableWithMessageHistory is deprecated:langchain_core._api.deprecation.LangChainDeprecationWarning"
)

KEYS = [{}, {"input_messages_key": "question"}, {"input_messages_key": "question", "history_messages_key": "past"}]
CONFIG: RunnableConfig = {"configurable": {"session_id": "s"}}


class InMemory(BaseChatMessageHistory):
    """A history that others can change between any two uses."""

    def __init__(self, *said: str) -> None:
        self.turns = Turns(id(self))
        self.said: list[BaseMessage] = [HumanMessage(each) for each in said]

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]
        if (found := self.turns.read_again()) is not None:
            return found
        found = list(self.said)
        self.turns.read(found)
        return found

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        self.said += messages

    def clear(self) -> None:
        self.said = []

    @property
    def texts(self) -> list[str]:
        return [str(message.content) for message in self.said]


def take_turn(history: BaseChatMessageHistory, act: Callable[[], Any], **keys: Any) -> None:
    def answer(_: Any) -> AIMessage:
        act()
        return AIMessage("reply")

    chain = RunnableWithMessageHistory(RunnableLambda(answer), lambda session_id: history, **keys)
    chain.invoke({"question": "new"} if keys else [HumanMessage("new")], CONFIG)


@pytest.mark.parametrize("meanwhile", [[], ["old"], ["old", "older"], ["old"] * 9], ids=len)
def test_only_what_is_new_is_written_however_long_the_history_is_by_then(meanwhile: list[str]) -> None:
    history = InMemory("old", "older")

    def change() -> None:
        history.said = [HumanMessage(each) for each in meanwhile]

    take_turn(history, change)
    assert history.texts == [*meanwhile, "new", "reply"]


def test_whoever_else_reads_in_a_turn_finds_what_is_there() -> None:
    history = InMemory("old")
    seen: list[list[BaseMessage]] = []

    def look() -> None:
        seen.append(history.messages)
        history.clear()
        seen.append(history.messages)

    take_turn(history, look)
    assert seen == [[HumanMessage("old")], []]
    assert history.messages == history.said
    assert history.texts == ["new", "reply"]


def test_what_is_read_in_a_turn_changes_nothing_of_what_it_began_with() -> None:
    history = InMemory("old")

    def read_and_change() -> None:
        history.said *= 3
        history.messages.clear()

    take_turn(history, read_and_change)
    assert history.texts == ["old", "old", "old", "new", "reply"]


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_kept_of_a_turn_that_has_ended(keys: dict[str, Any], *, fails: bool) -> None:
    history = InMemory("old")
    with pytest.raises(ConnectionError) if fails else nullcontext():
        take_turn(history, lambda: (_ for _ in ()).throw(ConnectionError) if fails else None, **keys)
    assert not turn._runs.running


def test_nothing_is_kept_of_a_stream_that_is_abandoned() -> None:
    history = InMemory("old")

    def answer(_: Any) -> AIMessage:
        return AIMessage("reply")

    chain = RunnableWithMessageHistory(RunnableLambda(answer), lambda session_id: history)
    answers: Any = chain.stream([HumanMessage("new")], CONFIG)
    next(answers)
    answers.close()
    assert not turn._runs.running


def test_a_turn_within_a_turn_of_another_history_is_its_own() -> None:
    outer, inner = InMemory("old"), InMemory("inner")

    def within() -> None:
        outer.clear()
        take_turn(inner, inner.clear)

    take_turn(outer, within)
    assert outer.texts == inner.texts == ["new", "reply"]


class Wrapped(BaseChatMessageHistory):
    """A history over another one, which it reads whenever it is written."""

    def __init__(self, wrapped: InMemory) -> None:
        self.wrapped = wrapped

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]
        return self.wrapped.messages

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        kept = [*self.wrapped.messages, *messages][-3:]
        self.wrapped.clear()
        self.wrapped.add_messages(kept)

    def clear(self) -> None:
        self.wrapped.clear()


@pytest.mark.parametrize("keys", KEYS)
def test_a_history_that_is_wrapped_is_read_afresh_when_it_is_written(keys: dict[str, Any]) -> None:
    history = InMemory("old", "older")
    take_turn(Wrapped(history), lambda: history.said.append(HumanMessage("other")), **keys)
    assert history.texts == ["other", "new", "reply"]


# Reads that are made elsewhere than where LangChain asks for them


class Elsewhere(InMemory):
    """A history that is read in another thread or task."""

    def __init__(self, way: Callable[[Callable[[], Any]], Any], *said: str) -> None:
        super().__init__(*said)
        self.way = way

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]
        found: list[BaseMessage] = self.way(lambda: InMemory.messages.fget(self))  # type: ignore[attr-defined]
        return found


class ElsewhereAsync(Elsewhere):
    async def aget_messages(self) -> list[BaseMessage]:
        found: list[BaseMessage] = await self.way(lambda: InMemory.messages.fget(self))  # type: ignore[attr-defined]
        return found

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        self.add_messages(messages)


def in_a_thread(read: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(copy_context().run, read).result()


def in_a_loop(read: Callable[[], Any]) -> Any:
    async def reading() -> Any:
        return read()

    return asyncio.run(reading())


async def reading(read: Callable[[], Any]) -> Any:
    return read()


async def awaited_for(read: Callable[[], Any]) -> Any:
    return await asyncio.wait_for(reading(read), 30)


async def as_a_task(read: Callable[[], Any]) -> Any:
    return await asyncio.create_task(reading(read))


async def in_langchains_executor(read: Callable[[], Any]) -> Any:
    return await run_in_executor(None, read)


async def deeper_and_deeper(read: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(in_a_loop, lambda: in_a_thread(read))


WAYS = [in_a_thread, in_a_loop]
ASYNC_WAYS = [asyncio.to_thread, awaited_for, as_a_task, in_langchains_executor, deeper_and_deeper]
MEANWHILE = [[], ["old"], ["old", "older"], ["old"] * 9]


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("meanwhile", MEANWHILE, ids=len)
@pytest.mark.parametrize("way", WAYS)
def test_a_turn_is_known_in_any_thread(way: Callable[..., Any], meanwhile: list[str], keys: dict[str, Any]) -> None:
    history = Elsewhere(way, "old", "older")

    def change() -> None:
        history.said = [HumanMessage(each) for each in meanwhile]

    take_turn(history, change, **keys)
    assert history.texts == [*meanwhile, "new", "reply"]


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("meanwhile", MEANWHILE, ids=len)
@pytest.mark.parametrize("way", ASYNC_WAYS)
def test_a_turn_is_known_in_any_task(way: Callable[..., Any], meanwhile: list[str], keys: dict[str, Any]) -> None:
    history = ElsewhereAsync(way, "old", "older")

    async def answer(_: Any) -> AIMessage:
        history.said = [HumanMessage(each) for each in meanwhile]
        return AIMessage("reply")

    chain = RunnableWithMessageHistory(RunnableLambda(answer), lambda session_id: history, **keys)
    asyncio.run(chain.ainvoke({"question": "new"} if keys else [HumanMessage("new")], CONFIG))
    assert history.texts == [*meanwhile, "new", "reply"]


@pytest.mark.parametrize("way", ASYNC_WAYS)
def test_turns_at_once_of_one_history_each_know_what_they_began_with(way: Callable[..., Any]) -> None:
    history = ElsewhereAsync(way, "old")

    async def converse() -> None:
        both_run, first_is_written, grown = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def answer(given: list[BaseMessage]) -> AIMessage:
            if given[-1].content == "first":
                history.said.append(HumanMessage("between"))  # so the second turn begins with more
                grown.set()
                await both_run.wait()
            else:
                both_run.set()
                await first_is_written.wait()
            return AIMessage("reply")

        chain = RunnableWithMessageHistory(RunnableLambda(answer), lambda session_id: history)
        first = asyncio.create_task(chain.ainvoke([HumanMessage("first")], CONFIG))
        await grown.wait()
        second = asyncio.create_task(chain.ainvoke([HumanMessage("second")], CONFIG))
        await first
        first_is_written.set()
        await second

    asyncio.run(converse())
    assert history.texts == ["old", "between", "first", "reply", "second", "reply"]


def test_langchain_still_gives_its_runs_these_names() -> None:
    names: list[str] = []

    class Names(BaseCallbackHandler):
        def on_chain_start(self, *_: Any, **more: Any) -> None:
            names.append(more["name"])

    chain: Any = RunnableWithMessageHistory(
        RunnableLambda(lambda _: AIMessage("reply")),  # type: ignore[arg-type]
        lambda session_id: InMemory("old"),
        input_messages_key="question",
    )
    chain.invoke({"question": "new"}, {**CONFIG, "callbacks": [Names()]})
    assert {turn.LOAD, turn.INSERT} <= set(names)
