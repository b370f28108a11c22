"""An item of a session of the OpenAI Agents SDK as JSON bytes and back; the JSON is that of the SDK's own object."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from torpor.history.elements import find_unserializable, is_message_outline, parse_json, to_json_line
from torpor.history.errors import MessageCorrupt, MessageNotSerializable
from torpor.history.limits import nested_too_deep


def encode_item(item: Any) -> bytes:
    """The item as one line of JSON; a pydantic model is dumped as the SDK does it.

    NaN, tuples and keys are written as in `encode_message`. Raises MessageNotSerializable, which names the place of the
    value that JSON can't represent.
    """
    plain = item.model_dump(exclude_unset=True, warnings=False) if isinstance(item, BaseModel) else item
    if not isinstance(plain, dict) or _is_message(plain):
        raise MessageNotSerializable(f"expected an item of the Agents SDK, not {type(item).__name__}")
    try:
        return to_json_line(plain)
    except RecursionError:
        raise nested_too_deep() from None
    except (TypeError, ValueError):  # the text of the error may have the value
        place = find_unserializable(plain, "item") or "a value"
        raise MessageNotSerializable(f"JSON can't represent {place}") from None


def decode_item(element: bytes) -> dict[str, Any]:
    """The item that `encode_item` was given; raises MessageCorrupt for anything else, also for a LangChain message."""
    try:
        item = parse_json(element)
    except ValueError:
        item = None
    if not isinstance(item, dict) or _is_message(item):
        raise MessageCorrupt(f"a stored element of {len(element):,} bytes is not an item of the Agents SDK")
    return item


def _is_message(value: dict[str, Any]) -> bool:
    """True if it has the form of a stored LangChain message."""
    return is_message_outline(value) and isinstance(value["data"], dict)
