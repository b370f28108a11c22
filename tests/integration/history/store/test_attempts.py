"""Attempts: counted, described, released, and put in quarantine."""

from __future__ import annotations

from datetime import timedelta

import pytest
import redis

from support.keyspace import dump, raw
from support.sessions import commit
from support.stored_sessions import (
    ALL,
    DAY,
    DUE,
    HOUR,
    MINUTE,
    A,
    B,
    C,
    begun,
    claim_due,
    described,
    fill,
    make_due,
    snapshot_of,
)
from torpor.history.protocol import (
    Attempt,
    CommitOutcome,
    Expiry,
    MessageCorrupt,
    Origin,
    RedisRefused,
    RestoreEnd,
    SessionInfo,
    SessionStore,
    Status,
)

# Attempts


def test_each_attempt_is_counted(store: SessionStore) -> None:
    fill(store, "s")
    assert snapshot_of(store, claim_due(store, lease=MINUTE)).attempts == 1
    assert snapshot_of(store, claim_due(store, lease=HOUR)).attempts == 2
    assert described(store).attempts == 2


def test_a_snapshot_describes_what_the_token_protects(store: SessionStore) -> None:
    store.append("s", [A, B], owner="ann", expiry=Expiry(HOUR, DAY))
    lease = claim_due(store)
    snapshot = snapshot_of(store, lease)
    assert (snapshot.status, snapshot.message_count, snapshot.owner) == (Status.IN_WORK, 2, "ann")
    assert snapshot == described(store)


def test_a_lost_lease_has_no_snapshot_and_counts_nothing(store: SessionStore, client: redis.Redis) -> None:
    fill(store, "s")
    lease = claim_due(store)
    store.append("s", [C])
    before = dump(client)
    assert store.begin_attempts([lease, lease._replace(session_id="nobody")]) == [None, None]
    assert dump(client) == before


def test_an_index_entry_without_a_session_is_dropped(store: SessionStore, client: redis.Redis) -> None:
    raw(client, "ZADD", DUE, 1, "ghost")
    [lease] = store.claim(ALL, 10, MINUTE)
    assert store.begin_attempts([lease]) == [None]
    assert raw(client, "KEYS", "*") == [b"{torpor:0}:t"]  # it counts the claim


def test_one_damaged_session_does_not_keep_the_others_from_their_snapshots(
    store: SessionStore, client: redis.Redis
) -> None:
    fill(store, "a", "b", "c", "d")
    make_due(client, a=1, b=2, c=3, d=4)
    raw(client, "SET", "{torpor:0}:m:b", "no list")
    raw(client, "HSET", "{torpor:0}:s:c", "epoch", "no number")
    good, wrong_type, damaged, fine = store.begin_attempts(store.claim(ALL, 10, MINUTE))
    assert isinstance(good, Attempt)
    assert isinstance(wrong_type, RedisRefused)
    assert isinstance(damaged, MessageCorrupt)
    assert isinstance(fine, Attempt)
    well, ill = store.infos(["a", "c"])
    assert isinstance(well, SessionInfo)
    assert isinstance(ill, MessageCorrupt)


def test_messages_without_metadata_are_described_with_epoch_0(store: SessionStore, client: redis.Redis) -> None:
    fill(store, "s")
    raw(client, "DEL", "{torpor:0}:s:s")
    make_due(client, s=1)
    [lease] = store.claim(ALL, 10, MINUTE)
    snapshot = snapshot_of(store, lease)
    assert (snapshot.epoch, snapshot.message_count) == (0, 2)
    assert store.messages("s") == [A, B]


@pytest.mark.parametrize("counted", [True, False])
def test_a_released_session_is_due_after_the_delay(store: SessionStore, counted: object) -> None:
    fill(store, "s")
    lease = claim_due(store)
    snapshot_of(store, lease)
    assert store.release(lease, HOUR, counted=bool(counted), error="no route to the archive: ü\ud83d")
    info = described(store)
    assert info.status is Status.POSTPONED
    assert info.error == "no route to the archive: ü?"
    assert info.attempts == (1 if counted else 0)
    [overview] = store.overview()
    assert info.due_at is not None
    assert HOUR - timedelta(seconds=10) < info.due_at - overview.now <= HOUR + timedelta(milliseconds=1)
    assert not store.release(lease, HOUR, counted=True)


