"""The due index of a shard: which sessions are in it, which are due, and who gets the lease.

Some calls ask several shards at once. On a Cluster they must ask one by one, since a script has keys of one slot only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from torpor.history.calls.call import Call, Deployment, span_ms, to_moment, to_moment_or_none
from torpor.history.calls.session_keys import session_keys
from torpor.history.errors import TorporError, translate
from torpor.history.outcomes import ClaimOutcome
from torpor.history.overview import ShardOverview, ShardPoll
from torpor.history.scripts import script
from torpor.history.session import Lease

T = TypeVar("T")


def due(deployment: Deployment, shards: Sequence[int]) -> Call[list[int | TorporError]]:
    """Count the due sessions of each shard; an error stands in its shard's place."""
    keys = [deployment.keyspace.shard(shard).due for shard in shards]
    return Call(script("due"), keys, [], of_each(shards, lambda _, due: int(due)))


def poll_shards(
    deployment: Deployment, shards: Sequence[int], election: timedelta
) -> Call[list[ShardPoll | TorporError]]:
    """Look at each shard for a listener, which may be elected, alone for the span `election`. Errors as with `due`."""
    of_shards = map(deployment.keyspace.shard, shards)
    keys = [key for shard in of_shards for key in (shard.due, shard.elected)]

    def decode(shard: int, reply: Any) -> ShardPoll:
        now, due, elected, ahead = reply
        return ShardPoll(shard, int(now) / 1000, int(due), bool(elected), float(ahead) / 1000 if ahead else None)

    # Sent again, it would find its own election and leave the shards to the listener that was elected.
    return Call(script("poll_shards"), keys, [span_ms(election)], of_each(shards, decode), repeatable=False)


def end_election(deployment: Deployment, shards: Sequence[int]) -> Call[list[bool | TorporError]]:
    """End the election of each shard's listener; False if none was elected. Errors as with `due`."""
    keys = [deployment.keyspace.shard(shard).elected for shard in shards]
    return Call(script("end_election"), keys, [], of_each(shards, lambda _, ended: bool(ended)))


def overview(deployment: Deployment, shard: int) -> Call[ShardOverview]:
    """Describe a shard."""
    keys = deployment.keyspace.shard(shard)

    def decode(reply: Any) -> ShardOverview:
        now, live, due, in_work, postponed, quarantined, oldest, archived, restored, tombstones = reply
        return ShardOverview(
            shard=shard,
            live=int(live),
            due=int(due),
            in_work=int(in_work),
            postponed=int(postponed),
            quarantined=int(quarantined),
            oldest_due=to_moment_or_none(oldest),
            archived=int(archived),
            restored=int(restored),
            tombstones=int(tombstones),
            now=to_moment(now),
        )

    return Call(script("overview"), [keys.due, keys.quarantine, keys.tally], [], decode)


def list_sessions(
    deployment: Deployment, shard: int, cursor: bytes, count: int, *, quarantined: bool = False
) -> Call[tuple[bytes, list[str]]]:
    """Do one step of a walk over a shard: the next cursor, b"0" at the end, and session ids."""
    keys = deployment.keyspace.shard(shard)
    return Call(
        script("list"),
        [keys.quarantine if quarantined else keys.due],
        [cursor, count],
        lambda reply: (reply[0], [session.decode() for session in reply[1:]]),
    )


def nearest(deployment: Deployment, shard: int, limit: int) -> Call[list[tuple[float, str]]]:
    """List the sessions of a shard that are nearest to their due moment (ms), due or not, without leased ones."""

    def decode(reply: Any) -> list[tuple[float, str]]:
        return [(float(moment), session.decode()) for session, moment in zip(reply[::2], reply[1::2], strict=True)]

    return Call(script("nearest"), [deployment.keyspace.shard(shard).due], [limit], decode)


def claimed(deployment: Deployment, shard: int, limit: int) -> Call[list[str]]:
    """List the sessions of a shard that are leased or postponed, `limit` at most of those due and of the others."""
    keys = deployment.keyspace.shard(shard)
    return Call(script("claimed"), [keys.due], [limit], lambda reply: [session.decode() for session in reply])


def claim(
    deployment: Deployment, shards: Sequence[int], limit: int, lease: timedelta
) -> Call[list[list[Lease] | TorporError]]:
    """Lease up to `limit` due sessions of each shard, longest due first. Errors as with `due`."""
    of_shards = map(deployment.keyspace.shard, shards)
    keys = [key for shard in of_shards for key in (shard.due, shard.tally)]

    def decode(reply: Any) -> list[list[Lease] | TorporError]:
        *each, token = reply

        def leases(_: int, claimed: Any) -> list[Lease]:
            pairs = zip(claimed[::2], claimed[1::2], strict=True)
            return [Lease(session.decode(), token, token, score) for session, score in pairs]

        return of_each(shards, leases)(each)

    # Sent again, it would lease other sessions, and the first ones would wait for the end of their lease.
    return Call(script("claim"), keys, [limit, span_ms(lease)], decode, repeatable=False)


def claim_one(deployment: Deployment, session_id: str, lease: timedelta) -> Call[Lease | ClaimOutcome]:
    """Lease one session by its id, due or not, unless another worker has leased it."""
    keys = session_keys(deployment.keyspace, session_id)

    def decode(reply: Any) -> Lease | ClaimOutcome:
        if reply[0] == b"token":
            return Lease(session_id, reply[1], reply[1], reply[2])
        return ClaimOutcome(reply[0].decode())

    # Sent again, it would take its own lease for that of another worker.
    where = [keys.due, keys.quarantine, keys.tally]
    return Call(script("claim_one"), where, [keys.session, span_ms(lease)], decode, repeatable=False)


def of_each(shards: Sequence[int], decode: Callable[[int, Any], T]) -> Callable[[Any], list[T | TorporError]]:
    """Decode the reply of a script that has looked at several shards."""

    def decoded(reply: Any) -> list[T | TorporError]:
        return [
            translate(each) if isinstance(each, Exception) else decode(shard, each)
            for shard, each in zip(shards, reply, strict=True)
        ]

    return decoded
