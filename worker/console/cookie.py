"""Cookie: how much of a text the browser's signed session may have.

Browsers drop a cookie of over 4,096 bytes without a word, and keep the older one. The session is ASCII JSON in base64
with a signature, so it may have 3,000 bytes of JSON. Each part that has somebody's words keeps to a share of them.
"""

from __future__ import annotations

import json
from itertools import accumulate


def size(text: str) -> int:
    """The bytes that a text takes in the session's JSON: six for most letters that are not ASCII."""
    return len(json.dumps(text)) - 2


def fitting(text: str, most: int) -> str:
    """The beginning of a text that takes at most so many bytes."""
    sizes = accumulate(map(size, text[:most]))
    return text[: sum(1 for each in sizes if each <= most)]
