"""SessionStore: every operation and every outcome, on a real Redis.

Most tests use one shard, so that all sessions are in one index.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis

from support.clusters import start_cluster
from support.keyspace import dump, lasting_keys, raw
from support.ports import free_port
from support.servers import RedisServer, start_redis
from support.sessions import commit
from support.waiting import wait_until
from support.watched_clients import WatchedRedis
from torpor.history import calls
from torpor.history.clients.kinds import kind_of
from torpor.history.errors import translate
from torpor.history.protocol import (
    ClaimOutcome,
    CommitOutcome,
    EraseOutcome,
    Expiry,
    InvalidSessionId,
    Lease,
    MessageCorrupt,
    Origin,
    OwnerMismatch,
    Policies,
    PoliciesUnreadable,
    PurgeTarget,
    Purging,
    RedisMemoryFull,
    RedisRefused,
    RedisUnavailable,
    RestoreEnd,
    RestoreRefusal,
    RestoreTicket,
    SessionExists,
    SessionInfo,
    SessionNotFound,
    SessionStore,
    StagingLost,
    Status,
    run_sync,
)

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(hours=24)
DUE, QUARANTINE, TALLY = "{torpor:0}:due", "{torpor:0}:q", "{torpor:0}:t"
ALL = [0]

A, B, C, D = (b'{"%b":1}' % letter for letter in (b"a", b"b", b"c", b"d"))


@pytest.fixture
def store(client: redis.Redis) -> SessionStore:
    store = SessionStore(client, shards=1)
    assert store.deployment.keyspace.shards == 1
    return store


def described(store: SessionStore, session_id: str = "s") -> SessionInfo:
    info = store.info(session_id)
    assert info is not None
    return info


def fill(store: SessionStore, *session_ids: str, messages: list[bytes] | None = None) -> None:
    for session_id in session_ids:
        store.append(session_id, messages or [A, B])


def shard_of(store: SessionStore, session_id: str) -> int:
    return store.deployment.keyspace.shard_of(session_id.encode())


def scripts_run(client: redis.Redis) -> int:
    """How many calls of scripts the server has had, or all nodes of a Cluster."""
    told = client.info("commandstats", **({"target_nodes": "primaries"} if kind_of(client).cluster else {}))
    nodes = [told] if "cmdstat_evalsha" in told else told.values()
    return sum(node.get("cmdstat_evalsha", {"calls": 0})["calls"] for node in nodes)


def make_due(client: redis.Redis, **since: int) -> None:
    """Give sessions a due moment in the past (ms), so that their order is known."""
    for session_id, moment in since.items():
        raw(client, "ZADD", DUE, "XX", moment, session_id)


def claim_due(store: SessionStore, session_id: str = "s", lease: timedelta = MINUTE) -> Lease:
    assert store.close(session_id)
    [claimed] = store.claim(ALL, 10, lease)
    assert claimed.session_id == session_id
    return claimed


def snapshot_of(store: SessionStore, lease: Lease) -> SessionInfo:
    [snapshot] = store.snapshots([lease])
    assert isinstance(snapshot, SessionInfo)
    return snapshot


def begun(store: SessionStore, session_id: str = "s") -> RestoreTicket:
    ticket = store.begin_restore(session_id, MINUTE)
    assert isinstance(ticket, RestoreTicket)
    return ticket


def staged_keys(client: redis.Redis) -> list[bytes]:
    keys: list[bytes] = raw(client, "KEYS", "*:r:*")
    return keys


# Appending and reading


def test_append_returns_the_length_of_the_transcript(store: SessionStore) -> None:
    assert store.append("s", [A, B]) == 2
    assert store.append("s", [C]) == 3
    assert store.messages("s") == [A, B, C]


def test_stored_bytes_come_back_untouched_whatever_they_are(store: SessionStore) -> None:
    elements = [b"", b"\x00", b"\xff\xfe", b"\r\n", '{"ü":"😀"}'.encode(), b" { } "]
    store.append("s", elements)
    assert store.messages("s") == elements


def test_a_turn_that_is_sent_again_is_written_once(store: SessionStore, client: redis.Redis) -> None:
    def turn(turn_id: bytes, *messages: bytes) -> calls.Call[int | None]:
        return calls.append(
            store.deployment,
            "s",
            messages,
            request=turn_id,
            expiry=Expiry(),
            owner=None,
            only_new=turn_id == b"turn-one",
        )

    first, second = turn(b"turn-one", A, B), turn(b"turn-two", C)
    assert [store.run(first), store.run(first)] == [2, 2]
    assert store.run(second) == 3
    before = dump(client)
    assert [store.run(first), store.run(second)] == [3, 3]
    assert dump(client) == before
    assert store.messages("s") == [A, B, C]


def test_a_turn_is_known_for_a_minute_among_sixty_three_others(store: SessionStore, client: redis.Redis) -> None:
    first = calls.append(store.deployment, "s", [A], request=b"turn-one", expiry=Expiry(), owner=None)
    store.run(first)
    for number in range(63):
        store.append("s", [B])
        assert store.run(first) == number + 2
    assert len(raw(client, "HGET", "{torpor:0}:s:s", "seen")) == 64 * 10


@pytest.mark.parametrize(
    ("seconds_ago", "remembered"),
    [(0, True), (50, True), (65, False), (600, False), (86_400, False), (-60, True), (-600, True)],
)
def test_a_request_is_remembered_for_a_minute_by_a_clock_that_may_be_set_back(
    store: SessionStore, client: redis.Redis, seconds_ago: int, *, remembered: bool
) -> None:
    store.append("s", [A])
    moment = (raw(client, "TIME")[0] - seconds_ago) // 4 % 65_536
    raw(client, "HSET", "{torpor:0}:s:s", "seen", b"request!" + moment.to_bytes(2))
    store.append("s", [B])
    seen: bytes = raw(client, "HGET", "{torpor:0}:s:s", "seen")
    assert (b"request!" in seen, len(seen)) == (remembered, 20 if remembered else 10)


def test_what_six_turns_of_a_minute_leave_is_packed(store: SessionStore, client: redis.Redis) -> None:
    for _ in range(6):
        store.append("s", [A], expiry=Expiry(idle=HOUR), owner="ann")
    # The first byte of a dump tells the encoding: https://rdb.fnordig.de/file_format.html#value-type
    assert raw(client, "DUMP", "{torpor:0}:s:s")[0] in (13, 16), "a ziplist, or a listpack from Redis 7 on"


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
    before = scripts_run(client)
    assert list(store.due_counts().values()) == [1]
    assert scripts_run(client) - before == (256 if kind_of(client).cluster else 8)


def test_a_script_claims_so_much_at_most_that_others_need_not_wait_for_long(client: redis.Redis) -> None:
    store = SessionStore(client)
    fill(store, "s")
    store.claim(range(256), 1, MINUTE)
    before = scripts_run(client)
    store.claim(range(256), 250, MINUTE)
    assert scripts_run(client) - before == (256 if kind_of(client).cluster else 64)


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


def test_two_turns_of_the_same_words_are_both_written(store: SessionStore) -> None:
    fill(store, "s", "s")
    assert store.messages("s") == [A, B, A, B]


def test_only_new_refuses_a_session_that_is_there(store: SessionStore, client: redis.Redis) -> None:
    store.append("s", [A], only_new=True)
    before = dump(client)
    with pytest.raises(SessionExists, match="'s'"):
        store.append("s", [B], only_new=True)
    assert dump(client) == before


def test_an_owner_is_recorded_once_and_for_all(store: SessionStore, client: redis.Redis) -> None:
    store.append("s", [A])
    store.append("s", [A], owner="ann")
    store.append("s", [A])
    before = dump(client)
    with pytest.raises(OwnerMismatch, match="'bob'"):
        store.append("s", [B], owner="bob")
    assert dump(client) == before
    assert described(store).owner == "ann"
    assert raw(client, "SMEMBERS", "{torpor:0}:o:ann") in ([b"s"], {b"s"})


def test_an_error_about_arguments_is_raised_before_anything_is_sent(watched: WatchedRedis) -> None:
    store = SessionStore(watched)
    store.append("s", [A])
    watched.commands.clear()
    for attempt in (store.info, store.messages, store.clear, store.close):
        with pytest.raises(InvalidSessionId):
            attempt("")
    assert watched.commands == []


def test_reading_without_touch_changes_nothing(store: SessionStore, client: redis.Redis) -> None:
    fill(store, "s")
    store.close("s")
    before = dump(client)
    assert store.messages("s", touch=False) == [A, B]
    assert [page.messages for page in store.pages("s")] == [[A, B]]
    assert dump(client) == before
    assert store.messages("s") == [A, B]
    assert described(store).status is Status.LIVE


def test_pages_are_of_about_a_mebibyte_and_tell_their_state(store: SessionStore) -> None:
    elements = [b'{"n":"%04d-%b"}' % (number, b"x" * 2000) for number in range(5000)]
    store.append("s", elements)
    pages = list(store.pages("s"))
    assert [message for page in pages for message in page.messages] == elements
    assert [page.start for page in pages] == [0, *(page.stop for page in pages[:-1])]
    assert pages[-1].stop == 5000
    info = described(store)
    assert {(page.epoch, page.restored_count, page.total) for page in pages} == {(info.epoch, 0, 5000)}
    sizes = [sum(map(len, page.messages)) for page in pages]
    assert all(2**20 <= size < 2**20 + 200_000 for size in sizes[:-1])
    assert store.messages("s") == elements


def test_pages_can_be_of_a_part(store: SessionStore) -> None:
    store.append("s", [A, B, C, D])

    def part(start: int, stop: int | None) -> list[bytes]:
        return [message for page in store.pages("s", start, stop) for message in page.messages]

    assert part(1, 3) == [B, C]
    assert part(2, None) == [C, D]
    assert part(0, 9) == [A, B, C, D]
    assert part(4, None) == part(9, None) == part(2, 2) == []
    assert list(store.pages("nobody")) == []


@pytest.mark.parametrize("after", [[b"y" * 1024] * 4000, []], ids=["cleared and used", "cleared"])
def test_messages_never_mix_what_was_before_a_clear_and_after_it(
    sessions: SessionStore, watched: WatchedRedis, after: list[bytes]
) -> None:
    sessions.append("s", [b"x" * 1024] * 3000)
    reader = SessionStore(watched)
    assert len(reader.messages("s")) == 3000

    def clear_before_the_second_page(command: str) -> None:
        if len(watched.commands) == 2:
            sessions.clear("s")
            if after:
                sessions.append("s", after)

    watched.commands.clear()
    watched.before = clear_before_the_second_page
    assert reader.messages("s") == after
    assert len(watched.commands) > 2


def test_messages_that_are_added_between_two_pages_are_read_too(sessions: SessionStore, watched: WatchedRedis) -> None:
    sessions.append("s", [b"x" * 1024] * 2000)
    reader = SessionStore(watched)
    _ = reader.deployment

    def append_before_the_second_page(command: str) -> None:
        if len(watched.commands) == 2:
            sessions.append("s", [A])

    watched.commands.clear()
    watched.before = append_before_the_second_page
    assert reader.messages("s") == [b"x" * 1024] * 2000 + [A]


def test_a_session_that_leaves_redis_between_two_pages_is_not_there(store: SessionStore, watched: WatchedRedis) -> None:
    store.append("s", [b"x" * 1024] * 2000)
    reader = SessionStore(watched)
    _ = reader.deployment

    def archive_before_the_second_page(command: str) -> None:
        if len(watched.commands) == 2:
            lease = claim_due(store)
            assert commit(store, lease, snapshot_of(store, lease)) is CommitOutcome.DELETED

    watched.commands.clear()
    watched.before = archive_before_the_second_page
    assert reader.messages("s") == []


# The deployment


def test_default_expiry_is_recorded_for_all_clients(client: redis.Redis, redis_server: RedisServer) -> None:
    SessionStore(client).configure(idle=HOUR, max_age=DAY)
    with redis_server.client() as other:
        store = SessionStore(other)
        store.append("s", [A])
        info = described(store)
        assert (info.idle_timeout, info.max_age, info.expiry) == (HOUR, DAY, Expiry())
        assert info.due_at == info.last_active + HOUR
        store.append("own", [A], expiry=Expiry(idle=MINUTE))
        assert described(store, "own").idle_timeout == MINUTE
    with redis_server.client() as another:
        assert SessionStore(another).configure(idle=MINUTE, max_age=None).max_age is None
        assert SessionStore(another).deployment.idle == MINUTE


def test_policies_are_recorded_for_all_clients_and_replaced_as_a_whole(
    client: redis.Redis, redis_server: RedisServer
) -> None:
    rules = Policies.parse(b'[{"owner": "ann", "idle_timeout_seconds": 60}]')
    assert SessionStore(client).configure(idle=HOUR, max_age=None, policies=rules).policies == rules
    with redis_server.client() as other:
        assert SessionStore(other).deployment.policies == rules
        before = dump(client)
        SessionStore(other).configure(idle=HOUR, max_age=None, policies=rules)
        assert dump(client) == before
    with redis_server.client() as another:
        assert SessionStore(another).configure(idle=HOUR, max_age=None).policies == Policies()
    assert raw(client, "HGET", "torpor:config", "policies") == b"[]"


def test_a_deployment_without_policies_has_none_recorded(client: redis.Redis) -> None:
    assert SessionStore(client).configure(idle=HOUR, max_age=None).policies == Policies()
    assert not raw(client, "HEXISTS", "torpor:config", "policies")


def test_policies_that_can_not_be_read_are_told_and_recorded_anew_by_a_worker(client: redis.Redis) -> None:
    SessionStore(client).configure(idle=HOUR, max_age=None)
    raw(client, "HSET", "torpor:config", "policies", '[{"planet": "mars"}]')
    with pytest.raises(PoliciesUnreadable, match="unknown: planet"):
        run_sync(SessionStore(client, namespace="torpor")._configured(record=False))
    assert SessionStore(client).configure(idle=HOUR, max_age=None).policies == Policies()


# Scripts that the server has lost


def test_a_lost_script_is_sent_again(store: SessionStore, client: redis.Redis) -> None:
    fill(store, "s")
    client.script_flush()
    assert store.append("s", [C]) == 3
    client.script_flush()
    assert store.messages("s") == [A, B, C]


def test_lost_scripts_are_sent_again_in_a_pipeline_too(sessions: SessionStore, client: redis.Redis) -> None:
    fill(sessions, "a", "b", "c")
    sessions.close("a")
    client.script_flush()
    assert list(sessions.due_counts().values()) == [1]
    client.script_flush()
    infos = sessions.infos(["a", "nobody", "c"])
    assert [isinstance(info, SessionInfo) and info.session_id for info in infos] == ["a", False, "c"]


def test_claiming_through_lost_scripts_leases_once(store: SessionStore, client: redis.Redis) -> None:
    fill(store, "a", "b")
    make_due(client, a=1, b=2)
    client.script_flush()
    assert [lease.session_id for lease in store.claim(ALL, 10, MINUTE)] == ["a", "b"]
    assert store.claim(ALL, 10, MINUTE) == []


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
    lost = replace(old, session_id="t")
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
    assert store.snapshots([lease, replace(lease, session_id="nobody")]) == [None, None]
    assert dump(client) == before


def test_an_index_entry_without_a_session_is_dropped(store: SessionStore, client: redis.Redis) -> None:
    raw(client, "ZADD", DUE, 1, "ghost")
    [lease] = store.claim(ALL, 10, MINUTE)
    assert store.snapshots([lease]) == [None]
    assert raw(client, "KEYS", "*") == []


def test_one_damaged_session_does_not_keep_the_others_from_their_snapshots(
    store: SessionStore, client: redis.Redis
) -> None:
    fill(store, "a", "b", "c", "d")
    make_due(client, a=1, b=2, c=3, d=4)
    raw(client, "SET", "{torpor:0}:m:b", "no list")
    raw(client, "HSET", "{torpor:0}:s:c", "epoch", "no number")
    good, wrong_type, damaged, fine = store.snapshots(store.claim(ALL, 10, MINUTE))
    assert isinstance(good, SessionInfo)
    assert isinstance(wrong_type, RedisRefused)
    assert isinstance(damaged, MessageCorrupt)
    assert isinstance(fine, SessionInfo)
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
    assert info.status is Status.LIVE
    assert info.error == "no route to the archive: ü?"
    assert info.attempts == (1 if counted else 0)
    [overview] = store.overview()
    assert info.due_at is not None
    assert HOUR - timedelta(seconds=10) < info.due_at - overview.now <= HOUR
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


# Commit


def test_a_session_that_is_as_it_was_archived_is_deleted(store: SessionStore, client: redis.Redis) -> None:
    store.append("s", [A, B], owner="ann")
    lease = claim_due(store)
    snapshot = snapshot_of(store, lease)
    assert commit(store, lease, snapshot) is CommitOutcome.DELETED
    assert lasting_keys(client) == {b"torpor:config", TALLY.encode()}
    assert (store.info("s"), store.messages("s"), list(store.sessions())) == (None, [], [])
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
    store.append("s", [C])
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
    with pytest.raises(OwnerMismatch):
        store.finish_restore(ticket, 1, Origin(owner="bob"))
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


def test_a_restore_keeps_the_worker_away_for_its_lease(store: SessionStore) -> None:
    fill(store, "s")
    store.close("s")
    ticket = begun(store)
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


# Redis at its memory limit


@pytest.fixture
def full(tmp_path: Path) -> Iterator[redis.Redis]:
    """A client of a Redis of which `at_its_limit` makes that it refuses what could need memory."""
    server = start_redis(tmp_path, "--maxmemory", "100mb", "--maxmemory-policy", "noeviction")
    with server.client() as connected:
        yield connected
    server.stop()


def at_its_limit(client: redis.Redis) -> None:
    raw(client, "CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        client.set("x", "y")


def test_at_the_memory_limit_an_append_changes_nothing_and_says_so(full: redis.Redis) -> None:
    store = SessionStore(full, shards=1)
    fill(store, "s")
    store.close("s")
    at_its_limit(full)
    before = dump(full)
    for session_id in ("s", "new"):
        with pytest.raises(RedisMemoryFull, match="memory limit"):
            store.append(session_id, [A, B], owner="ann", expiry=Expiry(HOUR, HOUR))
    assert dump(full) == before
    assert store.messages("s", touch=False) == [A, B]


def test_at_the_memory_limit_sessions_are_claimed_renewed_and_deleted(full: redis.Redis) -> None:
    store = SessionStore(full, shards=1)
    for session_id in ("a", "b"):
        store.append(session_id, [A, B], owner="ann")
    make_due(full, a=1, b=2)
    at_its_limit(full)
    leases = store.claim(ALL, 10, MINUTE)
    assert [lease.session_id for lease in leases] == ["a", "b"]
    for lease in store.renew(leases, MINUTE):
        assert isinstance(lease, Lease)
        snapshot = snapshot_of(store, lease)
        assert snapshot.message_count == 2
        assert [message for page in store.pages(lease.session_id) for message in page.messages] == [A, B]
        assert commit(store, lease, snapshot) is CommitOutcome.DELETED
    assert lasting_keys(full) == {b"torpor:config", TALLY.encode()}
    assert store.overview()[0].archived == 2


def test_at_the_memory_limit_what_fails_is_tried_again_later_or_put_in_quarantine(full: redis.Redis) -> None:
    store = SessionStore(full, shards=1)
    fill(store, "later", "never")
    make_due(full, later=1, never=2)
    at_its_limit(full)
    later, never = store.claim(ALL, 10, MINUTE)
    assert all(isinstance(snapshot, SessionInfo) for snapshot in store.snapshots([later, never]))
    assert store.release(later, HOUR, counted=False, error="not now")
    assert store.quarantine(never, "never")
    postponed = described(store, "later")
    assert (postponed.status, postponed.attempts, postponed.error) == (Status.LIVE, 0, "not now")
    assert described(store, "never").status is Status.QUARANTINED
    assert store.claim(ALL, 10, MINUTE) == []


def test_at_the_memory_limit_a_session_that_has_grown_is_noted_as_far_as_it_is_safe(full: redis.Redis) -> None:
    store = SessionStore(full, shards=1)
    fill(store, "s")
    lease = claim_due(store)
    snapshot = snapshot_of(store, lease)
    store.append("s", [C])
    at_its_limit(full)
    assert commit(store, lease, snapshot) is CommitOutcome.KEPT
    assert described(store).archived_count == 2


def test_at_the_memory_limit_a_session_can_be_read_which_keeps_it_awake_and_be_closed(full: redis.Redis) -> None:
    store = SessionStore(full, shards=1)
    fill(store, "s")
    at_its_limit(full)
    assert store.close("s")
    assert described(store).status is Status.DUE
    assert store.messages("s") == [A, B]
    assert described(store).status is Status.LIVE
    assert isinstance(store.claim_one("s", MINUTE), Lease)


def test_at_the_memory_limit_a_session_can_be_cleared(full: redis.Redis) -> None:
    store = SessionStore(full, shards=1)
    store.append("s", [A, B], owner="ann")
    at_its_limit(full)
    floor = store.clear("s")
    info = described(store)
    assert (info.message_count, info.floor, info.owner, info.status) == (0, floor, "ann", Status.DUE)
    [lease] = store.claim(ALL, 1, MINUTE)
    assert store.note_erased(lease, floor) is EraseOutcome.DONE


def test_a_replica_that_refuses_writes_is_an_unavailable_redis(full: redis.Redis) -> None:
    store = SessionStore(full, shards=1)
    fill(store, "s")
    raw(full, "REPLICAOF", "127.0.0.1", free_port())
    with pytest.raises(RedisUnavailable):
        store.append("s", [C])
    with pytest.raises(RedisUnavailable):
        store.messages("s")
    assert store.messages("s", touch=False) == [A, B]


# What servers before 7 say of a command inside a script, which 7 says as if there was no script.
INSIDE = (
    "Error running script (call to f_1da715ce6b560162a04952a64dd085c261dd7e1b): @user_script:39: @user_script: 39: "
)


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (INSIDE + "-OOM command not allowed when used memory > 'maxmemory'.", RedisMemoryFull),
        (INSIDE + "-READONLY You can't write against a read only replica.", RedisUnavailable),
        ("@user_script: 39: -READONLY You can't write against a read only replica.", RedisUnavailable),
        (INSIDE + "-WRONGTYPE Operation against a key holding the wrong kind of value", RedisRefused),
        ("WRONGTYPE Operation against a key that is called OOM or -READONLY", RedisRefused),
    ],
)
def test_an_error_inside_a_script_means_what_it_means_outside(answer: str, meaning: type[Exception]) -> None:
    assert type(translate(redis.exceptions.ResponseError(answer))) is meaning


def test_at_the_memory_limit_a_session_that_never_slept_can_be_found_whole(full: redis.Redis) -> None:
    store = SessionStore(full, shards=1)
    store.append("s", [A])
    at_its_limit(full)
    assert store.finish_restore(begun(store), 0, Origin()) is RestoreEnd.RESTORED
    assert described(store).complete
    assert store.messages("s") == [A]


def test_at_the_memory_limit_a_restore_is_refused_and_leaves_nothing(full: redis.Redis) -> None:
    store = SessionStore(full, shards=1)
    ticket = begun(store)
    assert store.stage(ticket, 0, [A], MINUTE)
    at_its_limit(full)
    before = dump(full)
    with pytest.raises(RedisMemoryFull):
        store.stage(ticket, 1, [B], MINUTE)
    assert dump(full) == before
    assert store.abandon(ticket)
    assert raw(full, "KEYS", "*") == [b"torpor:config"]


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
    fill(store, "s", messages=[C])
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
    fill(store, "s")
    with store.announcements() as announced:
        assert announced.wait(5) is None, "the subscription has begun"
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
    fill(store, "s")
    with store.announcements() as announced:
        assert announced.wait(5) is None, "the subscription has begun"
        for claimed in (False, True):
            store.close("s")
            assert wait_until(lambda: announced.wait(1))
            if claimed:
                assert store.claim(ALL, 10, MINUTE)
            store.append("s", [B])
            due_at = described(store).due_at
            assert due_at
            assert wait_until(lambda: announced.wait(1)) == {0: due_at.timestamp()}


def test_the_last_messages_are_as_many_as_were_asked_for_though_the_session_grows(store: SessionStore) -> None:
    store.append("s", [b"%d" % number * 400_000 for number in range(1, 7)])
    pages = store.pages("s", -6)
    found = list(next(pages).messages)
    store.append("s", [A, B, C])
    for page in pages:
        found += page.messages
    assert [element[:1] for element in found] == [b"1", b"2", b"3", b"4", b"5", b"6"]


def test_what_is_remembered_as_empty_counts_as_absent_until_it_is_written_to(store: SessionStore) -> None:
    assert store.finish_restore(begun(store), 0, Origin(), remember=MINUTE) is RestoreEnd.NOTHING
    assert store.info("s") is None
    with pytest.raises(SessionNotFound):
        store.update("s", idle=HOUR)
    assert store.append("s", [A], only_new=True) == 1
    assert described(store).complete
    with pytest.raises(SessionExists):
        store.append("s", [A], only_new=True)


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


def test_at_the_memory_limit_shards_are_claimed_though_the_first_one_does_not_answer(
    full: redis.Redis,
) -> None:
    store = SessionStore(full, shards=4)
    ids = [f"s{number}" for number in range(20)]
    fill(store, *ids)
    for session_id in ids:
        store.close(session_id)
    raw(full, "SET", "{torpor:0}:due", "not Torpor's")
    at_its_limit(full)
    leases = store.claim(range(4), 20, MINUTE)
    assert {lease.session_id for lease in leases} == {each for each in ids if shard_of(store, each) != 0}


def test_at_the_memory_limit_everybody_who_attends_is_elected(full: redis.Redis) -> None:
    store = SessionStore(full, shards=1)
    fill(store, "s")
    store.close("s")
    at_its_limit(full)
    assert [store.poll_shards(ALL, MINUTE)[0].elected for _ in range(2)] == [True, True]
