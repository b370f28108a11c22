"""Restore a session into Redis: stage its messages page by page, then put them in their place at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from torpor.history.calls import refusals
from torpor.history.calls.call import Call, Deployment, expiry_args, span_ms, to_moment, to_ms
from torpor.history.calls.session_keys import session_keys
from torpor.history.errors import KindMismatch, SessionDamaged, SessionPurged, StagingLost
from torpor.history.ids import encode_owner
from torpor.history.outcomes import RestoreEnd, RestoreRefusal, RestoreTicket
from torpor.history.owners import Caller
from torpor.history.scripts import script
from torpor.history.session import Origin


def begin_restore(
    deployment: Deployment,
    session_id: str,
    lease: timedelta,
    *,
    owner: Caller = None,
    alone: bool = False,
    token: bytes | None = None,
) -> Call[RestoreTicket | RestoreRefusal]:
    """Begin a restore, which supersedes one that is running; with `alone` it begins only if none is running.

    `token` names the restore, a random one unless given. Raises OwnerMismatch, SessionPurged, and SessionDamaged if the
    session's metadata was lost.
    """
    keys = session_keys(deployment.keyspace, session_id)
    token = token or os.urandom(8).hex().encode()

    def decode(reply: Any) -> RestoreTicket | RestoreRefusal:
        if reply[0] != b"purged":
            refusals.check(session_id, owner, reply)
        match reply[0]:
            case b"complete" | b"running":
                return RestoreRefusal(reply[0].decode())
            case b"purged":
                raise SessionPurged(f"session {session_id!r} was purged: nothing of it can be restored")
            case b"damaged":
                raise SessionDamaged(f"the metadata of session {session_id!r} was lost: see torpor doctor")
        return RestoreTicket(session_id, token, int(reply[1]), int(reply[2]), to_moment(reply[3]))

    return Call(
        script("begin_restore"),
        [keys.messages, keys.metadata, keys.due, keys.tally, keys.recent_requests],
        [keys.session, token, span_ms(lease), int(alone), *deployment.defaults, deployment.caller(owner)],
        decode,
    )


def stage(
    deployment: Deployment, ticket: RestoreTicket, staged: int, messages: Sequence[bytes], lease: timedelta
) -> Call[bool]:
    """Add a page to the `staged` messages of a restore; False if a newer restore, a clear or a worker superseded it.

    Raises StagingLost.
    """
    keys = session_keys(deployment.keyspace, ticket.session_id)

    def decode(reply: Any) -> bool:
        if reply == b"lost":
            raise _staging_lost(ticket)
        return bool(reply == b"staged")

    return Call(
        script("stage"),
        [keys.messages, keys.metadata, keys.due, keys.shard.staging(keys.session, ticket.token)],
        [keys.session, ticket.token, span_ms(lease), staged, *deployment.defaults, *deployment.stored(messages)],
        decode,
    )


def finish_restore(
    deployment: Deployment, ticket: RestoreTicket, staged: int, origin: Origin, *, remember: timedelta | None = None
) -> Call[RestoreEnd]:
    """Finish a restore: put the staged messages before those that were written meanwhile.

    A session that has no message anywhere stays in Redis, complete and empty, for the time `remember`. Raises
    KindMismatch and StagingLost.
    """
    keys = session_keys(deployment.keyspace, ticket.session_id, origin.owner)
    expiry = deployment.resolve(ticket.session_id, origin.owner, origin.expiry)

    def decode(reply: Any) -> RestoreEnd:
        match reply:
            case b"lost":
                raise _staging_lost(ticket)
            case b"kind":
                raise KindMismatch(
                    f"session {ticket.session_id!r} is a chat in Redis or in the archive, and a thread there"
                )
        return RestoreEnd(reply.decode())

    return Call(
        script("finish_restore"),
        [
            keys.messages,
            keys.metadata,
            keys.due,
            keys.tally,
            keys.shard.staging(keys.session, ticket.token),
            *keys.owners,
        ],
        [
            keys.session,
            ticket.token,
            staged,
            *deployment.defaults,
            b"" if origin.created is None else to_ms(origin.created),
            *expiry_args(expiry),
            b"" if origin.owner is None else encode_owner(origin.owner),
            span_ms(remember),
        ],
        decode,
    )


def abandon(deployment: Deployment, ticket: RestoreTicket) -> Call[bool]:
    """Give up a restore and leave the session as it was before; False if the restore was superseded."""
    keys = session_keys(deployment.keyspace, ticket.session_id)
    return Call(
        script("abandon"),
        [
            keys.messages,
            keys.metadata,
            keys.due,
            keys.shard.staging(keys.session, ticket.token),
        ],
        [keys.session, ticket.token, *deployment.defaults],
        bool,
    )


def _staging_lost(ticket: RestoreTicket) -> StagingLost:
    return StagingLost(f"the staged messages of the restore of {ticket.session_id!r} are gone; start it again")
