"""Emptying a session: all of it, or its last message."""

from __future__ import annotations

import os
from typing import Any

from torpor.history.calls import refusals
from torpor.history.calls.call import Call, Deployment
from torpor.history.calls.session_keys import session_keys
from torpor.history.errors import (
    SessionIncomplete,
)
from torpor.history.owners import Caller, named_owner
from torpor.history.scripts import script
from torpor.history.session import Page


def clear(deployment: Deployment, session_id: str, *, owner: Caller = None, request: bytes | None = None) -> Call[int]:
    """Empty a session at once, in a new epoch, which is the result; the worker erases older epochs in the archive.

    If the session is not in Redis, a legal hold of the `owner` protects it too, and it becomes that of the `owner`.
    `request` as in `append`. Raises OwnerMismatch, SessionHeld and SessionPurged.
    """
    keys = session_keys(deployment.keyspace, session_id, named_owner(owner))

    def decode(reply: Any) -> int:
        refusals.check(session_id, owner, reply)
        return int(reply[1])

    return Call(
        script("clear"),
        [
            keys.messages,
            keys.metadata,
            keys.due,
            keys.tally,
            keys.quarantine,
            keys.recent_requests,
            keys.holds,
            keys.record_index,
            *keys.owners,
        ],
        [keys.session, request or os.urandom(8), deployment.caller(owner)],
        decode,
    )


def pop(
    deployment: Deployment, session_id: str, last: Page, *, owner: Caller = None, request: bytes | None = None
) -> Call[bool]:
    """Take back the last message for good, in a new epoch; the worker erases older epochs in the archive.

    `last` is the page that was read with that message. If the session has changed since, nothing is done and the
    result is False. `request` as in `append`. Raises OwnerMismatch, SessionIncomplete, SessionHeld and SessionPurged.
    """
    keys = session_keys(deployment.keyspace, session_id)

    def decode(reply: Any) -> bool:
        refusals.check(session_id, owner, reply)
        if reply[0] == b"incomplete":
            raise SessionIncomplete(
                f"a part of session {session_id!r} may be in the archive alone: with archive= it is woken first"
            )
        return bool(reply[0] == b"popped")

    return Call(
        script("pop"),
        [
            keys.messages,
            keys.metadata,
            keys.due,
            keys.tally,
            keys.quarantine,
            keys.recent_requests,
            keys.holds,
        ],
        [keys.session, request or os.urandom(8), last.epoch, last.total, deployment.caller(owner)],
        decode,
    )
