"""Email addresses of people, and the lists of those that have a role."""

from __future__ import annotations

import re
from typing import Any

# An address as identity providers give it, and with nothing before the @ everybody at a domain.
_LISTED = re.compile(r"[^\s@:/,;<>]*@[^\s@:/,;<>]+")


def folded(address: str) -> str:
    """An address for comparisons: ASCII without its case. Others stay, because some letters fold to ASCII ones."""
    return address.lower() if address.isascii() else address


def is_address(text: str) -> bool:
    """True for `ann@example.com`, false for `@example.com` and for everything with a prefix, such as a tenant."""
    return bool(_LISTED.fullmatch(text)) and not text.startswith("@")


def matching(address: str) -> frozenset[str]:
    """The entries of a list that mean an address: itself, and everybody at its domain."""
    if not is_address(address):
        return frozenset()
    mine = folded(address)
    return frozenset({mine, mine[mine.index("@") :]})


def listed(value: Any) -> Any:
    """Entries separated by commas or spaces; other values as they are."""
    return frozenset(value.replace(",", " ").split()) if isinstance(value, str) else value


def checked(entries: frozenset[str]) -> frozenset[str]:
    """The entries of a list, for comparisons; raises ValueError for one that means nobody."""
    if wrong := sorted(entry for entry in entries if not _LISTED.fullmatch(entry)):
        raise ValueError(f"{wrong[0]!r} is neither an address nor a domain such as @example.com")
    return frozenset(map(folded, entries))
