"""Records of threads as bytes and back, values that grow, and what people can read of them."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

import ormsgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel

from torpor.history.elements import is_record, to_json_line
from torpor.history.errors import KindMismatch, MessageCorrupt
from torpor.history.records.readable import readable
from torpor.history.records.record import (
    Checkpoint,
    Name,
    Place,
    Record,
    Typed,
    Value,
    Write,
    Writes,
    from_element,
    to_element,
)
from torpor.history.records.thread import StoredCheckpoint, Thread
from torpor.history.records.values import appended, joined

SERDE = JsonPlusSerializer()

texts = st.text(max_size=20)
typed = st.builds(Typed, st.sampled_from(["msgpack", "null", "bytes", "msgpack+aes"]), st.binary(max_size=40))
names = st.builds(Name, texts, texts)
places = st.builds(Place, st.integers(0, 2**32 - 2), st.integers(0, 2**16 - 1))
values = st.builds(Value, st.binary(max_size=40), st.none() | places)


@st.composite
def checkpoints(draw: st.DrawFn) -> Checkpoint:
    stored = draw(st.lists(values, max_size=4))
    own = st.integers(0, len(stored) - 1) if stored else st.nothing()
    channels = draw(st.dictionaries(texts, st.tuples(texts, places | own), max_size=4))
    at = draw(st.integers(0, 2**32 - 1))
    return Checkpoint(draw(names), draw(st.none() | texts), draw(typed), stored, channels, at)


records: st.SearchStrategy[Record] = checkpoints() | st.builds(
    Writes,
    names,
    texts,
    texts,
    st.lists(st.builds(Write, st.integers(-4, 100), texts, typed), max_size=4),
)


@given(records)
def test_a_record_comes_back_from_its_bytes(record: Record) -> None:
    element = to_element(record, record.at if isinstance(record, Checkpoint) else 7)
    assert is_record(element)
    assert from_element(element) == record


@given(records, st.data())
def test_a_damaged_record_is_corrupt_and_nothing_else(record: Record, data: st.DataObject) -> None:
    """Whatever was cut off or changed, a reader gets a record or MessageCorrupt; so does what shows it to people."""
    element = bytearray(to_element(record, 3))
    if data.draw(st.booleans()):
        element = element[: data.draw(st.integers(0, len(element) - 1))]
    else:
        element[data.draw(st.integers(0, len(element) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = from_element(bytes(element))
    except MessageCorrupt:
        return
    json.dumps(readable(found))


@given(
    st.lists(st.integers(-9, 2**40) | st.text(max_size=5), max_size=40), st.lists(st.integers(0, 2**40), max_size=40)
)
def test_an_array_that_has_grown_comes_back_from_what_was_appended(before: list[Any], more: list[Any]) -> None:
    old, new = (Typed("msgpack", ormsgpack.packb(each)) for each in (before, [*before, *more]))
    part = appended(old, new)
    assert (part is not None) == bool(before)
    if part is not None:
        assert ormsgpack.unpackb(part) == more
        assert joined([part, old.data]) == new.data


@pytest.mark.parametrize("lengths", [[1, 14, 1, 1], [65_534, 1, 1, 1], [15, 1], [1, 70_000]])
def test_the_head_of_an_array_has_the_length_that_its_elements_need(lengths: list[int]) -> None:
    whole = [Typed("msgpack", ormsgpack.packb([None] * count)) for count in accumulate(lengths)]
    parts = [whole[0].data]
    for old, new in pairwise(whole):
        part = appended(old, new)
        assert part is not None
        parts.insert(0, part)
    assert joined(parts) == whole[-1].data


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (["a", "b"], ["a", "c", "d"]),
        (["a", "b"], ["a"]),
        ({"a": 1}, {"a": 1, "b": 2}),
        ([], ["a"]),
    ],
)
def test_what_is_not_an_array_that_has_grown_is_stored_whole(before: Any, now: Any) -> None:
    assert appended(Typed("msgpack", ormsgpack.packb(before)), Typed("msgpack", ormsgpack.packb(now))) is None


def test_an_array_with_a_longer_head_than_it_needs_is_stored_whole() -> None:
    """Joined again it would have other bytes."""
    assert appended(Typed("msgpack", b"\x91\x01"), Typed("msgpack", b"\xdc\x00\x02\x01\x02")) is None


def test_the_writes_that_count_come_in_the_order_in_which_langgraph_applies_them() -> None:
    name = Name("", "c")

    def wrote(task: str, path: str, *writes: tuple[int, int]) -> Writes:
        return Writes(name, task, path, [Write(index, "ch", Typed("n", bytes([value]))) for index, value in writes])

    stored = StoredCheckpoint(
        Checkpoint(name, None, Typed("null", b"")),
        {},
        [
            wrote("b", "2", (0, 1), (1, 2)),
            wrote("a", "3", (0, 3)),
            wrote("b", "2", (0, 9), (-1, 4)),
            wrote("b", "1", (-1, 5)),
        ],
    )
    counted = [(each.task, each.write.index, each.write.value.data[0]) for each in stored.pending()]
    assert counted == [("b", -1, 5), ("b", 0, 1), ("b", 1, 2), ("a", 0, 3)]


def test_a_thread_refuses_a_chats_elements_and_references_that_lead_nowhere() -> None:
    with pytest.raises(KindMismatch):
        Thread("s", [b"{}"])
    name = Name("", "c")
    broken = Checkpoint(name, None, Typed("null", b""), [], {"messages": ("msgpack", Place(0, 0))})
    for record in (broken, replace(broken, channels={"messages": ("msgpack", Place(5, 0))})):
        with pytest.raises(MessageCorrupt, match="not there"):
            Thread("s", [to_element(record, 1)]).get(name)


class Own(BaseModel):
    """A class of an application."""

    __module__ = "a_module_that_does_not_exist"
    text: str = "secret"


def test_reading_a_record_imports_no_class_and_shows_langchains_messages() -> None:
    said = [HumanMessage("hello", id="1"), Own(), AIMessage("hi", tool_calls=[{"name": "t", "args": {}, "id": "c"}])]
    value = Typed(*SERDE.dumps_typed({"messages": said, "bytes": b"\xff", "own": Own()}))
    rest = Typed(*SERDE.dumps_typed([{"v": 2}, {"source": "loop", "step": 3, "own": Own()}]))
    record = Checkpoint(Name("ns", "c"), "b", rest, [Value(value.data)], {"state": (value.type, 0)})
    shown = readable(record)
    messages = shown.pop("messages")
    assert shown == {"kind": "checkpoint", "ns": "ns", "id": "c", "parent": "b", "step": 3, "source": "loop"}
    assert [(each["type"], each["data"]["content"]) for each in messages] == [("human", "hello"), ("ai", "hi")]
    assert messages[1]["data"]["tool_calls"][0]["name"] == "t"
    assert to_json_line(messages)


def test_what_is_encrypted_or_damaged_is_not_shown() -> None:
    for value in (Typed("msgpack+aes", b"\x91"), Typed("msgpack", b"\xc1"), Typed("pickle", b"\x80\x04.")):
        shown = readable(Checkpoint(Name("", "c"), None, value, [Value(value.data)], {"a": (value.type, 0)}))
        assert (shown["step"], shown["messages"]) == (None, [])
