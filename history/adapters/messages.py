"""A LangChain message as JSON bytes and back.

The format is that of `langchain_core.messages.message_to_dict`, so LangChain's `messages_from_dict` reads it.
"""

from __future__ import annotations

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
from pydantic_core import to_json

from torpor.history.elements import find_unserializable, parse_json, to_json_line
from torpor.history.errors import MessageCorrupt, MessageNotSerializable
from torpor.history.limits import nested_too_deep

# The constructors of these classes only call the validator if the data has content and no content_blocks.
_CLASSES: dict[str, type[BaseMessage]] = {
    each.model_fields["type"].default: each
    for each in (HumanMessage, AIMessage, SystemMessage, ToolMessage, FunctionMessage, ChatMessage, AIMessageChunk)
}


def encode_message(message: BaseMessage) -> bytes:
    """The message as one line of JSON, without the fields that have their default value.

    As in LangChain's own histories, NaN and infinities are kept, tuples become lists and keys become strings.
    Raises MessageNotSerializable, which names the place of the value that JSON can't represent, and for a message that
    `decode_message` could not read.
    """
    if not isinstance(message, BaseMessage):
        raise MessageNotSerializable(f"expected a LangChain message, not {type(message).__name__}")
    line = _encode(message)
    _check_readable(message, line)
    return line


def _encode(message: BaseMessage) -> bytes:
    try:
        return _to_line({"type": message.type, "data": _without_defaults(message)})
    except RecursionError:
        raise nested_too_deep() from None
    except (TypeError, ValueError):
        pass  # the message has a pydantic model, which only pydantic can dump
    as_dict = message_to_dict(message)
    try:
        return _to_line(as_dict)
    except RecursionError:
        raise nested_too_deep() from None
    except (TypeError, ValueError):  # the text of the error may have the value
        place = find_unserializable(as_dict["data"]) or "a value"
        raise MessageNotSerializable(f"JSON can't represent {place} of this {message.type} message") from None


def _check_readable(message: BaseMessage, line: bytes) -> None:
    """Refuse what would make the whole session unreadable: a type of one's own, and values that were set unchecked."""
    if _CLASSES.get(message.type) is type(message) and _is_valid(message):
        return
    try:
        decode_message(line)
    except MessageCorrupt:
        raise MessageNotSerializable(
            f"LangChain can't read back this message of the type {message.type!r} ({type(message).__name__}): "
            "use one of LangChain's own message classes, with values that fit their fields"
        ) from None


def _is_valid(message: BaseMessage) -> bool:
    """True if the validator accepts the values as they are: much faster than to read the JSON back."""
    values = {name: message.__dict__[name] for name in message.model_fields_set if name in message.__dict__}
    try:
        type(message).__pydantic_validator__.validate_python(values)
    except (ValueError, TypeError, AttributeError):
        return False
    return True


def decode_message(element: bytes) -> BaseMessage:
    """The message that `encode_message` was given; raises MessageCorrupt for anything else."""
    try:
        return _from_plain(parse_json(element))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        # Not `from exc`: the text of a pydantic error repeats the content of the message.
        reason = f"{type(exc).__name__} in a stored element of {len(element):,} bytes"
        raise MessageCorrupt(f"it is not a LangChain message: {reason}") from None


def _to_line(value: dict[str, Any]) -> bytes:
    if all(type(part) is str for part in value["data"].values()):
        with suppress(ValueError):  # lone surrogates
            return to_json(value)  # much faster; used for text only, because it writes other values that json refuses
    return to_json_line(value)


def _without_defaults(message: BaseMessage) -> dict[str, Any]:
    """As `model_dump`, without the fields that have their default value: a quarter of the time, and fewer bytes."""
    defaults = _defaults(type(message))
    if defaults is None:  # `decode_message` may make an object of another class, which has other defaults
        return message.model_dump()
    data = {
        name: value
        for name, value in message.__dict__.items()
        if name not in defaults or value != (default := defaults[name]) or type(value) is not type(default)
    }
    return {**data, **extra} if (extra := message.__pydantic_extra__) else data


@cache
def _defaults(message_class: type[BaseMessage]) -> dict[str, Any] | None:
    """The default of each optional field of a LangChain class; None for a class with its own way of dumping."""
    fields = message_class.model_fields
    own = message_class.__pydantic_decorators__
    dumped_otherwise = own.field_serializers or own.model_serializers or own.computed_fields
    some_otherwise = any(each.exclude or each.serialization_alias for each in fields.values())
    if dumped_otherwise or some_otherwise or message_class not in _CLASSES.values():
        return None
    optional = {name: each for name, each in fields.items() if not each.is_required()}
    return {name: each.get_default(call_default_factory=True) for name, each in optional.items()}


def _from_plain(value: Any) -> BaseMessage:
    """As LangChain's `messages_from_dict`, in half the time: it skips constructors that only call the validator."""
    data = value["data"]
    message_class = _CLASSES.get(value["type"])
    if message_class is not None and data.get("content") is not None and "content_blocks" not in data:
        message = message_class.__new__(message_class)
        try:
            message_class.__pydantic_validator__.validate_python(data, self_instance=message)
        except (ValueError, TypeError, AttributeError):
            pass  # LangChain's own function below raises an error that says what is wrong
        else:
            return message
    return messages_from_dict([value])[0]
