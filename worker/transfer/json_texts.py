"""The parts of a JSON text as they are written there: 1.0 stays 1.0, and a key that stands twice stays twice."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")


def members(text: str) -> dict[str, str]:
    """The texts of the members of a JSON object; raises ValueError for any other text, and RecursionError."""
    return {str(_DECODER.decode(key)): value for key, value in _parts(text, "{}")}


def items(text: str) -> list[str]:
    """The texts of the elements of a JSON array; raises ValueError for any other text, and RecursionError."""
    return [value for _, value in _parts(text, "[]")]


def _parts(text: str, brackets: str) -> Iterator[tuple[str, str]]:
    """The text of each key, '""' in an array, and of its value."""
    value = _DECODER.decode(text)
    if not isinstance(value, dict if brackets == "{}" else list):
        raise TypeError(f"expected {brackets}, not {type(value).__name__}")
    at = _skip(text, 0)
    while text[at := _skip(text, at + 1)] != brackets[1]:
        key = '""'
        if brackets == "{}":
            key, at = _value(text, at)
            at = _skip(text, _skip(text, at) + 1)  # the colon
        part, at = _value(text, at)
        yield key, part
        at = _skip(text, at)
        if text[at] == brackets[1]:
            return


def _value(text: str, at: int) -> tuple[str, int]:
    _, end = _DECODER.raw_decode(text, at)
    return text[at:end], end


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
