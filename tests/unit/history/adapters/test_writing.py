"""The values that a saver writes have the bytes that LangGraph's serializer gives them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import ormsgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, RemoveMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Send
from pydantic import BaseModel

from torpor.history.adapters.writing import write_value

SERDE = JsonPlusSerializer()

scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=5)
plain = st.recursive(
    scalars, lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=3), each, max_size=3)
)
fields = st.dictionaries(st.text(max_size=3), plain, max_size=3)
contents = st.text(max_size=20) | st.lists(st.just({"type": "text", "text": "hello"}), max_size=2)
messages = st.one_of(
    st.builds(HumanMessage, contents, additional_kwargs=fields, id=st.none() | st.text(max_size=3)),
    st.builds(AIMessage, contents, response_metadata=fields),
    st.builds(AIMessage, st.just(""), tool_calls=st.just([{"name": "find", "args": {"n": [1]}, "id": "c"}])),
    st.builds(ToolMessage, contents, tool_call_id=st.text(max_size=3), artifact=plain),
)


class Reply(AIMessage):
    """A message of an application's own class."""


class Own(BaseModel):
    """A model of an application."""

    moment: datetime = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Point:
    """A dataclass of an application."""

    x: int = 1


@given(st.lists(messages, max_size=4) | plain | fields)
def test_a_value_has_the_serializers_bytes(value: Any) -> None:
    assert write_value(SERDE, value) == SERDE.dumps_typed(value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"bytes",
        bytearray(b"more"),
        Own(),
        Point(),
        {1, 2},
        deque([1]),
        UUID(int=7),
        ValueError("no"),
        Send("node", {"messages": [HumanMessage("x")]}),
        [HumanMessage("x"), Reply(content="mine"), RemoveMessage("gone")],
        [HumanMessage("x", mood="calm"), AIMessageChunk(content="par", chunk_position="last")],
        HumanMessage("x", additional_kwargs={"own": Own(), "at": datetime(2026, 1, 1, tzinfo=UTC)}),
        ToolMessage("x", tool_call_id="1", artifact=(Point(), {1}, b"raw", float("inf"))),
        {"messages": [HumanMessage("lone \ud800"), ("tuple", 1.5)]},
        [HumanMessage("x").model_copy(update={"content": None}), AIMessage.model_construct(content="x")],
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_a_value_is_made_of_it_has_the_serializers_bytes(value: Any) -> None:
    assert write_value(SERDE, value) == SERDE.dumps_typed(value)


def test_what_the_serializer_refuses_is_refused() -> None:
    with pytest.raises(ormsgpack.MsgpackEncodeError):
        write_value(SERDE, [HumanMessage("x"), object()])


def test_another_serializer_writes_its_own_bytes() -> None:
    class Shouting(JsonPlusSerializer):
        def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
            return "shout", str(obj).upper().encode()

    assert write_value(Shouting(), ["x"]) == ("shout", b"['X']")


def test_pydantic_does_not_copy_a_plain_message(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [HumanMessage("hello"), AIMessage("hi")]
    expected = SERDE.dumps_typed(said)
    monkeypatch.setattr(BaseMessage, "model_dump", lambda _: pytest.fail("copied"))
    assert write_value(SERDE, said) == expected
