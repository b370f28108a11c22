"""Commits: an archived session leaves Redis only if it is as it was archived."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis

from support.keyspace import dump, lasting_keys, raw
from support.sessions import commit
from support.stored_sessions import (
    DAY,
    DUE,
    HOUR,
    MINUTE,
    TALLY,
    A,
    B,
    C,
    D,
    begun,
    claim_due,
    described,
    fill,
    snapshot_of,
)
from torpor.history.protocol import (
    CommitOutcome,
    Origin,
    RestoreEnd,
    SessionStore,
    Status,
)

# Commit


def test_a_session_that_is_as_it_was_archived_is_deleted(store: SessionStore, client: redis.Redis) -> None:
    store.append("s", [A, B], owner="ann")
    lease = claim_due(store)
    snapshot = snapshot_of(store, lease)
    assert commit(store, lease, snapshot) is CommitOutcome.DELETED
    assert lasting_keys(client) == {b"torpor:config", TALLY.encode()}
    assert (store.info("s"), store.messages("s"), list(store.sessions())) == (
        None,
        [],
        [],
    )
    assert store.overview()[0].archived == 1
    assert commit(store, lease, snapshot) is CommitOutcome.GONE


@pytest.mark.parametrize("messages", [[C], []], ids=["grown", "read"])
def test_a_session_that_was_used_meanwhile_is_kept(
    store: SessionStore, client: redis.Redis, messages: list[bytes]
) -> None:
    fill(store, "s")
    lease = claim_due(store)
    snapshot = snapshot_of(store, lease)
    store.append("s", messages) if messages else store.messages("s")
    due_at = described(store).due_at
    before = dump(client)
    assert store.renew([lease], HOUR) == [None]
    assert not store.release(lease, HOUR, counted=True, error="late")
    assert not store.quarantine(lease, "late")
    assert dump(client) == before
    assert commit(store, lease, snapshot) is CommitOutcome.KEPT
    info = described(store)
    assert (info.archived_count, info.message_count) == (2, 2 + len(messages))
    assert (info.due_at, info.status) == (due_at, Status.LIVE)
    assert (info.attempts, info.error) == (0, None)


def test_a_session_that_grew_under_a_lease_that_holds_is_kept_and_goes_on_living(
    store: SessionStore, client: redis.Redis
) -> None:
    fill(store, "s")
    lease = claim_due(store)
    snapshot = snapshot_of(store, lease)
    raw(client, "RPUSH", "{torpor:0}:m:s", C)
    assert commit(store, lease, snapshot) is CommitOutcome.KEPT
    info = described(store)
    assert info.status is Status.LIVE
    assert info.due_at == info.last_active + DAY
    assert store.messages("s") == [A, B, C]


def test_what_is_safe_in_the_archive_never_counts_down(store: SessionStore) -> None:
    store.append("s", [A, B, C])
    lease = claim_due(store)
    snapshot = snapshot_of(store, lease)
    store.append("s", [D])
    commit(store, lease, snapshot)
    assert commit(store, lease, replace(snapshot, message_count=1)) is CommitOutcome.KEPT
    assert described(store).archived_count == 3


def test_a_session_that_was_cleared_meanwhile_supersedes_the_commit(store: SessionStore, client: redis.Redis) -> None:
    fill(store, "s")
    lease = claim_due(store)
    snapshot = snapshot_of(store, lease)
    store.clear("s")
    fill(store, "s")
    before = dump(client)
    assert commit(store, lease, snapshot) is CommitOutcome.SUPERSEDED
    assert dump(client) == before


def test_a_session_that_was_restored_meanwhile_supersedes_the_commit(store: SessionStore) -> None:
    fill(store, "s")
    lease = claim_due(store)
    snapshot = snapshot_of(store, lease)
    ticket = begun(store)
    store.stage(ticket, 0, [C], MINUTE)
    store.finish_restore(ticket, 1, Origin())
    assert commit(store, lease, snapshot) is CommitOutcome.SUPERSEDED
    assert store.messages("s") == [C, A, B]


def test_a_session_that_is_being_restored_is_kept(store: SessionStore, client: redis.Redis) -> None:
    fill(store, "s")
    lease = claim_due(store)
    snapshot = snapshot_of(store, lease)
    ticket = begun(store)
    raw(client, "ZADD", DUE, lease.token, "s")
    assert commit(store, lease, snapshot) is CommitOutcome.KEPT
    assert store.messages("s") == [A, B]
    assert store.finish_restore(ticket, 0, Origin()) is RestoreEnd.RESTORED


def test_an_epoch_is_above_all_that_left_the_shard_though_the_clock_runs_back(
    store: SessionStore, client: redis.Redis
) -> None:
    fill(store, "s")
    tomorrow = described(store).epoch + 24 * 3600 * 10**6
    raw(client, "HSET", "{torpor:0}:s:s", "epoch", tomorrow)
    lease = claim_due(store)
    assert commit(store, lease, snapshot_of(store, lease)) is CommitOutcome.DELETED
    fill(store, "s")
    assert described(store).epoch == tomorrow + 1
    raw(client, "HSET", "{torpor:0}:s:s", "epoch", tomorrow + 7)
    assert store.clear("s") == tomorrow + 8
