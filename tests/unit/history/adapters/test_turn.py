"""What LangChain finds when it reads a history at the end of a turn, and what everybody else does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory

from torpor.history.adapters import turn
from torpor.history.adapters.turn import Turns

pytestmark = pytest.mark.filterwarnings(
    "ignore:RunnableWithMessageHistory is deprecated:langchain_core._api.deprecation.LangChainDeprecationWarning"
)

CONFIG: RunnableConfig = {"configurable": {"session_id": "s"}}


class InMemory(BaseChatMessageHistory):
    """A history that others can change between any two uses."""

    def __init__(self, *said: str) -> None:
        self.turns = Turns()
        self.said: list[BaseMessage] = [HumanMessage(each) for each in said]

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]
        if (found := self.turns.read_again()) is not None:
            return found
        found = list(self.said)
        self.turns.read(found)
        return found

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        self.turns.written()
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


def test_langchain_has_the_functions_that_a_turn_is_known_by() -> None:
    assert RunnableWithMessageHistory.__module__ == turn._LANGCHAIN
    for name in turn._BEGIN | turn._END:
        assert callable(getattr(RunnableWithMessageHistory, name))


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


@pytest.mark.parametrize("keys", [{}, {"input_messages_key": "question", "history_messages_key": "past"}])
def test_nothing_is_kept_of_a_turn_that_has_ended(keys: dict[str, Any]) -> None:
    history = InMemory("old")
    take_turn(history, lambda: None, **keys)
    assert not history.turns._begun


def test_turns_that_fail_are_not_all_kept() -> None:
    history = InMemory("old")
    for _ in range(2 * turn._REMEMBERED):
        with pytest.raises(ConnectionError):
            take_turn(history, lambda: (_ for _ in ()).throw(ConnectionError))
    assert len(history.turns._begun) == turn._REMEMBERED
    history.said = []
    take_turn(history, history.said.clear)
    assert history.texts == ["new", "reply"]


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


@pytest.mark.parametrize("keys", [{}, {"input_messages_key": "question", "history_messages_key": "past"}])
def test_a_history_that_is_wrapped_is_read_afresh_when_it_is_written(keys: dict[str, Any]) -> None:
    history = InMemory("old", "older")
    take_turn(Wrapped(history), lambda: history.said.append(HumanMessage("other")), **keys)
    assert history.texts == ["other", "new", "reply"]
