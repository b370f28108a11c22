"""Messages that a saver reads are as the serializer makes them, whether they are made or copied."""

from __future__ import annotations

from typing import Any

import ormsgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import EXT_PYDANTIC_V2, JsonPlusSerializer
from langgraph.checkpoint.serde.types import SendProtocol
from langgraph.types import Send

from torpor.history.adapters import reading
from torpor.history.adapters.reading import ValueReader
from torpor.history.records.record import Typed

SERDE = JsonPlusSerializer()
LIMIT = 1 << 20

scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=5)
plain = st.recursive(
    scalars, lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=3), each, max_size=3)
)
fields = st.dictionaries(st.text(max_size=3), plain, max_size=3)
calls = st.lists(
    st.fixed_dictionaries({"name": st.just("find"), "args": fields, "id": st.text(max_size=3)}), max_size=2
)
contents = st.text(max_size=20) | st.lists(st.just({"type": "text", "text": "hello"}), max_size=2)
messages = st.one_of(
    st.builds(HumanMessage, contents, additional_kwargs=fields, id=st.none() | st.text(max_size=3)),
    st.builds(AIMessage, contents, tool_calls=calls, response_metadata=fields),
    st.builds(ToolMessage, contents, tool_call_id=st.text(max_size=3), artifact=plain),
)


class Reply(AIMessage):
    """A message of an application's own class."""


def read(reader: ValueReader, value: Any) -> Any:
    return reader.read(Typed(*SERDE.dumps_typed(value)), again=True)


def state(message: BaseMessage) -> Any:
    """All that a message is made of, with the types of its values."""
    return type(message), repr(message.__dict__), message.model_fields_set, message.__pydantic_extra__


def spoil(value: Any) -> None:
    """Change whatever can be changed in a value."""
    if isinstance(value, BaseMessage):
        for each in list(value.__dict__.values()):
            spoil(each)
        value.content = "spoiled"
    elif isinstance(value, list):
        for each in value:
            spoil(each)
        value.append("spoiled")
    elif isinstance(value, dict):
        for each in value.values():
            spoil(each)
        value["spoiled"] = "spoiled"


@given(st.lists(messages, max_size=4))
def test_a_message_that_is_read_for_the_first_time_is_as_the_serializer_makes_it(given: list[Any]) -> None:
    found = ValueReader(SERDE, LIMIT).read(Typed(*SERDE.dumps_typed({"messages": given})), again=False)
    assert list(map(state, found["messages"])) == list(map(state, SERDE.loads_typed(SERDE.dumps_typed(given))))


@pytest.mark.parametrize("name", ["human.HumanMessage", "tool.ToolMessage"])
@pytest.mark.parametrize(
    "fields",
    [{"content": 7}, {"content": "x"}, {"id": "x"}, {"content": "x", "content_blocks": []}, {1: 2}, []],
    ids=str,
)
def test_a_message_with_odd_fields_is_as_the_serializer_makes_it(name: str, fields: Any) -> None:
    module, _, name = f"langchain_core.messages.{name}".rpartition(".")
    packed = ormsgpack.packb((module, name, fields), option=ormsgpack.OPT_NON_STR_KEYS)
    typed = Typed("msgpack", ormsgpack.packb(ormsgpack.Ext(EXT_PYDANTIC_V2, packed)))
    found, expected = ValueReader(SERDE, LIMIT).read(typed, again=False), SERDE.loads_typed(typed)
    assert type(found) is type(expected)
    assert repr(found) == repr(expected)


def test_a_message_of_an_applications_own_making_stays_so() -> None:
    own = JsonPlusSerializer(__unpack_ext_hook__=lambda *_: "made by the application")
    typed = Typed(*SERDE.dumps_typed([HumanMessage("hello")]))
    assert ValueReader(own, LIMIT).read(typed, again=False) == ["made by the application"]


@given(st.lists(messages, max_size=4))
def test_a_message_is_the_same_however_often_it_is_read_and_whatever_is_done_with_it(given: list[Any]) -> None:
    expected = list(map(state, SERDE.loads_typed(SERDE.dumps_typed(given))))
    reader = ValueReader(SERDE, LIMIT)
    for _ in range(3):
        found = read(reader, given)
        assert list(map(state, found)) == expected
        spoil(found)


def test_a_message_that_was_read_before_is_not_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = ValueReader(SERDE, LIMIT)
    given = [HumanMessage("hello"), AIMessage("hi")]
    read(reader, given)
    monkeypatch.setattr(reading, "made_of", lambda *_: pytest.fail("made anew"))
    assert [each.content for each in read(reader, given)] == ["hello", "hi"]


@pytest.mark.parametrize("again", [False, True])
def test_what_is_no_plain_message_is_read_as_the_serializer_reads_it(*, again: bool) -> None:
    own = Reply(content="mine")
    values = [own, ToolMessage("x", tool_call_id="1", artifact={1, 2}), {"a": {1, 2}}, b"bytes"]
    reader = ValueReader(SERDE, LIMIT)
    for _ in range(2):
        found = reader.read(Typed(*SERDE.dumps_typed([*values, Send("node", own)])), again=again)
        assert found[:-1] == values
        assert isinstance(found[-1], SendProtocol)
        assert type(found[0]) is Reply


def test_an_allow_list_counts_for_what_is_read_again() -> None:
    strict = JsonPlusSerializer(allowed_msgpack_modules=None)
    reader = ValueReader(strict, LIMIT)
    typed = Typed(*SERDE.dumps_typed([Reply(content="mine"), SystemMessage("ours")]))
    for _ in range(2):
        found = reader.read(typed, again=True)
        assert found == strict.loads_typed(typed)
        assert not isinstance(found[0], BaseMessage)


def test_what_is_not_used_is_forgotten() -> None:
    reader = ValueReader(SERDE, 20_000)
    kept = HumanMessage("kept")
    for number in range(100):
        read(reader, [kept, HumanMessage(f"message {number}")])
    remembered = [each.message.content for each in (reader._old | reader._young).values()]
    assert len(remembered) < 12
    assert "kept" in remembered
