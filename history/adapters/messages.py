"""A LangChain message as JSON bytes and back.

The format is that of `langchain_core.messages.message_to_dict`, so LangChain's `messages_from_dict` reads it.
"""

from __future__ import annotations

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

# LangChain's own classes. Their constructors only call the validator if the data has content and no content_blocks.
OWN_CLASSES: frozenset[type[BaseMessage]] = frozenset(
    (HumanMessage, AIMessage, SystemMessage, ToolMessage, FunctionMessage, ChatMessage, AIMessageChunk)
)
_CLASSES: dict[str, type[BaseMessage]] = {each.model_fields["type"].default: each for each in OWN_CLASSES}
# The classes that need nothing but content, and the fields that take any text.
_OF_TEXT = {HumanMessage, AIMessage, SystemMessage}
_TEXTS = {"content", "id", "name"}
_REQUIRED = object()  # stands for the default of a field that has none
# What the validators of LangChain's classes raise.
_INVALID = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
# How `encode_message` begins an element, up to its data, for the classes whose validators can read JSON. A validator in
# Python is given objects, and is faster if they were made before.
_DATA = b',"data":'
_HEADS = {
    b'{"type":"%b"' % name.encode(): each
    for name, each in _CLASSES.items()
    if not each.__pydantic_decorators__.model_validators
}
# A longer element is read by the way that takes less memory.
_LARGE = 256 * 1024


def encode_message(message: BaseMessage) -> bytes:
    """The message as one line of JSON, without the fields that have their default value.

    As in LangChain's own histories, NaN and infinities are kept, tuples become lists and keys become strings.
    Raises MessageNotSerializable, which names the place of the value that JSON can't represent, and for a message that
    `decode_message` could not read.
    """
    if not isinstance(message, BaseMessage):
        raise MessageNotSerializable(f"expected a LangChain message, not {type(message).__name__}")
    is_own = _CLASSES.get(message.type) is type(message)
    try:
        data = _without_defaults(message)
        line = _text_line(message.type, data)
        if line and is_own and type(message) in _OF_TEXT and "content" in data and data.keys() <= _TEXTS:
            return line  # nothing in it can be invalid
        line = line or to_json_line({"type": message.type, "data": data})
    except RecursionError:
        raise nested_too_deep() from None
    except (TypeError, ValueError):  # the message has a pydantic model, which only pydantic can dump
        line = _dumped(message)
    if not (is_own and _is_valid(message)):
        _check_readable(message, line)
    return line


def _text_line(kind: str, data: dict[str, Any]) -> bytes | None:
    """The line of a message that has text only; None for any other, and for lone surrogates.

    Much faster. It is for text only, because pydantic writes other values that JSON refuses.
    """
    if set(map(type, data.values())) != {str}:
        return None
    try:
        return to_json({"type": kind, "data": data})
    except ValueError:
        return None


def _dumped(message: BaseMessage) -> bytes:
    as_dict = message_to_dict(message)
    try:
        return to_json_line(as_dict)
    except RecursionError:
        raise nested_too_deep() from None
    except (TypeError, ValueError):  # the text of the error may have the value
        place = find_unserializable(as_dict["data"]) or "a value"
        raise MessageNotSerializable(f"JSON can't represent {place} of this {message.type} message") from None


def _check_readable(message: BaseMessage, line: bytes) -> None:
    """Refuse what would make the whole session unreadable: a type of one's own, and values that were set unchecked."""
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
    return made_of(type(message), values) is not None


def decode_message(element: bytes) -> BaseMessage:
    """The message that `encode_message` was given; raises MessageCorrupt for anything else."""
    if message := _from_line(element):
        return message
    try:
        return _from_plain(parse_json(element))
    except _INVALID as exc:
        # Not `from exc`: the text of a pydantic error repeats the content of the message.
        reason = f"{type(exc).__name__} in a stored element of {len(element):,} bytes"
        raise MessageCorrupt(f"it is not a LangChain message: {reason}") from None


def _without_defaults(message: BaseMessage) -> dict[str, Any]:
    """As `model_dump`, without the fields that have their default value: a quarter of the time, and fewer bytes."""
    defaults = defaults_of(type(message))
    if defaults is None:  # `decode_message` may make an object of another class, which has other defaults
        return message.model_dump()
    data = {
        name: value
        for name, value in message.__dict__.items()
        if value is not (default := defaults.get(name, _REQUIRED))
        and (value != default or type(value) is not type(default))
    }
    return {**data, **extra} if (extra := message.__pydantic_extra__) else data


@cache
def defaults_of(message_class: type[BaseMessage]) -> dict[str, Any] | None:
    """The default of each optional field of a LangChain class; None for a class with its own way of dumping."""
    fields = message_class.model_fields
    own = message_class.__pydantic_decorators__
    dumped_otherwise = own.field_serializers or own.model_serializers or own.computed_fields
    some_otherwise = any(each.exclude or each.serialization_alias for each in fields.values())
    if dumped_otherwise or some_otherwise or message_class not in OWN_CLASSES:
        return None
    optional = {name: each for name, each in fields.items() if not each.is_required()}
    return {name: each.get_default(call_default_factory=True) for name, each in optional.items()}


def _from_line(element: bytes) -> BaseMessage | None:
    """The message of an element as `encode_message` writes it; None if it must be read in another way.

    The validator reads the JSON itself, so no objects are made in between. A large element is read in the other way,
    because the validator takes six times its size in memory, and that way two and a half times.
    """
    if len(element) > _LARGE:
        return None
    head, _, data = element.partition(_DATA)
    message_class = _HEADS.get(head)
    if message_class is None:
        return None
    message = message_class.__new__(message_class)
    try:
        message_class.__pydantic_validator__.validate_json(data.removesuffix(b"}"), self_instance=message)
    except _INVALID:
        return None
    return None if "content_blocks" in (message.__pydantic_extra__ or ()) else message


def _from_plain(value: Any) -> BaseMessage:
    """As LangChain's `messages_from_dict`, in half the time: it skips constructors that only call the validator."""
    message_class = _CLASSES.get(value["type"])
    if message_class and (message := made_of(message_class, value["data"])):
        return message
    return messages_from_dict([value])[0]  # raises an error that says what is wrong


def made_of(message_class: type[BaseMessage], fields: dict[str, Any]) -> BaseMessage | None:
    """The message that the constructor of one of `OWN_CLASSES` makes; None if the constructor must be asked itself."""
    if fields.get("content") is None or "content_blocks" in fields:
        return None
    message = message_class.__new__(message_class)
    try:
        message_class.__pydantic_validator__.validate_python(fields, self_instance=message)
    except _INVALID:
        return None
    return message
