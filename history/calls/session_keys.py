"""The names of a session's keys, remembered for the sessions that were used last: they take a third of a call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from torpor.history.ids import encode_session_id
from torpor.history.keys import Keyspace, ShardKeys


class SessionKeys(NamedTuple):
    """A session's encoded id, its shard, its keys, and those of its shard and its owner that its calls need."""

    session: bytes
    shard: ShardKeys
    messages: bytes
    metadata: bytes
    due: bytes
    quarantine: bytes
    tally: bytes
    holds: bytes
    adoptions: bytes
    recent_requests: bytes
    record_index: bytes
    owners: Sequence[bytes]


def session_keys(keyspace: Keyspace, session_id: str, owner: str | None = None) -> SessionKeys:
    """The keys of a session; raises InvalidSessionId and InvalidOwner."""
    try:
        return _made(keyspace, session_id, owner)
    except TypeError:  # it can't be remembered
        encode_session_id(session_id)  # raises for what is not text
        raise


@lru_cache(maxsize=1_000)
def _made(keyspace: Keyspace, session_id: str, owner: str | None) -> SessionKeys:
    session = encode_session_id(session_id)
    shard = keyspace.of(session)
    return SessionKeys(
        session,
        shard,
        messages=shard.messages(session),
        metadata=shard.metadata(session),
        due=shard.due,
        quarantine=shard.quarantine,
        tally=shard.tally,
        holds=shard.holds,
        adoptions=shard.adoptions,
        recent_requests=shard.recent_requests(session),
        record_index=shard.record_index(session),
        owners=tuple(shard.owners(owner)),
    )
