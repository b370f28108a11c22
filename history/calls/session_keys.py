"""The names of a session's keys, remembered for the sessions that were used last: they take a third of a call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from torpor.history.keys import Keyspace, encode_session_id


class SessionKeys(NamedTuple):
    """A session's encoded id, its keys, and those of its shard and its owner that its calls need."""

    session: bytes
    messages: bytes
    metadata: bytes
    due: bytes
    tally: bytes
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
    keys = keyspace.of(session)
    return SessionKeys(
        session,
        keys.messages(session),
        keys.metadata(session),
        keys.due,
        keys.tally,
        keys.recent_requests(session),
        keys.record_index(session),
        tuple(keys.owners(owner)),
    )
