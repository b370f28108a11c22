"""Changing when a session is due."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from torpor.history.calls import refusals
from torpor.history.calls.call import Call, Deployment, Keep, to_record
from torpor.history.calls.session_keys import session_keys
from torpor.history.errors import (
    SessionNotFound,
)
from torpor.history.expiry import Expiry
from torpor.history.owners import Caller
from torpor.history.scripts import script


def update(
    deployment: Deployment,
    session_id: str,
    session_owner: str | None,
    *,
    owner: Caller = None,
    idle: timedelta | Keep | None,
    max_age: timedelta | Keep | None,
    retention: timedelta | Keep | None,
) -> Call[None]:
    """Change the expiry of a session in Redis, within the policies for it and its owner; None sets the default.

    Raises SessionNotFound and OwnerMismatch.
    """
    keys = session_keys(deployment.keyspace, session_id)
    wanted = Expiry(*(None if isinstance(value, Keep) else value for value in (idle, max_age, retention)))
    given = deployment.resolve(session_id, session_owner, wanted)

    def decode(reply: Any) -> None:
        refusals.check(session_id, owner, reply)
        if reply[0] == b"absent":
            raise SessionNotFound(f"session {session_id!r} is not in Redis; restore it first")

    return Call(
        script("update"),
        [keys.messages, keys.metadata, keys.due],
        [
            keys.session,
            b"" if isinstance(idle, Keep) else to_record(given.idle),
            b"" if isinstance(max_age, Keep) else to_record(given.max_age),
            b"" if isinstance(retention, Keep) else to_record(given.retention),
            *deployment.defaults,
            deployment.caller(owner),
        ],
        decode,
    )


def close(deployment: Deployment, session_id: str, *, owner: Caller = None) -> Call[bool]:
    """Make a session due now; False if it is not in Redis, or in quarantine. Raises OwnerMismatch."""
    keys = session_keys(deployment.keyspace, session_id)

    def decode(reply: Any) -> bool:
        refusals.check(session_id, owner, reply)
        return bool(reply[0] == b"closed")

    return Call(
        script("close"),
        [keys.messages, keys.metadata, keys.due],
        [keys.session, deployment.caller(owner)],
        decode,
    )
