"""An element of a session's list: one JSON value as bytes, on one line. Loads LangChain when it is first needed."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Any

from pydantic_core import from_json

# Made once, because json.dumps makes one for each call.
_AS_TEXT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_AS_ASCII = json.JSONEncoder(separators=(",", ":"))

# The member of an element in which a message that was converted has its original (see formats/original.py).
ORIGINAL = "original"

# As LangChain's own histories and Torpor write it: the type comes first.
_OUTLINE = re.compile(rb'\s*\{\s*"type"\s*:\s*"[^"\\]{1,100}"\s*,\s*"data"\s*:\s*\{')


def parse_json(element: bytes) -> Any:
    """The JSON value of an element, with Python's NaN and long integers; raises ValueError, also if it is too deep."""
    try:
        return from_json(element)
    except ValueError:
        pass
    try:
        return json.loads(element)  # only the standard library reads lone surrogates, and more than 201 levels
    except RecursionError:
        raise ValueError("the JSON is nested too deep to be read") from None


def to_json_line(value: Any) -> bytes:
    """A value as JSON on one line; raises TypeError, ValueError or RecursionError."""
    text = _AS_TEXT.encode(value)
    try:
        return text.encode()
    except UnicodeEncodeError:  # lone surrogates
        return _AS_ASCII.encode(value).encode()


def is_message(element: bytes) -> bool:
    """True if the element is a LangChain message that LangChain can read."""
    from langchain_core.messages import messages_from_dict

    try:
        value = parse_json(element)
        if not isinstance(value["data"], dict):
            return False
        messages_from_dict([value])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False
    return True


def has_message_outline(element: bytes) -> bool:
    """True if an element that is nested too deep to be read begins and ends as a LangChain message would."""
    return _OUTLINE.match(element) is not None and element.rstrip().endswith(b"}}")


def is_record(element: bytes) -> bool:
    """True if the element is a record of a LangGraph thread by its first byte (see `history/records/record.py`)."""
    return element[:1] in (b"\x01", b"\x02")


def is_message_outline(value: dict[str, Any]) -> bool:
    """True if a JSON object has the members of a stored LangChain message, and no other."""
    return value.keys() - {ORIGINAL} == {"type", "data"}


class Shape(StrEnum):
    """The frameworks' kinds of elements."""

    MESSAGE = "message"  # LangChain
    ITEM = "item"  # OpenAI Agents SDK


def shape(element: bytes) -> Shape | None:
    """The kind of an element as its outline tells, whether or not its framework can read it; None for neither."""
    try:
        value = parse_json(element)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    if is_message_outline(value):
        return Shape.MESSAGE
    return Shape.ITEM if isinstance(value.get("role", value.get("type")), str) else None


def is_readable(element: bytes) -> bool:
    """True if LangChain or the Agents SDK can read the element."""
    return shape(element) is Shape.ITEM or is_message(element)


# The fields of messages and items that an error may name.
_FIELDS = {
    "additional_kwargs", "arguments", "args", "artifact", "call_id", "content", "id", "input",
    "invalid_tool_calls", "metadata", "name", "output", "response_metadata", "role", "status", "summary", "text",
    "tool_call_id", "tool_calls", "type", "usage_metadata",
}  # fmt: skip


def find_unserializable(value: Any, path: str = "data") -> str | None:
    """Describe the first thing in `value` that JSON can't represent: its type and its place.

    Keys that are not the frameworks' own may be a person's words: they are counted, not named.
    """
    children: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, (str, int, float, bool, type(None))):
                return f"the {type(key).__name__} key in {path}"
        children = [
            (f"{path}.{key}" if key in _FIELDS else f"{path}[value {number}]", child)
            for number, (key, child) in enumerate(value.items(), 1)
        ]
    elif isinstance(value, (list, tuple)):
        children = [(f"{path}[{index}]", child) for index, child in enumerate(value)]
    elif not isinstance(value, (str, int, float, bool, type(None))):
        return f"the {type(value).__name__} at {path}"
    for name, child in children:
        try:
            found = find_unserializable(child, name)
        except RecursionError:
            return f"the nesting at {path:.100}..."
        if found:
            return found
    return None
