"""A LangChain message as JSON bytes and back.

The format is that of `langchain_core.messages.message_to_dict`, so `messages_from_dict` reads what is stored.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson
from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict

from history.errors import MessageCorrupt, MessageNotSerializable

# orjson reads a whole number beyond 64 bits as a float: such elements take the slower way.
_LONG_NUMBER = re.compile(rb"\d{19}")


def encode(message: BaseMessage) -> bytes:
    """One line of JSON; raises MessageNotSerializable, with the place of what JSON can't hold.

    As in LangChain's own histories NaN and infinities are kept, tuples become lists and keys become strings.
    """
    if not isinstance(message, BaseMessage):
        raise MessageNotSerializable(f"expected a LangChain message, not {type(message).__name__}")
    as_dict = message_to_dict(message)
    try:
        text = json.dumps(as_dict, ensure_ascii=False, separators=(",", ":"))
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(as_dict, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        place = _unserializable(as_dict["data"]) or "a value"
        raise MessageNotSerializable(f"JSON can't hold {place} of this {message.type} message") from exc


def decode(element: bytes) -> BaseMessage:
    """The message that `encode` was given; raises MessageCorrupt for anything else."""
    try:
        return messages_from_dict([parse(element)])[0]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        # Not `from exc`: the text of pydantic's errors has the content in it.
        reason = f"{type(exc).__name__} in a stored element of {len(element):,} bytes"
        raise MessageCorrupt(f"it is not a LangChain message: {reason}") from None


def parse(element: bytes) -> Any:
    """The JSON value of a stored element, with Python's NaN and long integers; raises ValueError."""
    if not _LONG_NUMBER.search(element):
        try:
            return orjson.loads(element)
        except orjson.JSONDecodeError:
            pass  # NaN and lone surrogates, which only the standard library reads
    return json.loads(element)


def _unserializable(value: Any, path: str = "data") -> str | None:
    """Where in `value` the first thing is that JSON can't hold, and of which type."""
    children: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, (str, int, float, bool, type(None))):
                return f"the {type(key).__name__} key in {path}"
        children = [(f"{path}.{key}", child) for key, child in value.items()]
    elif isinstance(value, (list, tuple)):
        children = [(f"{path}[{index}]", child) for index, child in enumerate(value)]
    elif not isinstance(value, (str, int, float, bool, type(None))):
        return f"the {type(value).__name__} at {path}"
    for name, child in children:
        try:
            found = _unserializable(child, name)
        except RecursionError:
            return f"the nesting at {path:.100}..."
        if found:
            return found
    return None
