"""Reading a session, and describing it."""

from __future__ import annotations

from typing import Any

from torpor.history.calls import refusals
from torpor.history.calls.call import PAGE_MESSAGES, Call, Deployment
from torpor.history.calls.session_info import to_session_info
from torpor.history.calls.session_keys import session_keys
from torpor.history.compression import from_stored
from torpor.history.owners import Caller
from torpor.history.scripts import script
from torpor.history.session import Page, SessionInfo


def read(
    deployment: Deployment,
    session_id: str,
    start: int,
    stop: int | None,
    page_bytes: int,
    *,
    touch: bool,
    owner: Caller = None,
    stored: bool = False,
) -> Call[Page | None]:
    """Read messages from `start` on until `stop` or until about `page_bytes` are read; None if it is not in Redis.

    A negative `start` counts from the end. With `touch` it counts as activity. `stored` leaves the messages as Redis
    has them. Raises OwnerMismatch.
    """
    keys = session_keys(deployment.keyspace, session_id)

    def decode(reply: Any) -> Page | None:
        if not reply:
            return None
        refusals.check(session_id, owner, reply)
        epoch, restored_count, total, complete, first, *messages = reply
        if not stored:
            messages = from_stored(messages)
        return Page(int(epoch), int(restored_count), int(total), int(first), messages, complete=complete == b"1")

    return Call(
        script("read"),
        [keys.messages, keys.metadata, keys.due],
        [
            keys.session,
            int(touch),
            *deployment.defaults,
            start,
            b"" if stop is None else stop,
            page_bytes,
            PAGE_MESSAGES,
            deployment.caller(owner),
        ],
        decode,
    )


def info(deployment: Deployment, session_id: str, *, owner: Caller = None) -> Call[SessionInfo | None]:
    """Describe a session without counting as activity; None if it is not in Redis. Raises OwnerMismatch."""
    keys = session_keys(deployment.keyspace, session_id)

    def decode(reply: Any) -> SessionInfo | None:
        if reply:
            refusals.check(session_id, owner, reply)
        return to_session_info(deployment, session_id, reply)

    return Call(
        script("info"),
        [keys.messages, keys.metadata, keys.due, keys.holds],
        [keys.session, deployment.caller(owner)],
        decode,
    )
