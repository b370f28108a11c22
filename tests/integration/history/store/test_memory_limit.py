"""Redis at its memory limit: each operation works, or changes nothing and says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from dictionary.samples import Samples
from support.keyspace import dump, lasting_keys, raw
from support.ports import free_port
from support.servers import start_redis
from support.session_states import CHECKPOINTS
from support.sessions import commit
from support.stored_sessions import (
    ALL,
    HOUR,
    MINUTE,
    TALLY,
    A,
    B,
    C,
    begun,
    claim_due,
    described,
    fill,
    make_due,
    shard_of,
    snapshot_of,
)
from torpor.history.calls import NewRecord
from torpor.history.errors import translate
from torpor.history.protocol import (
    ArchiveNote,
    ArchiveState,
    Attempt,
    CommitOutcome,
    Compression,
    EraseOutcome,
    Expiry,
    Lease,
    Origin,
    RedisMemoryFull,
    RedisRefused,
    RedisUnavailable,
    RestoreEnd,
    SessionStore,
    Status,
)

# Redis at its memory limit


@pytest.fixture
def full(tmp_path: Path) -> Iterator[redis.Redis]:
    """A client of a Redis that refuses writes which could need memory, as soon as `at_its_limit` is called."""
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
            store.append(session_id, [A, B], expiry=Expiry(HOUR, HOUR))
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
        assert [message for page in store.pages(lease.session_id) for message in page.messages] == [
            A,
            B,
        ]
        assert commit(store, lease, snapshot) is CommitOutcome.DELETED
    assert lasting_keys(full) == {b"torpor:config", TALLY.encode()}
    assert store.overview()[0].archived == 2


def test_at_the_memory_limit_what_fails_is_tried_again_later_or_put_in_quarantine(full: redis.Redis) -> None:
    store = SessionStore(full, shards=1)
    fill(store, "later", "never")
    make_due(full, later=1, never=2)
    at_its_limit(full)
    later, never = store.claim(ALL, 10, MINUTE)
    assert all(isinstance(attempt, Attempt) for attempt in store.begin_attempts([later, never]))
    assert store.release(later, HOUR, counted=False, error="not now")
    assert store.quarantine(never, "never")
    postponed = described(store, "later")
    assert (postponed.status, postponed.attempts, postponed.error) == (Status.POSTPONED, 0, "not now")
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


def test_at_the_memory_limit_messages_are_compressed_and_not_made_plain(full: redis.Redis) -> None:
    store = SessionStore(full, shards=1)
    said = list(Samples(5).some(10))
    store.append("s", said)
    store.repack("s", Compression.NONE)
    at_its_limit(full)
    assert store.repack("s", Compression.ZSTD).messages == 10
    before = dump(full)
    with pytest.raises(RedisMemoryFull):
        store.repack("s", Compression.NONE)
    assert dump(full) == before
    assert store.messages("s", touch=False) == said


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


def test_at_the_memory_limit_the_health_of_the_archive_is_noted(full: redis.Redis) -> None:
    """An outage of the archive fills Redis up, and must be told then."""
    store = SessionStore(full, shards=1)
    store.load_scripts()
    at_its_limit(full)
    assert store.add_events([], keep=9, note=ArchiveNote("one", "it is away")) is ArchiveState.UNAVAILABLE
    assert store.archive_health().unavailable_since
    assert store.add_events([], keep=9, note=ArchiveNote("one")) is ArchiveState.AVAILABLE
    assert [event["kind"] for _, event in store.last_events(9)] == ["archive.unavailable", "archive.available"]


@pytest.mark.parametrize("lost", ["nothing", "the index"])
def test_at_the_memory_limit_a_thread_takes_no_record_and_can_be_read(full: redis.Redis, lost: str) -> None:
    store = SessionStore(full, shards=1)
    store.append("s", CHECKPOINTS)
    store.read_checkpoint("s", "", None, touch=True)
    if lost == "the index":
        raw(full, "DEL", "{torpor:0}:i:s")
    at_its_limit(full)
    before = dump(full)
    for session_id in ("s", "new"):
        with pytest.raises(RedisMemoryFull, match="memory limit"):
            store.write_record(session_id, NewRecord("", "d", CHECKPOINTS[0]))
    assert dump(full) == before
    assert store.read_checkpoint("s", "", None, touch=True).position == 2
