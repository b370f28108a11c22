"""Writing the values of checkpoints: LangChain's messages are packed in a third of the serializer's time."""

from __future__ import annotations

from typing import Any

import ormsgpack
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import EXT_PYDANTIC_V2, JsonPlusSerializer

from torpor.history.adapters.messages import OWN_CLASSES, defaults_of
from torpor.history.records.record import Typed
from torpor.history.records.values import MESSAGE_PACK

# The options of LangGraph's serializer, so that the bytes are the same.
_OPTION = (
    ormsgpack.OPT_NON_STR_KEYS
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_UUID
    | ormsgpack.OPT_REPLACE_SURROGATES
)
_BY_TYPE = (type(None), bytes, bytearray)  # LangGraph's serializer has types of its own for these
_PLAIN = frozenset(each for each in OWN_CLASSES if defaults_of(each) is not None)


def write_value(serde: SerializerProtocol, value: Any) -> Typed:
    """The value's type and bytes, as `serde` gives them; raises what `serde` raises.

    LangGraph's serializer has pydantic copy each message before it packs it, and does so with all messages at each
    checkpoint. Here a message of LangChain's own classes with plain data is packed as it is. A value with anything else
    in it, and any value of another serializer, is left to `serde`.
    """
    if type(serde).dumps_typed is JsonPlusSerializer.dumps_typed and not isinstance(value, _BY_TYPE):
        try:
            return Typed(MESSAGE_PACK, ormsgpack.packb(value, default=_packed, option=_OPTION))
        except ormsgpack.MsgpackEncodeError:
            pass
    return Typed(*serde.dumps_typed(value))


def _packed(value: Any) -> ormsgpack.Ext:
    """A message as the serializer's extension type; raises TypeError for any other object."""
    kind = type(value)
    if kind not in _PLAIN or value.__pydantic_extra__:
        raise TypeError
    fields = kind.__module__, kind.__name__, value.__dict__, "model_validate_json"
    return ormsgpack.Ext(EXT_PYDANTIC_V2, ormsgpack.packb(fields, option=_OPTION))
