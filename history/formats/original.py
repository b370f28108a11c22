"""The original of a message that was converted on its way in: it stands beside the message, in the same element.

The element is {"type", "data", "original": {"format", "text"}}. LangChain reads the first two. `text` is the other
library's element as it was, byte for byte, so that the way back to that library is exact.
"""

from __future__ import annotations

from typing import Any

from torpor.history.elements import ORIGINAL, parse_json, to_json_line


def with_original(message: dict[str, Any], elements: str, original: bytes) -> bytes:
    """The element of a converted message; raises ValueError if the original is not UTF-8."""
    return to_json_line({**message, ORIGINAL: {"format": elements, "text": original.decode()}})


def without_original(element: bytes) -> bytes:
    """The message alone; the same bytes if it has no original."""
    value = parse_json(element)
    return to_json_line({key: value[key] for key in value if key != ORIGINAL}) if ORIGINAL in value else element


def original_of(element: bytes, elements: str) -> bytes | None:
    """The element of which the message was made, if that was written in the way named `elements`."""
    match parse_json(element):
        case {"original": {"format": form, "text": str(text)}} if form == elements:
            return text.encode()
    return None
