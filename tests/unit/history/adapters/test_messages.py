"""Messages as JSON bytes and back: every type, and values that JSON can and can't represent."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import langchain_core.messages as langchain
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    BaseMessageChunk,
    ChatMessage,
    ChatMessageChunk,
    FunctionMessage,
    FunctionMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
    ToolMessageChunk,
    message_to_dict,
    messages_from_dict,
)
from pydantic import Field

from torpor.history.adapters.messages import decode_message, encode_message
from torpor.history.protocol import MessageCorrupt, MessageNotSerializable

SAMPLES: list[BaseMessage] = [
    HumanMessage("Wie geht's? 😀\n\t\x00\u2028"),
    HumanMessage("", id="", name="ann"),
    HumanMessage(
        [
            "plain",
            {"type": "text", "text": "what is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ]
    ),
    HumanMessage("extra", mood="calm", additional_kwargs={"nested": {"list": [1, 1.0, True, None, {}]}}),
    AIMessage("gut", id="run-1", name="bot", response_metadata={"model_name": "gemini", "logprobs": [-0.1, -2e-7]}),
    AIMessage(
        "",
        tool_calls=[{"name": "search", "args": {"q": "ü", "n": 3}, "id": "call-1", "type": "tool_call"}],
        invalid_tool_calls=[
            {"name": "add", "args": "{1:", "id": "call-2", "error": "not JSON", "type": "invalid_tool_call"}
        ],
        usage_metadata={
            "input_tokens": 3,
            "output_tokens": 4,
            "total_tokens": 7,
            "input_token_details": {"cache_read": 2},
        },
    ),
    ToolMessage("42", tool_call_id="call-1", artifact={"rows": [[1, 2.5], []]}, status="error", name="search"),
    ToolMessage([{"type": "text", "text": "x"}], tool_call_id="call-2"),
    SystemMessage("Be brief."),
    FunctionMessage(content="result", name="add"),
    ChatMessage(content="hello", role="moderator"),
    RemoveMessage("gone-1"),
    HumanMessageChunk(content="hal"),
    AIMessageChunk(
        content="par",
        tool_call_chunks=[{"name": "search", "args": '{"q":', "id": "c", "index": 0, "type": "tool_call_chunk"}],
        chunk_position="last",
    ),
    SystemMessageChunk(content="sys"),
    ToolMessageChunk(content="too", tool_call_id="call-3"),
    FunctionMessageChunk(content="fun", name="add"),
    ChatMessageChunk(content="cha", role="moderator"),
]

every_sample = pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)


def with_extra(value: object) -> HumanMessage:
    return HumanMessage("x", additional_kwargs={"extra": value})


def assert_comes_back(message: BaseMessage) -> None:
    """Equal, and of the same types all the way down, because 1 == 1.0 == True."""
    back = decode_message(encode_message(message))
    assert type(back) is type(message)
    assert repr(back) == repr(message)
    assert back == message


def test_the_samples_are_of_every_message_type_of_langchain() -> None:
    exported = {getattr(langchain, name) for name in langchain.__all__}
    types = {each for each in exported if isinstance(each, type) and issubclass(each, BaseMessage)}
    assert {type(message) for message in SAMPLES} == types - {BaseMessage, BaseMessageChunk}


@every_sample
def test_every_message_type_comes_back_equal(message: BaseMessage) -> None:
    assert_comes_back(message)


@every_sample
def test_langchain_reads_the_bytes_itself(message: BaseMessage) -> None:
    assert messages_from_dict([json.loads(encode_message(message))]) == [message]


@every_sample
def test_a_message_is_one_line_of_utf8(message: BaseMessage) -> None:
    element = encode_message(message)
    assert b"\n" not in element
    assert json.loads(element.decode())["data"]["content"] == message.content


class Bot(AIMessage):
    """Has a name and fields of its own by default."""

    name: str | None = "bot"
    additional_kwargs: dict[str, Any] = Field(default_factory=lambda: {"mood": "calm"})
    version: int = 2


def test_what_a_class_of_its_own_has_by_default_is_stored() -> None:
    assert (
        decode_message(encode_message(Bot(content="hi"))) == messages_from_dict([message_to_dict(Bot(content="hi"))])[0]
    )
    assert decode_message(encode_message(Bot(content="hi"))).name == "bot"


def test_what_langchains_classes_have_by_default_is_not_stored() -> None:
    assert encode_message(HumanMessage("hi")) == b'{"type":"human","data":{"content":"hi"}}'


def test_text_is_stored_as_it_is_read() -> None:
    assert "Straße 😀".encode() in encode_message(HumanMessage("Straße 😀"))


@pytest.mark.parametrize(
    "value",
    [2**63 - 1, 2**63, 2**64, 2**64 - 1, -(2**63), -(2**63) - 1, 10**40, [-(10**25), 0.1], "9" * 30],
    ids=str,
)
def test_whole_numbers_of_any_length_stay_exact(value: object) -> None:
    assert_comes_back(with_extra(value))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")], ids=str)
def test_nan_and_infinities_are_kept(value: float) -> None:
    message = AIMessage("x", response_metadata={"score": [value, 1]})
    assert repr(decode_message(encode_message(message))) == repr(message)


def test_a_lone_surrogate_is_kept() -> None:
    assert_comes_back(HumanMessage("cut \ud83d off, ü", additional_kwargs={"\udc00": ["\ud800"]}))


def test_the_two_halves_of_a_pair_come_back_as_the_character_that_they_mean() -> None:
    assert decode_message(encode_message(HumanMessage("\ud83d\ude00"))) == HumanMessage("😀")


def test_tuples_become_lists_and_keys_become_strings() -> None:
    assert decode_message(encode_message(with_extra({1: (2, 3)}))) == with_extra({"1": [2, 3]})


def test_what_is_nested_a_few_hundred_levels_deep_comes_back() -> None:
    value: list[Any] = []
    for _ in range(300):
        value = [value]
    assert_comes_back(with_extra(value))


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(content=st.text(), extra=st.dictionaries(st.text(), json_like, max_size=4))
def test_whatever_json_can_hold_comes_back(content: str, extra: dict[str, Any]) -> None:
    assert_comes_back(AIMessage(content, additional_kwargs=extra))


@pytest.mark.parametrize(
    ("message", "place"),
    [
        (with_extra({1, 2}), r"the set at data.additional_kwargs\[value 1\]"),
        (
            with_extra([0, {"when": datetime.now(UTC)}]),
            r"the datetime at data.additional_kwargs\[value 1\]\[1\]\[value 1\]",
        ),
        (with_extra(b"abc"), r"the bytes at data.additional_kwargs\[value 1\]"),
        (with_extra((object(),)), r"the object at data.additional_kwargs\[value 1\]\[0\]"),
        (with_extra({"by": {(1, 2): 3}}), r"the tuple key in data.additional_kwargs\[value 1\]\[value 1\]"),
        (ToolMessage("x", tool_call_id="1", artifact={"image": b"png"}), r"the bytes at data.artifact\[value 1\]"),
        (AIMessage("x", response_metadata={"usage": 1j}), r"the complex at data.response_metadata\[value 1\]"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_its_place(message: BaseMessage, place: str) -> None:
    with pytest.raises(MessageNotSerializable, match=f"{place} of this {message.type} message"):
        encode_message(message)


def circular() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def deep() -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(20_000):
        value = {"n": value}
    return value


@pytest.mark.parametrize(
    ("value", "says"),
    [(circular(), r"the nesting at data\.additional_kwargs\[value 1\]"), (deep(), "deeper than 200 levels, the limit")],
    ids=["circular", "deep"],
)
def test_endless_nesting_is_refused_in_a_short_error(value: object, says: str) -> None:
    with pytest.raises(MessageNotSerializable, match=says) as caught:
        encode_message(with_extra(value))
    assert len(str(caught.value)) < 300


def test_a_number_too_long_for_python_to_write_is_refused() -> None:
    with pytest.raises(MessageNotSerializable, match="a value of this human message"):
        encode_message(with_extra(10**5000))


def test_the_error_for_a_message_does_not_quote_it() -> None:
    with pytest.raises(MessageNotSerializable) as caught:
        encode_message(HumanMessage("my secret", additional_kwargs={"extra": {"my secret"}}))
    assert "my secret" not in str(caught.value)


@pytest.mark.parametrize(
    "rest",
    [
        b'{"content":"a"}}',
        b'{"content":"a"}} ',
        b'{"content":"a"}]',
        b'{"content":"a"}',
        b'{"content":"a"}}}',
        b'{"content":"a"},"original":{}}',
        b'{"content":"a","content":"b"}}',
        b'{"content":"a","content_blocks":[]}}',
        b'{"content":"a","type":"system"}}',
        b'{"content":"a","x":NaN,"y":1e400,"z":123456789012345678901234567890}}',
        b'{"content":"\\ud800"}}',
        b'{"content":"a","id":7.5,"tool_call_id":3}}',
        b'{"content":[1,{"a":2}],"tool_call_id":"3"}}',
        b'{"content":"a","tool_calls":[{"name":"x","args":{"a":1},"id":"1"}],"additional_kwargs":{"a":1,"a":2}}}',
        b'{"content":"a","tool_calls":{"a":1}}}',
        b"[]}",
        b"null}",
        b"{}}",
        *(b'{"content":"a","x":%b%b}}' % (b"[" * depth, b"]" * depth) for depth in (198, 199, 200, 201, 900)),
    ],
    ids=lambda rest: rest[:40],
)
@pytest.mark.parametrize("kind", [b"human", b"ai", b"tool"], ids=bytes.decode)
def test_an_element_is_read_alike_whether_or_not_torpor_wrote_it(kind: bytes, rest: bytes) -> None:
    torpors, others = b'{"type":"%b","data":%b' % (kind, rest), b'{"type": "%b", "data": %b' % (kind, rest)
    assert outcome(torpors) == outcome(others)


def outcome(element: bytes) -> str:
    """The message, with the types of its values, or its error without the element's size."""
    try:
        return repr(decode_message(element))
    except MessageCorrupt as error:
        return str(error).partition(" of ")[0]


