"""The limits of an element that is written: its size, and how deep its JSON is nested."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import accumulate

from torpor.history.errors import InvalidArgument, MessageNotSerializable, MessageTooLarge

MIB = 1024 * 1024
MAX_MESSAGE_BYTES = 16 * MIB
# Redis takes no longer argument (proto-max-bulk-len).
MOST_MESSAGE_BYTES = 512 * MIB
# pydantic's reader takes 201 levels, and Python's fewer than 1,000, less what the caller's own calls take.
MAX_DEPTH = 200

# Reading the JSON of a message may take its own size and so many bytes, beside its text.
_READING_BYTES = 8 * MIB
# What a value of JSON takes in memory, about: a small list has 64 bytes, a small object three times as many.
_VALUE_BYTES = 64
# A smaller message never has so many values.
_FEW_BYTES = _READING_BYTES // (2 * _VALUE_BYTES)

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_BRACKETS = b"[{]}"
_OTHERS = bytes(set(range(256)) - set(_BRACKETS))
_STEPS = [1 if each in b"[{" else -1 for each in range(256)]


def check_max_message_bytes(limit: int) -> int:
    """The limit on a message's size, if it is a whole number from 1 to 512 MiB; raises InvalidArgument."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST_MESSAGE_BYTES:
        raise InvalidArgument(
            f"max_message_bytes must be a whole number from 1 to {MOST_MESSAGE_BYTES:,}, not {limit!r}"
        )
    return limit


def check_elements(elements: Iterable[bytes], max_bytes: int, max_depth: int | None = MAX_DEPTH) -> None:
    """Raise MessageTooLarge or MessageNotSerializable if an element is above a limit; a `max_depth` of None is none.

    The error names the element's position in its turn.
    """
    for position, element in enumerate(elements):
        if len(element) > max_bytes:
            raise MessageTooLarge(
                f"message {position} of the turn has {len(element):,} bytes; {max_bytes:,} is the limit "
                "(max_message_bytes, TORPOR_MAX_MESSAGE_BYTES)"
            )
        if max_depth is not None and is_too_deep(element, max_depth):
            raise MessageNotSerializable(
                f"message {position} of the turn is JSON nested {depth(element):,} levels deep; {max_depth} is the "
                "limit, since deeper JSON can't be read back"
            )


def nested_too_deep() -> MessageNotSerializable:
    """The error for a value that is nested deeper than Python can write as JSON."""
    return MessageNotSerializable(f"the message is nested far deeper than {MAX_DEPTH} levels, the limit")


def is_too_deep(element: bytes, limit: int = MAX_DEPTH) -> bool:
    """True if the JSON of an element is nested deeper than the limit."""
    few = element.count(b"[") + element.count(b"{") <= limit  # so nearly every message, and much faster
    return not few and depth(element) > limit


def depth(element: bytes) -> int:
    """How many brackets of an element's JSON are open at most at the same time."""
    brackets = _STRING.sub(b"", element).translate(None, _OTHERS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)


def has_too_many_values(element: bytes) -> bool:
    """True if the JSON of an element has so many values that it takes a multiple of its size to read it.

    A MiB of "[]," has 350,000 lists, which take 24 MiB.
    """
    if len(element) <= _FEW_BYTES:
        return False
    most = (len(element) + _READING_BYTES) // _VALUE_BYTES
    return _units(element) > most and _units(_STRING.sub(b"", element)) > most


def _units(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + 3 * text.count(b"{")
