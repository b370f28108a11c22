"""Clearing a session, and changing what describes it."""

from __future__ import annotations

from datetime import timedelta

import pytest
import redis

from support.keyspace import dump
from support.sessions import commit
from support.stored_sessions import ALL, DAY, HOUR, MINUTE, A, claim_due, described, fill, snapshot_of
from support.waiting import wait_until
from torpor.history.protocol import (
    CommitOutcome,
    EraseOutcome,
    Expiry,
    SessionNotFound,
    SessionStore,
    Status,
)

# Clear


def test_a_clear_begins_a_new_epoch_that_waits_for_the_worker(store: SessionStore, client: redis.Redis) -> None:
    store.append("s", [A], owner="ann", expiry=Expiry(HOUR, DAY, MINUTE))
    epoch = described(store).epoch
    floor = store.clear("s")
    assert floor > epoch
    info = described(store)
    assert (info.epoch, info.floor, info.message_count, info.status) == (floor, floor, 0, Status.DUE)
    assert (info.owner, info.expiry) == ("ann", Expiry(HOUR, DAY, MINUTE))
    assert store.clear("s") > floor


def test_a_cleared_session_stays_due_while_it_is_used(store: SessionStore) -> None:
    store.clear("s")
    store.append("s", [A])
    assert store.messages("s") == [A]
    store.update("s", idle=HOUR)
    assert described(store).status is Status.DUE


def test_a_cleared_session_is_not_deleted_before_its_archive_is_erased(store: SessionStore) -> None:
    store.clear("s")
    store.append("s", [A])
    [lease] = store.claim(ALL, 10, MINUTE)
    assert commit(store, lease, snapshot_of(store, lease)) is CommitOutcome.KEPT
    assert store.messages("s") == [A]


def test_a_cleaned_session_goes_on_living(store: SessionStore) -> None:
    floor = store.clear("s")
    store.append("s", [A], expiry=Expiry(idle=HOUR))
    [lease] = store.claim(ALL, 10, MINUTE)
    snapshot_of(store, lease)
    assert store.note_erased(lease, floor) is EraseOutcome.DONE
    info = described(store)
    assert (info.floor, info.attempts, info.status) == (None, 0, Status.LIVE)
    assert info.due_at == info.last_active + HOUR
    assert store.note_erased(lease, floor) is EraseOutcome.OTHER


def test_a_cleaned_session_that_is_empty_leaves_redis(store: SessionStore) -> None:
    floor = store.clear("s")
    [lease] = store.claim(ALL, 10, MINUTE)
    assert store.note_erased(lease, floor) is EraseOutcome.DONE
    assert described(store).status is Status.DUE
    [lease] = store.claim(ALL, 10, MINUTE)
    assert commit(store, lease, snapshot_of(store, lease)) is CommitOutcome.DELETED
    assert store.info("s") is None
    assert store.overview()[0].archived == 0


def test_a_later_clear_keeps_its_own_floor(store: SessionStore, client: redis.Redis) -> None:
    older = store.clear("s")
    [lease] = store.claim(ALL, 10, MINUTE)
    newer = store.clear("s")
    before = dump(client)
    assert store.note_erased(lease, older) is EraseOutcome.OTHER
    assert dump(client) == before
    assert described(store).floor == newer


def test_cleaning_without_the_lease_lifts_the_floor_and_leaves_the_due_moment(store: SessionStore) -> None:
    floor = store.clear("s")
    stale = claim_due(store, lease=timedelta(0))
    wait_until(lambda: store.claim(ALL, 10, MINUTE))
    assert store.note_erased(stale, floor) is EraseOutcome.DONE
    info = described(store)
    assert (info.floor, info.status) == (None, Status.IN_WORK)


def test_a_clear_takes_a_session_out_of_quarantine(store: SessionStore) -> None:
    fill(store, "s")
    store.quarantine(claim_due(store), "why")
    store.clear("s")
    info = described(store)
    assert (info.status, info.error, info.attempts) == (Status.DUE, None, 0)
    assert list(store.sessions(quarantined=True)) == []
    assert store.overview()[0].quarantined == 0


# Update


def test_an_update_of_a_session_that_is_not_there_is_refused(store: SessionStore, client: redis.Redis) -> None:
    before = dump(client)
    with pytest.raises(SessionNotFound, match="'s'"):
        store.update("s", idle=HOUR)
    assert dump(client) == before


def test_an_update_keeps_what_it_is_not_given(store: SessionStore) -> None:
    store.append("s", [A], expiry=Expiry(HOUR, DAY))
    store.update("s", idle=MINUTE)
    assert described(store).expiry == Expiry(MINUTE, DAY)
    store.update("s", max_age=None)
    info = described(store)
    assert info.expiry == Expiry(MINUTE, None)
    assert info.due_at == info.last_active + MINUTE
    store.update("s", idle=None, max_age=HOUR)
    info = described(store)
    assert info.expiry == Expiry(None, HOUR)
    assert info.due_at == info.created + HOUR
    store.update("s", retention=DAY)
    assert described(store).expiry == Expiry(None, HOUR, DAY)
    store.update("s", max_age=None, retention=None)
    assert described(store).expiry == Expiry()