@pytest.mark.parametrize("value", ["text", {"type": "human", "data": {"content": "x"}}, None], ids=repr)
def test_what_is_no_message_is_refused(value: Any) -> None:
    with pytest.raises(MessageNotSerializable, match=f"not {type(value).__name__}"):
        encode_message(value)


@pytest.mark.parametrize(
    "element",
    [
        b"",
        b"null",
        b"7",
        b"[]",
        b"{}",
        b'"text"',
        b"\xff\xfe",
        b'{"type":"human"',
        b'{"type":"human"}',
        b'{"type":"human","data":[]}',
        b'{"type":"human","data":{"content":7}}',
        b'{"type":"stranger","data":{"content":""}}',
        b"1" * 5000,
        b"[" * 100_000,
        b'{"type":"human","data":{"content":"","x":%b}}' % (b"[" * 50_000 + b"]" * 50_000),
    ],
    ids=lambda element: f"{len(element)}:{element[:40]!r}",
)
def test_bytes_that_are_no_message_are_corrupt(element: bytes) -> None:
    with pytest.raises(MessageCorrupt, match=f"{len(element):,} bytes"):
        decode_message(element)


# What LangChain could not read back


class OwnType(BaseMessage):
    type: str = "own"


class Demanding(AIMessage):
    """Reads back as an AIMessage."""

    score: int


def changed(message: BaseMessage, **values: Any) -> BaseMessage:
    """A message whose values were set after it was made, which nothing checks."""
    for name, value in values.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    "message",
    [
        OwnType(content="hello"),
        changed(HumanMessage("hello"), type="own"),
        changed(HumanMessage("hello"), content=5),
        changed(HumanMessage("hello"), content=[5]),
        changed(HumanMessage("hello"), name=5),
        changed(AIMessage("hello"), tool_calls="none"),
        changed(ToolMessage("hello", tool_call_id="1"), status="fine"),
        changed(AIMessage("hello"), response_metadata=[]),
    ],
    ids=repr,
)
def test_what_langchain_could_not_read_back_is_refused(message: BaseMessage) -> None:
    with pytest.raises(MessageNotSerializable, match="read back"):
        encode_message(message)


def test_a_message_without_a_field_that_its_class_needs_is_refused() -> None:
    with pytest.raises(MessageNotSerializable, match="can't read back"):
        encode_message(ToolMessage.model_construct(content="x"))


def test_a_class_of_one_s_own_with_a_type_of_langchain_is_kept() -> None:
    assert decode_message(encode_message(Demanding(content="hello", score=3))) == AIMessage("hello", score=3)
