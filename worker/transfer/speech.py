"""A stored element as text: a message of LangChain, an item of the OpenAI Agents SDK, a record of LangGraph."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from torpor.history.adapters.messages import decode_message
from torpor.history.protocol import MessageCorrupt, has_too_many_values, is_record, parse_json, to_json_line
from torpor.history.records.readable import readable
from torpor.history.records.record import Record, Writes, from_element

# How many positions of corrupt messages are named.
NAMED = 20


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool; `arguments` is JSON as text."""

    id: str | None
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Speech:
    """A speaker and a text, the kinds of the other content, and the calls of tools.

    `role` is the speaker in one word, None if the element can't be read; `json` is what was said, as JSON text.
    """

    speaker: str
    text: str
    kinds: Sequence[str] = ()
    tool_calls: Sequence[ToolCall] = ()
    role: str | None = None
    json: bytes | None = field(default=None, repr=False)

    @property
    def calls(self) -> list[str]:
        """The calls of tools for people."""
        return [f"{each.name}({each.arguments})" for each in self.tool_calls]


def speeches(elements: Iterable[bytes], corrupt: list[int]) -> Iterator[Speech]:
    """The speeches of each element; one that can't be read is shown as such, and put in `corrupt`.

    Only the first positions are: one more than NAMED says that there are others.
    """
    for position, element in enumerate(elements):
        try:
            yield from of_element(element)
        except MessageCorrupt:
            if len(corrupt) <= NAMED:
                corrupt.append(position)
            yield Speech(f"message {position}", "", [f"can't be read: {len(element):,} bytes"])
        del element  # it may be large, and the next one comes beside what is kept


def of_element(element: bytes) -> Iterator[Speech]:
    """The speeches of an element: one of a message or an item, and those of a record; raises MessageCorrupt."""
    if is_record(element):
        yield from _of_record(from_element(element))
    else:
        yield speech(element)


def speech(element: bytes) -> Speech:
    """The speech of an element; raises MessageCorrupt if it is neither message nor item, or has too many values."""
    if has_too_many_values(element):
        raise MessageCorrupt(f"a message of {len(element):,} bytes has too many values to be shown")
    try:
        return replace(_of_message(decode_message(element)), json=element)
    except MessageCorrupt:
        value = _object(element)
        if value is None or "data" in value:
            raise
        return replace(_of_item(value), json=element)


def _of_record(record: Record) -> Iterator[Speech]:
    """What a node of the graph has written, or a step: its number, what it came from, and its new messages."""
    where = f", {record.name.ns}" if record.name.ns else ""
    known = readable(record)
    if isinstance(record, Writes):
        node = record.path.rpartition(", ")[2] or record.task
        channels = [each.channel for each in record.writes]
        yield Speech(f"{node} wrote{where}", "", channels, role="writes", json=to_json_line(known))
        return
    step = f"step {known['step']}, {known['source']}{where}"
    yield Speech(step, "", [record.name.id], role="checkpoint", json=to_json_line(known))
    for message in known["messages"]:
        yield speech(to_json_line(message))


def _object(element: bytes) -> dict[str, Any] | None:
    try:
        value = parse_json(element)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _of_message(message: BaseMessage) -> Speech:
    speaker = f"tool {message.name or ''}".strip() if isinstance(message, ToolMessage) else message.type
    blocks = message.content if isinstance(message.content, list) else []
    kinds = [str(each.get("type", "block")) for each in blocks if isinstance(each, dict) and each.get("type") != "text"]
    tool_calls = message.tool_calls if isinstance(message, AIMessage) else []
    calls = [ToolCall(each["id"], each["name"], json.dumps(each["args"])) for each in tool_calls]
    return Speech(speaker, message.text, kinds, calls, message.type)


def _of_item(item: dict[str, Any]) -> Speech:
    match item.get("type"):
        case "function_call":
            call_id = item.get("call_id")
            call = ToolCall(
                None if call_id is None else str(call_id), str(item.get("name")), str(item.get("arguments"))
            )
            return Speech("assistant", "", tool_calls=[call], role="function_call")
        case "function_call_output":
            return Speech("tool", *_content(item.get("output")), role="function_call_output")
        case kind:
            role = str(item.get("role") or kind or "item")
            return Speech(role, *_content(item.get("content") or item.get("summary")), role=role)


def _content(content: Any) -> tuple[str, Sequence[str]]:
    """The text of an item's content, and the kinds of its other parts."""
    if isinstance(content, str):
        return content, ()
    parts = [each for each in content if isinstance(each, dict)] if isinstance(content, list) else []
    texts = [each.get("text") or each.get("refusal") for each in parts]
    kinds = [str(each.get("type", "part")) for each, text in zip(parts, texts, strict=True) if not text]
    return "\n".join(str(text) for text in texts if text), kinds
