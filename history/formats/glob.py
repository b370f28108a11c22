"""The glob-style patterns of Redis, as SCAN and KEYS have them."""

from __future__ import annotations

import re

_SPECIAL = re.compile(rb"[*?\[\]\\]")
_PART = re.compile(rb"\*|\?|\[(\^?)((?:\\.|[^\]\\])*)\]|\\(.)|(.)", re.DOTALL)


def escaped(text: bytes) -> bytes:
    """A pattern that matches this text only."""
    return _SPECIAL.sub(rb"\\\g<0>", text)


def matches(pattern: bytes, text: bytes) -> bool:
    """True if a pattern matches the whole text."""
    return re.fullmatch(_PART.sub(_regular, pattern), text, re.DOTALL) is not None


def _regular(part: re.Match[bytes]) -> bytes:
    if part[0] in (b"*", b"?"):
        return b"." + part[0].replace(b"?", b"")
    if part[2] is not None:
        return b"[" + part[1] + _members(part[2]) + b"]" if part[2] else b"(?!)"
    return re.escape(part[3] or part[4])


def _members(given: bytes) -> bytes:
    """The members of a set: single bytes, and ranges whose ends may stand in either order."""
    found = re.findall(rb"\\?(.)-\\?(.)|\\?(.)", given, re.DOTALL)
    ends = [(min(first, last), max(first, last)) if first else (one, one) for first, last, one in found]
    return b"".join(re.escape(low) + b"-" + re.escape(high) for low, high in ends)
