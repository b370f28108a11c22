"""The due index of a shard: who is in it, who is due, and who gets the lease."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from history.calls.call import Call, Deployment, span_ms, to_moment, to_moment_or_none
from history.keys import encode_session_id
from history.scripts import script
from history.session import Attendance, Lease, SeizeOutcome, ShardOverview


def due(deployment: Deployment, shard: int) -> Call[int]:
    """Count the due sessions of a shard."""
    return Call(script("due"), [deployment.keyspace.shard(shard).due], [], int)


def attend(deployment: Deployment, shard: int, hold: timedelta) -> Call[Attendance]:
    """Look at a shard for a listener; one that is elected is the only one for `hold`."""
    keys = deployment.keyspace.shard(shard)

    def decode(reply: Any) -> Attendance:
        now, due, elected, ahead = reply
        return Attendance(shard, int(now) / 1000, int(due), bool(elected), float(ahead) / 1000 if ahead else None)

    return Call(script("attend"), [keys.due, keys.elected], [span_ms(hold)], decode)


def heard(deployment: Deployment, shard: int) -> Call[bool]:
    """End a listener's election; False: none was elected."""
    return Call(script("heard"), [deployment.keyspace.shard(shard).elected], [], bool)


def overview(deployment: Deployment, shard: int) -> Call[ShardOverview]:
    """Describe a shard."""
    keys = deployment.keyspace.shard(shard)

    def decode(reply: Any) -> ShardOverview:
        now, live, due, in_work, quarantined, oldest, archived, restored, tombstones = reply
        return ShardOverview(
            shard=shard,
            live=int(live),
            due=int(due),
            in_work=int(in_work),
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
    """One step of a walk over a shard: the next cursor, b"0" at the end, and session ids."""
    keys = deployment.keyspace.shard(shard)
    return Call(
        script("list"),
        [keys.quarantine if quarantined else keys.due],
        [cursor, count],
        lambda reply: (reply[0], [session.decode() for session in reply[1:]]),
    )


def nearest(deployment: Deployment, shard: int, limit: int) -> Call[list[tuple[float, str]]]:
    """The sessions of a shard that are nearest to their due moment (ms), due or not, unless they are leased."""

    def decode(reply: Any) -> list[tuple[float, str]]:
        return [(float(moment), session.decode()) for session, moment in zip(reply[::2], reply[1::2], strict=True)]

    return Call(script("nearest"), [deployment.keyspace.shard(shard).due], [limit], decode)


def claim(deployment: Deployment, shard: int, limit: int, lease: timedelta) -> Call[list[Lease]]:
    """Lease up to `limit` due sessions of a shard, longest due first."""

    def decode(reply: Any) -> list[Lease]:
        token, *sessions = reply
        return [Lease(session.decode(), token, token) for session in sessions]

    return Call(script("claim"), [deployment.keyspace.shard(shard).due], [limit, span_ms(lease)], decode)


def seize(deployment: Deployment, session_id: str, lease: timedelta) -> Call[Lease | SeizeOutcome]:
    """Lease one named session, due or not, unless a worker holds it."""
    session = encode_session_id(session_id)
    keys = deployment.keyspace.of(session)

    def decode(reply: Any) -> Lease | SeizeOutcome:
        if reply[0] == b"token":
            return Lease(session_id, reply[1], reply[1])
        return SeizeOutcome(reply[0].decode())

    return Call(script("seize"), [keys.due, keys.quarantine], [session, span_ms(lease)], decode)
