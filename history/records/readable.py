"""A record as people and query engines read it: JSON, with LangChain's messages in their stored form.

Decoding is strict: MessagePack can name classes of an application, and none of them is ever imported. What is no
message of LangChain is left out, and so is an encrypted value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ormsgpack

from torpor.history.elements import parse_json, to_json_line
from torpor.history.records.record import Checkpoint, Record, Typed
from torpor.history.records.values import MESSAGE_PACK

# Extension types of LangGraph's serializer: a pydantic model, [module, class, fields, method]; a delta channel's value.
_MODEL, _DELTA = 5, 7
_MESSAGES = "langchain_core.messages."


class _Message(dict[str, Any]):
    """A message in LangChain's stored form."""


def readable(record: Record) -> dict[str, Any]:
    """The record's names, and the messages in the values that it brings.

    A checkpoint has "kind", "ns", "id", "parent", "step", "source" and "messages"; writes have "kind", "ns", "id",
    "task", "channels" and "messages".
    """
    named = {"ns": record.name.ns, "id": record.name.id}
    if isinstance(record, Checkpoint):
        metadata = _metadata(record.rest)
        known = {key: metadata.get(key) for key in ("step", "source")}
        return {"kind": "checkpoint", **named, "parent": record.parent, **known, "messages": new_messages(record)}
    channels = [each.channel for each in record.writes]
    return {"kind": "writes", **named, "task": record.task, "channels": channels, "messages": new_messages(record)}


def new_messages(record: Record) -> list[dict[str, Any]]:
    """The messages in the values that a record brings, in LangChain's stored form: {"type", "data"}."""
    if isinstance(record, Checkpoint):
        own = [(kind, place) for kind, place in record.channels.values() if isinstance(place, int)]
        typed = [Typed(kind, record.values[slot].data) for kind, slot in own if slot < len(record.values)]
    else:
        typed = [each.value for each in record.writes]
    return [message for each in typed for message in _messages(_decoded(each))]


def _metadata(rest: Typed) -> dict[str, Any]:
    """The metadata of a checkpoint; empty if it can't be read."""
    match _decoded(rest):
        case [_, dict() as metadata]:
            return {key: value for key, value in metadata.items() if isinstance(value, (str, int))}
    return {}


def _decoded(typed: Typed) -> Any:
    """The value, with None for what is no plain data and no message; None if it can't be read."""
    if typed.type != MESSAGE_PACK:
        return None
    try:
        return _unpacked(typed.data)
    except (ValueError, TypeError, RecursionError):
        return None


def _unpacked(data: bytes) -> Any:
    return ormsgpack.unpackb(data, ext_hook=_extension, option=ormsgpack.OPT_NON_STR_KEYS)


def _extension(code: int, data: bytes) -> Any:
    if code == _DELTA:
        return _unpacked(data)
    if code != _MODEL:
        return None
    match _unpacked(data):
        case [str() as module, _, {"type": str() as kind, **fields}, *_] if module.startswith(_MESSAGES):
            return _stored(kind, fields)
    return None


def _stored(kind: str, fields: dict[Any, Any]) -> _Message | None:
    """A message without the fields that are empty; None if JSON has no form for it."""
    kept = {key: value for key, value in fields.items() if value or key == "content"}
    message = _Message(type=kind, data={**kept, "type": kind})
    try:
        parse_json(to_json_line(message))
    except (ValueError, TypeError, RecursionError):
        return None
    return message


def _messages(value: Any) -> Iterator[_Message]:
    """The messages of a value: itself, or those in its lists and dicts."""
    if isinstance(value, _Message):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _messages(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _messages(each)
