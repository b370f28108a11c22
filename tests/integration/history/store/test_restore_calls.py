"""Restore, step by step: begin, stage, finish, abandon."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import redis

from support.keyspace import dump, raw
from support.sessions import commit
from support.stored_sessions import ALL, DAY, HOUR, MINUTE, A, B, C, D, begun, claim_due, described, fill, snapshot_of
from torpor.history import calls
from torpor.history.protocol import (
    CommitOutcome,
    Expiry,
    Origin,
    PurgeTarget,
    Purging,
    RestoreEnd,
    RestoreRefusal,
    RestoreTicket,
    SessionExists,
    SessionNotFound,
    SessionStore,
    StagingLost,
    Status,
)


def staged_keys(client: redis.Redis) -> list[bytes]:
    keys: list[bytes] = raw(client, "KEYS", "*:r:*")
    return keys


# Restore


def test_a_restore_brings_a_sleeping_session_back(store: SessionStore, client: redis.Redis) -> None:
    created = datetime(2025, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    ticket = begun(store)
    assert described(store).status is Status.RESTORING
    assert store.stage(ticket, 0, [A, B], MINUTE)
    assert store.stage(ticket, 2, [C], MINUTE)
    assert store.messages("s") == []
    assert store.finish_restore(ticket, 3, Origin(created, Expiry(HOUR, DAY, MINUTE), "ann")) is RestoreEnd.RESTORED
    assert store.messages("s") == [A, B, C]
    info = described(store)
    assert (info.created, info.expiry, info.owner) == (created, Expiry(HOUR, DAY, MINUTE), "ann")
    assert (info.epoch, info.restored_count, info.archived_count, info.complete) == (ticket.epoch, 3, 3, True)
    assert info.status is Status.LIVE
    assert info.due_at == info.last_active + HOUR
    assert raw(client, "SMEMBERS", "{torpor:0}:o:ann") in ([b"s"], {b"s"})
    assert {raw(client, "PTTL", key) for key in raw(client, "KEYS", "*")} == {-1}
    assert store.overview()[0].restored == 1


def test_what_is_sent_twice_of_a_restore_is_done_once(store: SessionStore) -> None:
    begin = calls.begin_restore(store.deployment, "s", MINUTE, token=b"0a1b")
    ticket = store.run(begin)
    assert isinstance(ticket, RestoreTicket)
    assert store.run(begin) == ticket
    for _ in range(2):
        assert store.stage(ticket, 0, [A, B], MINUTE)
    for _ in range(2):
        assert store.stage(ticket, 2, [C], MINUTE)
    assert store.run(begin) == ticket
    assert store.finish_restore(ticket, 3, Origin()) is RestoreEnd.RESTORED
    assert store.finish_restore(ticket, 3, Origin()) is RestoreEnd.SUPERSEDED
    assert store.messages("s") == [A, B, C]
    assert store.run(begin) is RestoreRefusal.COMPLETE
    assert not store.abandon(ticket)
    assert store.messages("s") == [A, B, C]


def test_messages_written_during_a_restore_follow_the_restored_ones(store: SessionStore) -> None:
    store.append("s", [C], owner="ann")
    ticket = begun(store)
    assert ticket.epoch == described(store).epoch
    assert store.stage(ticket, 0, [A, B], MINUTE)
    store.append("s", [D], owner="ann", expiry=Expiry(idle=MINUTE))
    assert store.finish_restore(ticket, 2, Origin(None, Expiry(HOUR, HOUR), "ann")) is RestoreEnd.RESTORED
    assert store.messages("s") == [A, B, C, D]
    info = described(store)
    assert (info.restored_count, info.archived_count, info.message_count) == (2, 2, 4)
    assert info.expiry == Expiry(MINUTE, HOUR)
    assert info.epoch == ticket.epoch


def test_what_the_archive_has_of_one_owner_is_not_given_to_another(store: SessionStore, client: redis.Redis) -> None:
    store.append("s", [C], owner="ann")
    ticket = begun(store)
    store.stage(ticket, 0, [A], MINUTE)
    assert store.finish_restore(ticket, 1, Origin(owner="bob")) is RestoreEnd.OWNER
    assert store.abandon(ticket)
    assert described(store).owner == "ann"
    assert store.messages("s") == [C]
    assert raw(client, "KEYS", "*:o:bob") == []


def test_thousands_of_messages_are_restored_before_thousands(store: SessionStore) -> None:
    old, new = ([b"%b-%d" % (age, number) for number in range(2500)] for age in (b"old", b"new"))
    store.append("s", new)
    ticket = begun(store)
    assert store.stage(ticket, 0, old, MINUTE)
    assert store.finish_restore(ticket, 2500, Origin()) is RestoreEnd.RESTORED
    assert store.messages("s") == old + new


def test_a_session_that_grew_after_a_restore_tells_what_is_not_in_the_archive(store: SessionStore) -> None:
    ticket = begun(store)
    store.stage(ticket, 0, [A, B], MINUTE)
    store.finish_restore(ticket, 2, Origin())
    store.append("s", [C])
    lease = claim_due(store)
    snapshot = snapshot_of(store, lease)
    assert (snapshot.restored_count, snapshot.archived_count, snapshot.message_count) == (2, 2, 3)
    assert commit(store, lease, snapshot) is CommitOutcome.DELETED


def test_a_session_of_which_nothing_is_in_the_archive_alone_needs_no_restore(store: SessionStore) -> None:
    ticket = begun(store)
    store.stage(ticket, 0, [A], MINUTE)
    store.finish_restore(ticket, 1, Origin())
    assert store.begin_restore("s", MINUTE) is RestoreRefusal.COMPLETE
    store.clear("t")
    assert store.begin_restore("t", MINUTE) is RestoreRefusal.COMPLETE


def test_a_restore_that_finds_nothing_leaves_nothing(store: SessionStore, client: redis.Redis) -> None:
    ticket = begun(store)
    assert store.finish_restore(ticket, 0, Origin()) is RestoreEnd.NOTHING
    assert raw(client, "KEYS", "*") == [b"torpor:config"]


def test_a_live_session_with_an_empty_archive_is_whole(store: SessionStore) -> None:
    fill(store, "s")
    assert store.finish_restore(begun(store), 0, Origin()) is RestoreEnd.RESTORED
    info = described(store)
    assert (info.complete, info.restored_count, info.status) == (True, 0, Status.LIVE)
    assert store.messages("s") == [A, B]
    assert store.overview()[0].restored == 0


def test_a_newer_restore_supersedes_an_older_one(store: SessionStore, client: redis.Redis) -> None:
    fill(store, "s", messages=[C])
    slow = begun(store)
    assert store.stage(slow, 0, [A], MINUTE)
    quick = begun(store)
    assert not store.stage(slow, 1, [B], MINUTE)
    assert store.finish_restore(slow, 1, Origin()) is RestoreEnd.SUPERSEDED
    assert store.stage(quick, 0, [A, B], MINUTE)
    assert not store.abandon(slow)
    assert len(staged_keys(client)) == 1
    assert store.finish_restore(quick, 2, Origin()) is RestoreEnd.RESTORED
    assert store.messages("s") == [A, B, C]
    assert store.finish_restore(slow, 1, Origin()) is RestoreEnd.SUPERSEDED


def test_a_clear_supersedes_a_restore(store: SessionStore) -> None:
    ticket = begun(store)
    assert store.stage(ticket, 0, [A], MINUTE)
    store.clear("s")
    assert not store.stage(ticket, 1, [B], MINUTE)
    assert store.finish_restore(ticket, 1, Origin()) is RestoreEnd.SUPERSEDED
    assert not store.abandon(ticket)
    assert store.messages("s") == []


def test_a_worker_that_begins_to_archive_supersedes_a_restore(store: SessionStore) -> None:
    fill(store, "s")
    ticket = begun(store)
    assert store.stage(ticket, 0, [C], MINUTE)
    lease = claim_due(store)
    snapshot = snapshot_of(store, lease)
    assert snapshot.status is Status.IN_WORK
    assert not store.stage(ticket, 1, [D], MINUTE)
    assert store.finish_restore(ticket, 1, Origin()) is RestoreEnd.SUPERSEDED
    assert not store.abandon(ticket)
    assert commit(store, lease, snapshot) is CommitOutcome.DELETED


def test_a_worker_that_applies_a_legal_hold_lets_a_restore_go_on(store: SessionStore) -> None:
    fill(store, "s", messages=[C])
    ticket = begun(store)
    store.hold("s", "why")
    lease = claim_due(store)
    snapshot = snapshot_of(store, lease)
    assert store.stage(ticket, 0, [A, B], MINUTE)
    assert store.finish_restore(ticket, 2, Origin()) is RestoreEnd.RESTORED
    assert store.messages("s", touch=False) == [A, B, C]
    assert store.note_hold_applied(lease, snapshot)
    found = described(store)
    assert (found.hold_pending, found.status) == (False, Status.LIVE)


def test_a_restore_keeps_the_worker_away_for_its_lease(store: SessionStore) -> None:
    store.append("s", [A, B], expiry=Expiry(idle=timedelta(milliseconds=1)))
    ticket = begun(store)
    assert store.append("s", [C]) == 3
    assert store.claim(ALL, 10, MINUTE) == []
    first = described(store).due_at
    assert store.stage(ticket, 0, [C], HOUR)
    later = described(store).due_at
    assert first is not None
    assert later is not None
    assert later - first >= HOUR - MINUTE
    assert store.abandon(ticket)


def test_a_staging_list_that_is_lost_stops_the_restore_and_changes_nothing(
    store: SessionStore, client: redis.Redis
) -> None:
    fill(store, "s", messages=[C])
    ticket = begun(store)
    assert store.stage(ticket, 0, [A], MINUTE)
    [key] = staged_keys(client)
    assert 0 < raw(client, "PTTL", key) <= 2 * 60_000
    raw(client, "DEL", key)
    before = dump(client)
    with pytest.raises(StagingLost, match="start it again"):
        store.stage(ticket, 1, [B], MINUTE)
    with pytest.raises(StagingLost):
        store.finish_restore(ticket, 1, Origin())
    assert dump(client) == before
    assert store.abandon(ticket)
    assert store.messages("s") == [C]


def test_a_staging_list_that_lost_a_page_stops_the_restore(store: SessionStore, client: redis.Redis) -> None:
    ticket = begun(store)
    assert store.stage(ticket, 0, [A, B], MINUTE)
    [key] = staged_keys(client)
    raw(client, "RPOP", key)
    with pytest.raises(StagingLost):
        store.finish_restore(ticket, 2, Origin())
    assert store.abandon(ticket)


def test_an_abandoned_restore_leaves_the_session_as_it_was(store: SessionStore, client: redis.Redis) -> None:
    store.append("s", [C], expiry=Expiry(HOUR, DAY))
    before = dump(client)
    ticket = begun(store)
    assert store.stage(ticket, 0, [A], MINUTE)
    assert store.abandon(ticket)
    assert dump(client) == before
    assert not store.abandon(ticket)


def test_an_abandoned_restore_of_a_sleeping_session_leaves_nothing(store: SessionStore, client: redis.Redis) -> None:
    ticket = begun(store)
    assert store.stage(ticket, 0, [A], MINUTE)
    assert store.abandon(ticket)
    assert raw(client, "KEYS", "*") == [b"torpor:config"]


def test_what_is_remembered_as_empty_counts_as_absent_until_it_is_written_to(store: SessionStore) -> None:
    assert store.finish_restore(begun(store), 0, Origin(), remember=MINUTE) is RestoreEnd.NOTHING
    assert store.info("s") is None
    with pytest.raises(SessionNotFound):
        store.update("s", idle=HOUR)
    assert store.append("s", [A], only_new=True) == 1
    assert described(store).complete
    with pytest.raises(SessionExists):
        store.append("s", [A], only_new=True)


@pytest.mark.parametrize("begin", [begun, lambda store: store.hold("s", "a lawsuit")], ids=["a restore", "a hold"])
def test_the_expiry_of_a_sleeping_session_is_not_changed_in_passing(
    store: SessionStore, client: redis.Redis, begin: Callable[[SessionStore], object]
) -> None:
    """It has metadata in Redis, which are gone when the session is back in the archive alone."""
    begin(store)
    before = dump(client)
    with pytest.raises(SessionNotFound):
        store.update("s", idle=HOUR)
    assert dump(client) == before


@pytest.mark.parametrize("pending", ["a hold", "an erasure"])
def test_what_is_remembered_as_empty_is_told_of_when_something_is_to_be_done_about_it(
    store: SessionStore, pending: str
) -> None:
    assert store.finish_restore(begun(store), 0, Origin(), remember=MINUTE) is RestoreEnd.NOTHING
    if pending == "a hold":
        store.hold("s", "why")
        assert described(store).hold_pending
    else:
        [rebased] = store.rebase([PurgeTarget("s")])
        assert isinstance(rebased, Purging)
        assert described(store).floor == rebased.floor
