"""For whom an operation is called: an owner, nobody in particular, or whoever works on the sessions of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from torpor.history.keys import encode_owner


@dataclass(frozen=True, slots=True)
class AnyOwner:
    """The type of ANY_OWNER, which stands for the owner of whatever session it is: for workers and operators."""


ANY_OWNER = AnyOwner()
# An owner; None for an application that names none.
Caller: TypeAlias = str | AnyOwner | None


def named_owner(caller: Caller) -> str | None:
    """The owner that a caller names."""
    return caller if isinstance(caller, str) else None


def encode_caller(caller: Caller) -> bytes:
    """A caller as lua/lib/owner.lua reads it; raises InvalidOwner."""
    if isinstance(caller, AnyOwner):
        return b"*"
    return b"" if caller is None else b"=" + encode_owner(caller)
