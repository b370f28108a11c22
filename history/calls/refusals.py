"""The errors for the refusals that several scripts share."""

from __future__ import annotations

from typing import Any

from torpor.history.calls.session_info import to_hold
from torpor.history.errors import SessionHeld, SessionPurged


def check(session_id: str, reply: Any) -> None:
    """Raise the error of a reply that is a refusal: SessionHeld or SessionPurged."""
    match reply[0]:
        case b"held":
            hold = to_hold(reply[1])
            raise SessionHeld(f"session {session_id!r} is under a legal hold: {hold.reason if hold else ''}")
        case b"purged":
            raise SessionPurged(
                f"session {session_id!r} was purged; use another id, or allow_reuse=True to begin it anew"
            )
