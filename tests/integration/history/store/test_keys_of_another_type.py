"""Keys that another program has overwritten with a value of another type."""

from __future__ import annotations

import pytest
import redis

from support.keyspace import raw
from support.sessions import commit
from support.stored_sessions import DUE, MINUTE, TALLY, A, B, C, begun, claim_due, snapshot_of
from torpor.history.protocol import (
    CommitOutcome,
    Origin,
    RedisRefused,
    RestoreEnd,
    SessionStore,
)

# Keys that somebody has written a value of another type to

OWNED = "{torpor:0}:o:ann"


@pytest.mark.parametrize("key", [DUE, TALLY, OWNED, "{torpor:0}:m:s"])
def test_a_turn_is_written_as_a_whole_or_not_at_all_whatever_the_types_of_its_keys(
    store: SessionStore, client: redis.Redis, key: str
) -> None:
    raw(client, "SET", key, "not Torpor's")
    with pytest.raises(RedisRefused, match="WRONGTYPE"):
        store.append("s", [A, B], owner="ann")
    assert not raw(client, "EXISTS", "{torpor:0}:s:s")
    assert raw(client, "EXISTS", "{torpor:0}:m:s") == (key == "{torpor:0}:m:s")
    raw(client, "DEL", key)
    assert store.append("s", [A, B], owner="ann") == 2


@pytest.mark.parametrize("key", [TALLY, OWNED])
def test_a_restore_that_meets_a_key_of_another_type_moves_no_message(
    store: SessionStore, client: redis.Redis, key: str
) -> None:
    store.append("s", [C], owner="ann")
    ticket = begun(store)
    assert store.stage(ticket, 0, [A, B], MINUTE)
    raw(client, "DEL", key)
    raw(client, "SET", key, "not Torpor's")
    for _ in range(2):
        with pytest.raises(RedisRefused, match="WRONGTYPE"):
            store.finish_restore(ticket, 2, Origin(owner="ann"))
    assert store.messages("s", touch=False) == [C]
    raw(client, "DEL", key)
    assert store.finish_restore(ticket, 2, Origin(owner="ann")) is RestoreEnd.RESTORED
    assert store.messages("s") == [A, B, C]


@pytest.mark.parametrize("key", [TALLY, OWNED])
def test_a_commit_that_meets_a_key_of_another_type_deletes_nothing(
    store: SessionStore, client: redis.Redis, key: str
) -> None:
    store.append("s", [A, B], owner="ann")
    lease = claim_due(store)
    snapshot = snapshot_of(store, lease)
    raw(client, "DEL", key)
    raw(client, "SET", key, "not Torpor's")
    with pytest.raises(RedisRefused, match="WRONGTYPE"):
        commit(store, lease, snapshot)
    assert store.messages("s", touch=False) == [A, B]
    raw(client, "DEL", key)
    assert commit(store, lease, snapshot) is CommitOutcome.DELETED
