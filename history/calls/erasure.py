"""Remove a session for good: from Redis and the archive, or from one of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from torpor.history.calls.call import Call, Deployment, span_ms
from torpor.history.calls.session_info import to_hold
from torpor.history.calls.session_keys import session_keys
from torpor.history.ids import encode_owner
from torpor.history.outcomes import PurgeOutcome, PurgeTarget, Purging
from torpor.history.scripts import script
from torpor.history.session import Lease


def purge(
    deployment: Deployment,
    target: PurgeTarget,
    purge_id: str,
    *,
    tombstone: timedelta,
    idle: timedelta | None,
) -> Call[Purging]:
    """Put a tombstone in a session's place, in Redis or not; with `idle` only if the session was idle for that long."""
    keys = session_keys(deployment.keyspace, target.session_id)
    seen_owner = b"" if target.owner is None else encode_owner(target.owner)
    owner_keys = [keys.shard.owner(seen_owner)] if seen_owner else []
    return Call(
        script("purge"),
        [
            keys.messages,
            keys.metadata,
            keys.due,
            keys.tally,
            keys.quarantine,
            keys.recent_requests,
            keys.holds,
            keys.record_index,
            *owner_keys,
        ],
        [
            keys.session,
            purge_id.encode(),
            span_ms(tombstone),
            span_ms(idle),
            seen_owner,
            *map(encode_owner, target.archived_owners),
        ],
        _decode(
            target.session_id,
            {b"purged": lambda reply: Purging(PurgeOutcome.PURGED, int(reply[1]), int(reply[2]))},
        ),
    )


def rebase(
    deployment: Deployment, target: PurgeTarget, *, idle: timedelta | None, epoch: int | None = None
) -> Call[Purging]:
    """Keep a session's messages in Redis and forbid all that the archive has of it.

    With `idle` only if the session was idle for that long, with `epoch` only if it is still in that epoch. The result
    has no floor if the session was purged before.
    """
    keys = session_keys(deployment.keyspace, target.session_id)

    return Call(
        script("rebase"),
        [
            keys.metadata,
            keys.due,
            keys.tally,
            keys.quarantine,
            keys.holds,
        ],
        [keys.session, span_ms(idle), b"" if epoch is None else epoch, *map(encode_owner, target.archived_owners)],
        _decode(
            target.session_id,
            {
                b"rebased": lambda reply: Purging(PurgeOutcome.PURGED, int(reply[1])),
                b"purged": lambda _: Purging(PurgeOutcome.PURGED),
            },
        ),
        repeatable=False,  # sent again, it would find another epoch than `epoch`
    )


def drop_live(
    deployment: Deployment, lease: Lease, *, epoch: int, idle: timedelta | None = None, seen_owner: str | None = None
) -> Call[Purging]:
    """Drop a claimed session from Redis, archived or not; the archived part can still be restored."""
    keys = session_keys(deployment.keyspace, lease.session_id, seen_owner)
    encoded = b"" if seen_owner is None else encode_owner(seen_owner)
    return Call(
        script("drop_live"),
        [
            keys.messages,
            keys.metadata,
            keys.due,
            keys.tally,
            keys.holds,
            keys.record_index,
            *keys.owners,
        ],
        [keys.session, lease.token, span_ms(idle), epoch, encoded],
        _decode(lease.session_id, {b"dropped": lambda reply: Purging(PurgeOutcome.PURGED, None, int(reply[1]))}),
        repeatable=False,  # sent again, it would say that the session has changed
    )


def _decode(session_id: str, done: dict[bytes, Callable[[Any], Purging]]) -> Callable[[Any], Purging]:
    def decode(reply: Any) -> Purging:
        if reply[0] in done:
            return done[reply[0]](reply)
        hold = to_hold(reply[1], session_id) if reply[0] == b"held" else None
        return Purging(PurgeOutcome(reply[0].decode()), hold=hold)

    return decode
