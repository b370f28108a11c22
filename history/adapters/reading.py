"""Reading the values of checkpoints: a message that was read before is copied, which takes a third of the time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import ormsgpack
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import EXT_PYDANTIC_V2, JsonPlusSerializer

from torpor.history.records.record import Typed
from torpor.history.records.values import MESSAGE_PACK

_MESSAGES = "langchain_core.messages."
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

    LangGraph's serializer makes each message of a list anew, which takes most of the time of a read. So messages that
    are read again are remembered by their bytes, up to about `limit` bytes in two generations: what is not used while
    one generation fills is forgotten. A remembered message is never handed out, only a copy of it. Only LangChain's own
    classes with plain data are remembered, and another serializer's values are not touched.
    """

    def __init__(self, serde: SerializerProtocol, limit: int) -> None:
        self.serde = serde
        self._remembers = limit > 0 and type(serde).loads_typed is JsonPlusSerializer.loads_typed
        self._most = limit // 2
        self._young: dict[bytes, _Remembered] = {}
        self._old: dict[bytes, _Remembered] = {}
        self._size = 0

    def read(self, typed: Typed, *, again: bool) -> Any:
        """The value; raises what `serde` raises. `again`: remember its messages, because it will be read once more."""
        if again and self._remembers and typed.type == MESSAGE_PACK:
            return ormsgpack.unpackb(typed.data, ext_hook=self._extension, option=ormsgpack.OPT_NON_STR_KEYS)
        return self.serde.loads_typed(typed)

    def _extension(self, code: int, data: bytes) -> Any:
        if code == EXT_PYDANTIC_V2:
            known = self._young.get(data)
            if known:
                return known.copy()
            known = self._old.get(data)
            if known:
                self._remember(data, known)
                return known.copy()
        made = self.serde.loads_typed((MESSAGE_PACK, ormsgpack.packb(ormsgpack.Ext(code, data))))
        if code == EXT_PYDANTIC_V2 and (new := _Remembered.of(made)):
            self._remember(data, new)
        return made

    def _remember(self, data: bytes, message: _Remembered) -> None:
        self._size += len(data) + _OBJECT_BYTES
        if self._size > self._most:
            self._old, self._young, self._size = self._young, {}, len(data) + _OBJECT_BYTES
        self._young[data] = message


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
