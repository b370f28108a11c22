"""Announcements of due moments, and the election of the worker that waits for them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import redis

from support.keyspace import raw
from support.servers import start_redis
from support.stored_sessions import ALL, MINUTE, B, described, fill
from support.waiting import wait_until
from torpor.history.protocol import (
    SessionStore,
)

# Announcements


@pytest.mark.single_node(reason="a node's own users")
def test_a_user_who_may_not_publish_can_write_close_and_clear_all_the_same(tmp_path: Path) -> None:
    server = start_redis(tmp_path)
    try:
        with server.client() as admin:
            raw(admin, "ACL", "SETUSER", "mute", "on", ">secret", "~*", "resetchannels", "+@all")
        with redis.Redis(port=server.port, username="mute", password="secret") as mute:
            with pytest.raises(redis.exceptions.NoPermissionError):
                mute.publish("{torpor:0}:due", "1")
            store = SessionStore(mute, shards=1)
            fill(store, "s")
            assert store.close("s")
            assert store.clear("s")
            assert store.due_counts() == {0: 1}
    finally:
        server.stop()


def test_the_first_due_moment_of_a_shard_is_announced_and_no_other(store: SessionStore) -> None:
    with store.announcements() as announced:
        assert announced.wait(5) is None, "the subscription has begun"
        fill(store, "first")
        due_at = described(store, "first").due_at
        assert due_at
        assert wait_until(lambda: announced.wait(1)) == {0: due_at.timestamp()}
        fill(store, "later")
        assert announced.wait(0.2) == {}
        store.close("later")
        [(shard, moment)] = wait_until(lambda: announced.wait(1)).items()
        assert (shard, moment < due_at.timestamp()) == (0, True)


def test_activity_that_moves_a_moment_further_ahead_is_not_announced(store: SessionStore) -> None:
    with store.announcements() as announced:
        assert announced.wait(5) is None, "the subscription has begun"
        fill(store, "s")
        assert wait_until(lambda: announced.wait(1)), "else a Cluster may pass it on late, after the next step"
        store.append("s", [B])
        store.messages("s")
        assert announced.wait(0.2) == {}


def test_what_is_closed_or_cleared_when_it_is_overdue_is_announced(store: SessionStore) -> None:
    fill(store, "s")
    store.close("s")
    with store.announcements() as announced:
        assert announced.wait(5) is None, "the subscription has begun"
        store.close("s")
        assert wait_until(lambda: announced.wait(1))
        store.clear("s")
        assert wait_until(lambda: announced.wait(1))


def test_activity_of_an_overdue_or_a_leased_session_is_announced_for_nobody_has_it_planned(store: SessionStore) -> None:
    with store.announcements() as announced:
        assert announced.wait(5) is None, "the subscription has begun"
        fill(store, "s")
        assert wait_until(lambda: announced.wait(1)), "else a Cluster may pass it on late, after the next step"
        for claimed in (False, True):
            store.close("s")
            assert wait_until(lambda: announced.wait(1))
            if claimed:
                assert store.claim(ALL, 10, MINUTE)
            store.append("s", [B])
            due_at = described(store).due_at
            assert due_at
            assert wait_until(lambda: announced.wait(1)) == {0: due_at.timestamp()}


def test_of_those_who_attend_to_a_shard_one_is_elected_for_a_while(store: SessionStore) -> None:
    fill(store, "due", "live")
    store.close("due")
    live = described(store, "live").due_at
    assert live
    seen = [store.poll_shards(ALL, timedelta(milliseconds=200))[0] for _ in range(3)]
    assert [attendance.elected for attendance in seen] == [True, False, False]
    assert {(attendance.due, attendance.next_due) for attendance in seen} == {(1, live.timestamp())}
    wait_until(lambda: store.poll_shards(ALL, MINUTE)[0].elected)
    store.claim(ALL, 10, MINUTE)
    assert not store.poll_shards(ALL, MINUTE)[0].elected, "nothing is due"
    store.close("due")
    assert store.poll_shards(ALL, MINUTE)[0].elected, "the one who was elected has been heard"
