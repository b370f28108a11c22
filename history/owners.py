"""For whom an operation is called: an owner, nobody in particular, or whoever works on the sessions of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from torpor.history.errors import OwnerMismatch, OwnerMissing
from torpor.history.ids import encode_owner


@dataclass(frozen=True, slots=True)
class AnyOwner:
    """The type of ANY_OWNER, which stands for the owner of whatever session it is: for workers and operators."""


ANY_OWNER = AnyOwner()
# An owner; None for an application that names none.
Caller: TypeAlias = str | AnyOwner | None


def named_owner(caller: Caller) -> str | None:
    """The owner that a caller names."""
    return caller if isinstance(caller, str) else None


def encode_caller(caller: Caller, *, assigns: bool = False) -> bytes:
    """A caller as lua/lib/owner.lua reads it; raises InvalidOwner.

    One that `assigns` gives the owner on purpose to what the archive may have of the session without one.
    """
    if isinstance(caller, AnyOwner):
        return b"*"
    if caller is None:
        return b""
    return (b"+" if assigns else b"=") + encode_owner(caller)


def check_archived(session_id: str, archived_owner: str | None, caller: Caller) -> None:
    """Refuse a caller by a session that the archive has: the rule of lua/lib/owner.lua.

    Raises OwnerMismatch and OwnerMissing.
    """
    if isinstance(caller, AnyOwner) or archived_owner == caller:
        return
    raise missing(session_id, caller) if archived_owner is None else mismatch(session_id, caller)


def mismatch(session_id: str, caller: Caller) -> OwnerMismatch:
    """The error for a session that is somebody else's. It does not say whose."""
    if caller is None:
        return OwnerMismatch(f"session {session_id!r} has an owner: name it with owner=")
    return OwnerMismatch(f"session {session_id!r} belongs to another owner than {caller!r}")


def missing(session_id: str, caller: Caller) -> OwnerMissing:
    """The error for a session that has messages and no owner."""
    return OwnerMissing(
        f"session {session_id!r} has no owner, so it is not {caller!r}'s: give it one with assign_owner=True or "
        "torpor assign-owner"
    )
