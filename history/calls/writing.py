"""Writing to a session."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from torpor.history.calls import refusals
from torpor.history.calls.call import Call, Deployment, expiry_args
from torpor.history.calls.session_keys import session_keys
from torpor.history.errors import (
    InvalidArgument,
    SessionExists,
)
from torpor.history.expiry import Expiry
from torpor.history.limits import MAX_DEPTH, MAX_MESSAGE_BYTES, check_elements
from torpor.history.owners import Caller, named_owner
from torpor.history.scripts import script


def append(
    deployment: Deployment,
    session_id: str,
    messages: Sequence[bytes],
    *,
    expiry: Expiry = Expiry(),  # noqa: B008 - frozen
    owner: Caller = None,
    assigns: bool = False,
    only_new: bool = False,
    only_known: bool = False,
    allow_reuse: bool = False,
    max_bytes: int = MAX_MESSAGE_BYTES,
    max_depth: int | None = MAX_DEPTH,
    request: bytes | None = None,
) -> Call[int]:
    """Append the JSON bytes of one turn, oldest first; the result is the length of the list in Redis.

    There is at least one, unless `only_new` makes an empty session.
    A retry by the client after a lost reply does not write the turn again, because it has the same `request` id (a
    random one, unless given). `expiry`, within the deployment's policies, counts only if the session has none yet. A
    session that is nobody's becomes that of the `owner`; with `assigns` also what the archive has without an owner.
    Raises OwnerMismatch, KindMismatch, SessionPurged unless `allow_reuse`, SessionExists with `only_new`,
    SessionNotFound with `only_known` if the session may be asleep, MessageTooLarge for a message of more than
    `max_bytes`, and MessageNotSerializable for one that is nested deeper than `max_depth`.
    """
    if not messages and not only_new:
        raise InvalidArgument("a turn has at least one message")
    check_elements(messages, max_bytes, max_depth)
    keys = session_keys(deployment.keyspace, session_id, named_owner(owner))
    given = deployment.resolve(session_id, owner, expiry)

    def decode(reply: Any) -> int:
        refusals.check(session_id, owner, reply)
        if reply[0] == b"exists":
            raise SessionExists(f"session {session_id!r} is in Redis already")
        return int(reply[1])

    return Call(
        script("append"),
        [keys.messages, keys.metadata, keys.due, keys.tally, keys.recent_requests, *keys.owners],
        [
            keys.session,
            request or os.urandom(8),
            *deployment.defaults,
            *expiry_args(given),
            deployment.caller(owner, assigns=assigns),
            int(only_new),
            int(allow_reuse),
            int(only_known),
            *deployment.stored(messages),
        ],
        decode,
    )
