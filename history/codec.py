"""A LangChain message as JSON bytes and back.

The format is that of `langchain_core.messages.message_to_dict`, so `messages_from_dict` reads what is stored.
"""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    message_to_dict,
    messages_from_dict,
)
from pydantic_core import from_json, to_json

from torpor.history.errors import MessageCorrupt, MessageNotSerializable

# Made once: json.dumps makes one for each call.
_AS_TEXT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_AS_ASCII = json.JSONEncoder(separators=(",", ":"))

# Whose constructors do nothing but pass on to the validator, where there is content and no content_blocks.
_CLASSES: dict[str, type[BaseMessage]] = {
    each.model_fields["type"].default: each
    for each in (HumanMessage, AIMessage, SystemMessage, ToolMessage, FunctionMessage, ChatMessage, AIMessageChunk)
}


def encode(message: BaseMessage) -> bytes:
    """One line of JSON; raises MessageNotSerializable, with the place of what JSON can't hold.

    What a message has by default is left out. As in LangChain's own histories NaN and infinities are kept, tuples
    become lists and keys become strings.
    """
    if not isinstance(message, BaseMessage):
        raise MessageNotSerializable(f"expected a LangChain message, not {type(message).__name__}")
    try:
        return _written({"type": message.type, "data": _without_defaults(message)})
    except (TypeError, ValueError, RecursionError):
        pass  # a model within a message, which only pydantic can write
    as_dict = message_to_dict(message)
    try:
        return _written(as_dict)
    except (TypeError, ValueError, RecursionError) as exc:
        place = unserializable(as_dict["data"]) or "a value"
        raise MessageNotSerializable(f"JSON can't hold {place} of this {message.type} message") from exc


def decode(element: bytes) -> BaseMessage:
    """The message that `encode` was given; raises MessageCorrupt for anything else."""
    try:
        return _read(parse(element))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        # Not `from exc`: the text of pydantic's errors has the content in it.
        reason = f"{type(exc).__name__} in a stored element of {len(element):,} bytes"
        raise MessageCorrupt(f"it is not a LangChain message: {reason}") from None


def parse(element: bytes) -> Any:
    """The JSON value of a stored element, with Python's NaN and long integers; raises ValueError."""
    try:
        return from_json(element)
    except ValueError:
        return json.loads(element)  # lone surrogates, which only the standard library reads


def is_message(element: bytes) -> bool:
    """Is this the JSON of a LangChain message, of whatever type?"""
    try:
        value = parse(element)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and isinstance(value.get("type"), str) and isinstance(value.get("data"), dict)


def _written(value: dict[str, Any]) -> bytes:
    if all(type(part) is str for part in value["data"].values()):
        with suppress(ValueError):  # lone surrogates
            return to_json(value)  # much faster, but it writes what json refuses, where there is more than text
    return written(value)


def written(value: Any) -> bytes:
    """A value as JSON on one line; raises TypeError, ValueError or RecursionError."""
    text = _AS_TEXT.encode(value)
    try:
        return text.encode()
    except UnicodeEncodeError:  # lone surrogates
        return _AS_ASCII.encode(value).encode()


def _without_defaults(message: BaseMessage) -> dict[str, Any]:
    """What `model_dump` gives, but for what is as the class has it: a quarter of the time, and fewer bytes."""
    defaults = _defaults(type(message))
    if defaults is None:  # its defaults are not those of the class that `decode` makes of it
        return message.model_dump()
    data = {
        name: value
        for name, value in message.__dict__.items()
        if name not in defaults or value != (default := defaults[name]) or type(value) is not type(default)
    }
    return {**data, **extra} if (extra := message.__pydantic_extra__) else data


@cache
def _defaults(message_class: type[BaseMessage]) -> dict[str, Any] | None:
    """Field -> default, of LangChain's own classes that are dumped as they are; None for every other."""
    fields = message_class.model_fields
    own = message_class.__pydantic_decorators__
    dumped_otherwise = own.field_serializers or own.model_serializers or own.computed_fields
    some_otherwise = any(each.exclude or each.serialization_alias for each in fields.values())
    if dumped_otherwise or some_otherwise or message_class not in _CLASSES.values():
        return None
    optional = {name: each for name, each in fields.items() if not each.is_required()}
    return {name: each.get_default(call_default_factory=True) for name, each in optional.items()}


def _read(value: Any) -> BaseMessage:
    """As LangChain's `messages_from_dict`, but without the constructors where those do nothing: half the time."""
    data = value["data"]
    message_class = _CLASSES.get(value["type"])
    if message_class is not None and data.get("content") is not None and "content_blocks" not in data:
        message = message_class.__new__(message_class)
        try:
            message_class.__pydantic_validator__.validate_python(data, self_instance=message)
        except (ValueError, TypeError, AttributeError):
            pass  # LangChain says what is wrong
        else:
            return message
    return messages_from_dict([value])[0]


def unserializable(value: Any, path: str = "data") -> str | None:
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
            found = unserializable(child, name)
        except RecursionError:
            return f"the nesting at {path:.100}..."
        if found:
            return found
    return None
