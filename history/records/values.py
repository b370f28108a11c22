"""Values that grow: of an array of MessagePack, only the elements that were added to an earlier one are stored.

Each part of such a value is an array of its own elements.
Source: https://github.com/msgpack/msgpack/blob/master/spec.md#array-format-family
"""

from __future__ import annotations

from collections.abc import Sequence

from torpor.history.errors import MessageCorrupt
from torpor.history.records.record import Typed

# The type that LangGraph's serializer gives to MessagePack.
MESSAGE_PACK = "msgpack"


def appended(before: Typed, now: Typed) -> bytes | None:
    """The array of the elements that `now` has after those of `before`; None if it is not the same array, grown."""
    if before.type != MESSAGE_PACK or now.type != MESSAGE_PACK:
        return None
    old, old_head = _head(before.data)
    new, new_head = _head(now.data)
    kept = len(before.data) - old_head
    if not (old_head and new_head and 0 < old <= new) or now.data[:new_head] != _head_of(new):
        return None
    if not now.data.startswith(before.data[old_head:], new_head):
        return None
    return _head_of(new - old) + now.data[new_head + kept :]


def joined(parts: Sequence[bytes]) -> bytes:
    """The bytes of a value from its parts, newest first."""
    if len(parts) == 1:
        return parts[0]
    heads = [_head(part) for part in parts]
    if not all(length for _, length in heads):
        raise MessageCorrupt("a stored value goes on after one that is no array")
    elements = [part[length:] for part, (_, length) in zip(parts, heads, strict=True)]
    return _head_of(sum(count for count, _ in heads)) + b"".join(reversed(elements))


def _head(data: bytes) -> tuple[int, int]:
    """How many elements an array has, and the length of its head; zeros for any other value."""
    first = data[0] if data else 0
    if 0x90 <= first <= 0x9F:
        return first & 0x0F, 1
    length = {0xDC: 3, 0xDD: 5}.get(first, 0)
    return int.from_bytes(data[1:length], "big"), length


def _head_of(count: int) -> bytes:
    """The shortest head of an array, which is the one that LangGraph's serializer writes."""
    if count < 16:
        return bytes([0x90 | count])
    return b"\xdc" + count.to_bytes(2, "big") if count <= 0xFFFF else b"\xdd" + count.to_bytes(4, "big")