def test_attempts_never_fall_below_none(store: SessionStore) -> None:
    fill(store, "s")
    assert store.release(claim_due(store), timedelta(0), counted=False)
    assert described(store).attempts == 0


def test_a_quarantined_session_keeps_its_messages_and_is_never_due(store: SessionStore) -> None:
    fill(store, "s", "other")
    lease = claim_due(store)
    snapshot_of(store, lease)
    assert store.quarantine(lease, "it can't be read")
    info = described(store)
    assert (info.status, info.error, info.attempts) == (Status.QUARANTINED, "it can't be read", 1)
    assert (info.due_at, info.message_count) == (None, 2)
    assert list(store.sessions(quarantined=True)) == ["s"]
    assert list(store.sessions()) == ["other"]
    [overview] = store.overview()
    assert (overview.quarantined, overview.live) == (1, 1)
    assert not store.quarantine(lease, "again")
    assert not store.close("s")


def test_using_a_quarantined_session_leaves_it_in_quarantine(store: SessionStore) -> None:
    fill(store, "s")
    store.quarantine(claim_due(store), "why")
    assert store.append("s", [C]) == 3
    assert store.messages("s") == [A, B, C]
    store.update("s", idle=MINUTE)
    assert described(store).status is Status.QUARANTINED
    assert (list(store.sessions()), list(store.sessions(quarantined=True))) == ([], ["s"])


@pytest.mark.parametrize("ending", ["swap", "abandon"])
def test_restoring_a_quarantined_session_leaves_it_in_quarantine(store: SessionStore, ending: str) -> None:
    fill(store, "s", messages=[C])
    store.quarantine(claim_due(store), "why")
    ticket = begun(store)
    assert store.stage(ticket, 0, [A, B], MINUTE)
    assert list(store.sessions()) == []
    if ending == "swap":
        assert store.finish_restore(ticket, 2, Origin()) is RestoreEnd.RESTORED
        assert store.messages("s") == [A, B, C]
    else:
        assert store.abandon(ticket)
    assert described(store).status is Status.QUARANTINED
    assert (list(store.sessions()), list(store.sessions(quarantined=True))) == ([], ["s"])


def test_an_attempt_has_the_first_messages_to_send_but_no_large_one(store: SessionStore, client: redis.Redis) -> None:
    small, large = b'"%b"' % (b"s" * 100), b'"%b"' % (b"l" * 1_000)
    for session_id, elements in (("s", [small] * 20), ("l", [small, large, small]), ("first", [large])):
        store.append(session_id, elements)
    make_due(client, s=1, l=2, first=3)
    attempts = store.begin_attempts(store.claim(ALL, 10, MINUTE), 512)
    assert [attempt.head for attempt in attempts if isinstance(attempt, Attempt)] == [[small] * 5, [small], []]


def test_an_attempt_has_no_message_that_is_archived_or_that_it_will_not_send(store: SessionStore) -> None:
    fill(store, "s", messages=[A, B])
    lease = claim_due(store)
    snapshot = snapshot_of(store, lease)
    store.append("s", [C])
    assert commit(store, lease, snapshot) is CommitOutcome.KEPT
    store.close("s")
    [again] = store.begin_attempts([claim_due(store)], 512)
    assert isinstance(again, Attempt)
    assert again.head == [C]
    store.clear("s")
    store.append("s", [A])
    [erasing] = store.begin_attempts([claim_due(store)], 512)
    assert isinstance(erasing, Attempt)
    assert erasing.session.floor is not None
    assert erasing.head == []


def test_only_a_first_attempt_is_begun_with_others(store: SessionStore, client: redis.Redis) -> None:
    fill(store, "s")
    lease = claim_due(store)
    for _ in range(2):  # sent again, it is the same attempt
        [first] = store.begin_attempts([lease], 512, only_first=True)
        assert isinstance(first, Attempt)
        assert (first.begun, first.session.attempts) == (True, 1)
    store.release(lease, timedelta(), counted=True)
    [lease] = store.claim(ALL, 1, MINUTE)
    before = dump(client)
    [second] = store.begin_attempts([lease], 512, only_first=True)
    assert isinstance(second, Attempt)
    assert (second.begun, second.session.attempts, second.head) == (False, 1, [])
    assert dump(client) == before
    assert snapshot_of(store, lease).attempts == 2
