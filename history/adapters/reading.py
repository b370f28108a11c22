"""Reading the values of checkpoints: messages are made, or copied, in a part of the serializer's time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import ormsgpack
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import EXT_PYDANTIC_V2, JsonPlusSerializer

from torpor.history.adapters.messages import OWN_CLASSES, made_of
from torpor.history.records.record import Typed
from torpor.history.records.values import MESSAGE_PACK

_MESSAGES = "langchain_core.messages."
_CLASSES = {(each.__module__, each.__name__): each for each in OWN_CLASSES}
# What a message takes beside its bytes: a Python object with its fields.
_OBJECT_BYTES = 2_000
_SCALARS = frozenset((str, int, float, bool, bytes, type(None)))


class _Remembered(NamedTuple):
    """A message, and its fields that can change: flat lists and dicts, and those that have others in them."""

    message: BaseMessage
    flat: Sequence[str]
    deep: Sequence[str]

    @classmethod
    def of(cls, made: Any) -> _Remembered | None:
        """A copy of a message; None for any other object, and for a message that has more than plain data."""
        if not isinstance(made, BaseMessage) or not type(made).__module__.startswith(_MESSAGES):
            return None
        if made.__pydantic_extra__ or made.__pydantic_private__:
            return None
        flat: list[str] = []
        deep: list[str] = []
        for name, value in made.__dict__.items():
            if type(value) in _SCALARS:
                continue
            if not _is_plain(value):
                return None
            (flat if _is_flat(value) else deep).append(name)
        return cls(cls(made, flat, deep).copy(), flat, deep)

    def copy(self) -> BaseMessage:
        """A message that shares nothing with this one which can change."""
        made = self.message.__copy__()
        fields = made.__dict__
        for name in self.flat:
            fields[name] = fields[name].copy()
        for name in self.deep:
            fields[name] = _copied(fields[name])
        return made


class ValueReader:
    """Reads values as `serde` does. Safe to share among threads.

    LangGraph's serializer makes each message of a list anew, which takes most of the time of a read. LangChain's own
    classes are made without their constructors' detours. Messages that are read again are remembered by their bytes, up
    to about `limit` bytes in two generations: what is not used while one generation fills is forgotten. A remembered
    message is never handed out, only a copy of it. Only LangChain's own classes with plain data are remembered, and
    another serializer's values are not touched.
    """

    def __init__(self, serde: SerializerProtocol, limit: int) -> None:
        self.serde = serde
        self._is_known = type(serde).loads_typed is JsonPlusSerializer.loads_typed
        self._remembers = limit > 0
        # Without this attribute of the serializer, nothing tells whether an application makes the messages itself.
        self._makes = not getattr(serde, "_custom_unpack_ext_hook", True)
        self._most = limit // 2
        self._young: dict[bytes, _Remembered] = {}
        self._old: dict[bytes, _Remembered] = {}
        self._size = 0

    def read(self, typed: Typed, *, again: bool) -> Any:
        """The value; raises what `serde` raises. `again`: remember its messages, because it will be read once more."""
        if not self._is_known or typed.type != MESSAGE_PACK:
            return self.serde.loads_typed(typed)
        extension = self._remembered if again and self._remembers else self._made
        return ormsgpack.unpackb(typed.data, ext_hook=extension, option=ormsgpack.OPT_NON_STR_KEYS)

    def _remembered(self, code: int, data: bytes) -> Any:
        if code != EXT_PYDANTIC_V2:
            return self._made(code, data)
        if known := self._young.get(data):
            return known.copy()
        if known := self._old.get(data):
            self._remember(data, known)
            return known.copy()
        made = self._made(code, data)
        if new := _Remembered.of(made):
            self._remember(data, new)
        return made

    def _made(self, code: int, data: bytes) -> Any:
        message = _message(data) if self._makes and code == EXT_PYDANTIC_V2 else None
        return message or self.serde.loads_typed((MESSAGE_PACK, ormsgpack.packb(ormsgpack.Ext(code, data))))

    def _remember(self, data: bytes, message: _Remembered) -> None:
        self._size += len(data) + _OBJECT_BYTES
        if self._size > self._most:
            self._old, self._young, self._size = self._young, {}, len(data) + _OBJECT_BYTES
        self._young[data] = message


def _message(data: bytes) -> BaseMessage | None:
    """A message of LangChain's own classes that has nothing but plain data."""
    try:
        found = ormsgpack.unpackb(data, option=ormsgpack.OPT_NON_STR_KEYS)
    except ValueError:
        return None
    match found:
        case [str() as module, str() as name, dict() as fields, *_] if message_class := _CLASSES.get((module, name)):
            return made_of(message_class, fields)
    return None


def _is_plain(value: Any) -> bool:
    """True for lists and dicts that have nothing else but scalars."""
    if type(value) in _SCALARS:
        return True
    if type(value) is dict:
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    return type(value) is list and all(map(_is_plain, value))


def _is_flat(value: dict[Any, Any] | list[Any]) -> bool:
    """True for a list or a dict that has nothing but scalars."""
    return _SCALARS.issuperset(map(type, value.values() if isinstance(value, dict) else value))


def _copied(value: Any) -> Any:
    if type(value) is dict:
        return {key: _copied(each) for key, each in value.items()}
    return [_copied(each) for each in value] if type(value) is list else value
