"""Sessions in the states that the tests of SessionStore need.

Most of these tests use one shard, so all sessions are in one index.
"""

from __future__ import annotations

from datetime import timedelta

import redis

from support.keyspace import raw
from torpor.history.protocol import (
    Attempt,
    Lease,
    RestoreTicket,
    SessionInfo,
    SessionStore,
)

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(hours=24)
DUE, QUARANTINE, TALLY = "{torpor:0}:due", "{torpor:0}:q", "{torpor:0}:t"
ALL = [0]
A, B, C, D = (b'{"%b":1}' % letter for letter in (b"a", b"b", b"c", b"d"))


def described(store: SessionStore, session_id: str = "s") -> SessionInfo:
    info = store.info(session_id)
    assert info is not None
    return info


def fill(store: SessionStore, *session_ids: str, messages: list[bytes] | None = None) -> None:
    for session_id in session_ids:
        store.append(session_id, messages or [A, B])


def shard_of(store: SessionStore, session_id: str) -> int:
    return store.deployment.keyspace.shard_of(session_id.encode())


def make_due(client: redis.Redis, **since: int) -> None:
    """Give sessions a due moment in the past (ms), so that their order is known."""
    for session_id, moment in since.items():
        raw(client, "ZADD", DUE, "XX", moment, session_id)


def claim_due(store: SessionStore, session_id: str = "s", lease: timedelta = MINUTE) -> Lease:
    assert store.close(session_id)
    [claimed] = store.claim(ALL, 10, lease)
    assert claimed.session_id == session_id
    return claimed


def snapshot_of(store: SessionStore, lease: Lease) -> SessionInfo:
    [attempt] = store.begin_attempts([lease])
    assert isinstance(attempt, Attempt)
    return attempt.session


def begun(store: SessionStore, session_id: str = "s") -> RestoreTicket:
    ticket = store.begin_restore(session_id, MINUTE)
    assert isinstance(ticket, RestoreTicket)
    return ticket
