"""Claims and leases: who gets a due session, in what order, and for how long."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.connection

from support.clusters import start_cluster
from support.keyspace import commands_run, raw
from support.servers import RedisServer
from support.sessions import commit
from support.stored_sessions import (
    ALL,
    DUE,
    HOUR,
    MINUTE,
    A,
    B,
    claim_due,
    described,
    fill,
    make_due,
    shard_of,
    snapshot_of,
)
from support.waiting import wait_until
from torpor.history.clients.kinds import kind_of
from torpor.history.protocol import (
    ClaimOutcome,
    CommitOutcome,
    Lease,
    RedisRefused,
    SessionStore,
    Status,
)


def test_an_attempt_that_is_begun_again_is_counted_once(store: SessionStore) -> None:
    fill(store, "s")
    lease = claim_due(store)
    assert [snapshot_of(store, lease).attempts for _ in range(6)] == [1] * 6
    [renewed] = store.renew([lease], MINUTE)
    assert isinstance(renewed, Lease)
    assert snapshot_of(store, renewed).attempts == 1
    assert store.release(renewed, timedelta(), counted=False)
    assert described(store).attempts == 0


def test_giving_back_a_session_whose_attempt_was_never_begun_counts_nothing(store: SessionStore) -> None:
    fill(store, "s")
    lease = claim_due(store)
    snapshot_of(store, lease)
    assert store.release(lease, timedelta(), counted=True)
    [again] = store.claim(ALL, 1, MINUTE)
    assert store.release(again, timedelta(), counted=False)
    assert described(store).attempts == 1


def test_a_shard_that_does_not_answer_leaves_the_others_their_work(
    client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    store = SessionStore(client, shards=4)
    ids = [f"s{number}" for number in range(20)]
    fill(store, *ids)
    for session_id in ids:
        store.close(session_id)
    every = store.due_counts()
    *whole, broken = every
    raw(client, "SET", f"{{torpor:{broken}}}:due", "not Torpor's")
    rest = {shard: count for shard, count in every.items() if shard != broken}
    with caplog.at_level("WARNING"):
        assert store.due_counts() == rest
    assert "1 of 4 shards did not answer" in caplog.text
    assert "WRONGTYPE" in caplog.text
    assert {overview.shard for overview in store.overview()} == set(whole)
    assert {(seen.shard, seen.due, seen.elected) for seen in store.poll_shards([broken, *whole], MINUTE)} == {
        (shard, count, True) for shard, count in rest.items()
    }
    leases = store.claim([broken, *whole], 20, MINUTE)
    assert {lease.session_id for lease in leases} == {each for each in ids if shard_of(store, each) != broken}
    assert {described(store, lease.session_id).status for lease in leases} == {Status.IN_WORK}


def test_where_no_shard_answers_the_error_of_the_first_is_raised(client: redis.Redis) -> None:
    store = SessionStore(client, shards=4)
    for shard in range(4):
        raw(client, "SET", f"{{torpor:{shard}}}:due", "not Torpor's")
    for look in (
        store.due_counts,
        lambda: store.poll_shards([0, 1], MINUTE),
        lambda: store.claim(range(4), 20, MINUTE),
    ):
        with pytest.raises(RedisRefused, match="WRONGTYPE"):
            look()


def test_several_shards_are_asked_in_one_script_but_on_a_cluster_each_in_its_own(client: redis.Redis) -> None:
    store = SessionStore(client)
    fill(store, "s")
    store.close("s")
    assert list(store.due_counts().values()) == [1], "by now the script is loaded"
    before = commands_run(client, "evalsha")
    assert list(store.due_counts().values()) == [1]
    assert commands_run(client, "evalsha") - before == (256 if kind_of(client).cluster else 8)


def test_a_script_claims_so_much_at_most_that_others_need_not_wait_for_long(client: redis.Redis) -> None:
    store = SessionStore(client)
    fill(store, "s")
    store.claim(range(256), 1, MINUTE)
    before = commands_run(client, "evalsha")
    store.claim(range(256), 250, MINUTE)
    claims, ended_elections = (256, 256) if kind_of(client).cluster else (64, 8)
    assert commands_run(client, "evalsha") - before == claims + ended_elections


def test_a_sweep_and_a_claim_are_one_pipeline_each_and_on_a_cluster_one_for_each_node(
    redis_server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SessionStore(client)
    fill(store, *(f"s{number}" for number in range(20)))
    store.due_counts()
    store.claim(range(256), 1, MINUTE)
    written: list[int] = []
    send: Any = redis.connection.Connection.send_packed_command

    def count(connection: redis.connection.Connection, *args: Any, **options: Any) -> None:
        written.append(connection.port)
        send(connection, *args, **options)

    monkeypatch.setattr(redis.connection.Connection, "send_packed_command", count)
    nodes = [node.port for node in getattr(redis_server, "nodes", [redis_server])]
    for ask in (store.due_counts, lambda: store.claim(range(256), 1, MINUTE)):
        written.clear()
        ask()
        assert sorted(written) == sorted(nodes)


def test_a_client_that_does_not_know_of_its_cluster_of_one_node_asks_each_shard_by_itself(tmp_path: Path) -> None:
    cluster = start_cluster(tmp_path, primaries=1)
    try:
        with cluster.nodes[0].client() as client:
            store = SessionStore(client)
            ids = [f"s{number}" for number in range(40)]
            fill(store, *ids)
            for session_id in ids:
                store.close(session_id)
            due = store.due_counts()
            assert sum(due.values()) == 40
            assert {seen.due for seen in store.poll_shards(list(due), MINUTE)} == set(due.values())
            shards = [shard for shard in range(256) if shard not in due][31:] + list(due)
            assert len(shards) % 32 == 1, "the last one is asked by itself, and answers at once"
            leases = SessionStore(client).claim(shards, 9, MINUTE)
            assert sorted(lease.session_id for lease in leases) == sorted(ids)
    finally:
        cluster.stop()


# Claims


def test_a_claim_takes_what_has_been_due_longest(store: SessionStore, client: redis.Redis) -> None:
    fill(store, "a", "b", "c", "live")
    make_due(client, a=3, b=1, c=2)
    assert [lease.session_id for lease in store.claim(ALL, 2, MINUTE)] == ["b", "c"]
    assert [lease.session_id for lease in store.claim(ALL, 2, MINUTE)] == ["a"]
    assert store.claim(ALL, 2, MINUTE) == []
    assert described(store, "live").status is Status.LIVE


def test_the_limit_of_a_claim_is_for_each_shard(client: redis.Redis) -> None:
    sessions = SessionStore(client, shards=4)
    ids = [f"s{number}" for number in range(40)]
    fill(sessions, *ids)
    assert all(sessions.close(session_id) for session_id in ids)
    assert len(sessions.claim(range(4), 3, MINUTE)) == 12


def test_a_claimed_session_is_in_work_until_its_lease_ends(store: SessionStore) -> None:
    fill(store, "s", "other")
    lease = claim_due(store)
    info = described(store)
    assert info.status is Status.IN_WORK
    assert info.due_at is not None
    assert info.due_at.timestamp() * 1000 == pytest.approx(float(lease.token), abs=0.01)
    [overview] = store.overview()
    assert (overview.in_work, overview.due, overview.live) == (1, 0, 2)
    half_a_millisecond_of_the_token = timedelta(milliseconds=1)
    assert MINUTE - timedelta(seconds=10) < info.due_at - overview.now <= MINUTE + half_a_millisecond_of_the_token
    assert store.due_counts() == {}


def test_claims_of_many_workers_are_disjoint_and_complete(store: SessionStore, client: redis.Redis) -> None:
    ids = [f"s{number}" for number in range(200)]
    fill(store, *ids)
    make_due(client, **dict.fromkeys(ids, 1))

    def claim_all(_: int) -> list[str]:
        found: list[str] = []
        while leases := store.claim(ALL, 7, MINUTE):
            found += [lease.session_id for lease in leases]
        return found

    with ThreadPoolExecutor(8) as pool:
        claimed = [session_id for found in pool.map(claim_all, range(8)) for session_id in found]
    assert sorted(claimed) == sorted(ids)


def test_a_claim_can_be_of_ten_thousand_sessions(store: SessionStore, client: redis.Redis) -> None:
    # More than Lua's unpack() takes; the worker allows batches of up to 10,000.
    ids = [f"s{number:05}" for number in range(10_000)]
    raw(client, "ZADD", DUE, *(item for session_id in ids for item in (1, session_id)))
    assert [lease.session_id for lease in store.claim(ALL, 10_000, MINUTE)] == ids


def test_a_lease_that_ended_is_claimed_by_another(store: SessionStore) -> None:
    fill(store, "s")
    first = claim_due(store, lease=timedelta(0))
    snapshot = snapshot_of(store, first)
    second, *_ = wait_until(lambda: store.claim(ALL, 10, MINUTE))
    assert store.renew([first], MINUTE) == [None]
    assert not store.release(first, HOUR, counted=True, error="late")
    assert commit(store, first, snapshot) is CommitOutcome.KEPT
    assert store.messages("s", touch=False) == [A, B]
    assert commit(store, second, snapshot_of(store, second)) is CommitOutcome.DELETED


def test_renewing_moves_the_lease_to_a_new_token(store: SessionStore) -> None:
    fill(store, "s", "t")
    old = claim_due(store)
    lost = old._replace(session_id="t")
    renewed, none = store.renew([old, lost], HOUR)
    assert none is None
    assert isinstance(renewed, Lease)
    assert float(renewed.token) - float(old.token) >= (HOUR - MINUTE) / timedelta(milliseconds=1)
    assert described(store).status is Status.IN_WORK
    assert store.renew([old], HOUR) == [renewed], "a renewal that is sent twice is done once"
    assert store.renew([old], MINUTE) == [None]
    assert commit(store, renewed, snapshot_of(store, renewed)) is CommitOutcome.DELETED


def test_a_named_session_can_be_leased_whether_due_or_not(store: SessionStore) -> None:
    fill(store, "s")
    lease = store.claim_one("s", MINUTE)
    assert isinstance(lease, Lease)
    assert described(store).status is Status.IN_WORK
    assert store.claim_one("s", MINUTE) is ClaimOutcome.BUSY
    assert store.release(lease, timedelta(0), counted=False)
    assert isinstance(store.claim_one("s", MINUTE), Lease)


def test_a_session_that_cannot_be_seized_says_why(store: SessionStore) -> None:
    assert store.claim_one("s", MINUTE) is ClaimOutcome.MISSING
    fill(store, "s")
    assert store.quarantine(claim_due(store), "why")
    assert store.claim_one("s", MINUTE) is ClaimOutcome.QUARANTINED
