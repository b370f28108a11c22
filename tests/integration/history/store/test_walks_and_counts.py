"""Walks over all sessions, and counts by shard."""

from __future__ import annotations

import os

from support.stored_sessions import MINUTE, A, described, fill
from support.watched_clients import WatchedRedis
from torpor.history import calls
from torpor.history.protocol import (
    Expiry,
    Lease,
    SessionStore,
)

# Walks and counts


def test_a_walk_finds_each_of_thousands_of_sessions_once(store: SessionStore) -> None:
    ids = [f"session-{number}" for number in range(2500)]
    appends = [
        calls.append(store.deployment, session_id, [A], request=os.urandom(8), expiry=Expiry(), owner=None)
        for session_id in ids
    ]
    assert store.run_many(appends) == [1] * 2500
    assert sorted(store.sessions()) == sorted(ids)
    assert list(store.sessions(quarantined=True)) == []


def test_a_walk_goes_through_all_shards(sessions: SessionStore) -> None:
    ids = [f"session-{number}" for number in range(300)]
    fill(sessions, *ids)
    assert sorted(sessions.sessions()) == sorted(ids)


def test_due_sessions_are_counted_by_shard_in_one_pipeline(watched: WatchedRedis) -> None:
    store = SessionStore(watched)
    ids = [f"session-{number}" for number in range(50)]
    fill(store, *ids, "live")
    assert store.due_counts() == {}
    for session_id in ids:
        store.close(session_id)
    watched.commands.clear()
    counts = store.due_counts()
    assert watched.commands == ["a pipeline"]
    assert sum(counts.values()) == 50
    keyspace = store.deployment.keyspace
    assert set(counts) == {keyspace.shard_of(session_id.encode()) for session_id in ids}


def test_an_overview_counts_each_shard(sessions: SessionStore) -> None:
    fill(sessions, "live", "due", "work", "bad")
    for session_id in ("work", "bad"):
        lease = sessions.claim_one(session_id, MINUTE)
        assert isinstance(lease, Lease)
        if session_id == "bad":
            sessions.quarantine(lease, "why")
    sessions.close("due")
    overviews = sessions.overview()
    assert [overview.shard for overview in overviews] == list(range(256))
    assert sum(overview.live for overview in overviews) == 3
    assert sum(overview.in_work for overview in overviews) == 1
    assert sum(overview.quarantined for overview in overviews) == 1
    [shard] = [overview for overview in overviews if overview.due]
    assert shard.shard == sessions.deployment.keyspace.shard_of(b"due")
    assert shard.oldest_due == described(sessions, "due").due_at
    assert shard.oldest_due is not None
    assert shard.oldest_due <= shard.now
