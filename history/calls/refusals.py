"""The errors for the refusals that several scripts share."""

from __future__ import annotations

from typing import Any

from torpor.history.calls.session_info import to_hold
from torpor.history.errors import KindMismatch, SessionHeld, SessionNotFound, SessionPurged
from torpor.history.owners import Caller, mismatch, missing


def check(session_id: str, owner: Caller, reply: Any) -> None:
    """Raise the error of a reply that is a refusal.

    It is OwnerMismatch, OwnerMissing, SessionNotFound, SessionHeld, SessionPurged or KindMismatch.
    """
    match reply[0]:
        case b"owner":
            raise mismatch(session_id, owner)
        case b"unowned":
            raise missing(session_id, owner)
        case b"unknown":
            raise SessionNotFound(
                f"session {session_id!r} is not in Redis, and the archive may have it for another owner: give archive="
            )
        case b"held":
            hold = to_hold(reply[1], session_id)
            raise SessionHeld(f"session {session_id!r} is under a legal hold: {hold.why if hold else ''}")
        case b"kind":
            raise KindMismatch(f"session {session_id!r} is of another kind: a chat is no LangGraph thread")
        case b"purged":
            raise SessionPurged(
                f"session {session_id!r} was purged; use another id, or allow_reuse=True to begin it anew"
            )
