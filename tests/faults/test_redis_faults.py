"""What Redis and the way to it can do to an operation: nothing is lost, nothing is doubled."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
import redis
import redis.exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.keyspace import raw
from support.observed import watch
from support.ports import free_port
from support.redis_proxy import Fault, Plan, Proxy, first, no_fault, nth
from support.servers import RedisServer, start_redis
from support.sessions import purge_session, with_settings
from support.waiting import wait_until
from torpor.history.conversation import Conversation
from torpor.history.protocol import (
    Expiry,
    RedisMemoryFull,
    RedisUnavailable,
    SessionNotFound,
    SessionStore,
    Status,
    TorporError,
    run_sync,
)
from torpor.worker.archive.contents import look
from torpor.worker.deployment.services import Services, connect
from torpor.worker.deployment.settings import Settings
from torpor.worker.errors import ArchiveUnavailable, ClearForgotten
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import AttemptResult, Outcome
from torpor.worker.wake.restore import RestoreOutcome, read_transcript, restore_session
from torpor.worker.wake.session_archive import SessionArchive

pytestmark = pytest.mark.single_node(reason="these are the faults of one node")

NO_RETRY = Retry(NoBackoff(), 0)
SHARDS = range(4)


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pages in each direction for a few messages."""
    monkeypatch.setattr("torpor.history.store.reading.PAGE_BYTES", 100)
    monkeypatch.setattr("torpor.worker.archive.segment._READ_BYTES", 350)


def services_at(url: str, archive: Path, retry: Retry | None = None, **settings: object) -> Services:
    """A worker's services; with `retry` in place of the worker's own."""
    given = {
        "lease_seconds": 1,
        "concurrency": 1,
        "retry_delay_seconds": 0.1,
        "tombstone_seconds": 1,
        "shards": len(SHARDS),
    } | settings
    services = connect(Settings(redis_url=url, archive_url=archive.as_uri(), **given))  # type: ignore[arg-type]
    if retry:
        client = redis.Redis.from_url(url, socket_timeout=30, retry=retry)
        services = Services(services.settings, SessionStore(client, shards=len(SHARDS)), services.archive)
    return services


@dataclass
class Chat:
    """A session as its user knows it: what was acknowledged."""

    services: Services
    session_id: str
    acknowledged: list[bytes] = field(default_factory=list)

    def say(self, count: int = 1, by: Services | None = None) -> None:
        """Append one turn, through the services of another client where one is given."""
        said = [b'{"content":"%b"}' % os.urandom(4).hex().encode() for _ in range(count)]
        (by or self.services).sessions.append(self.session_id, said, expiry=Expiry(), owner="ann")
        self.acknowledged += said

    def sleep(self) -> None:
        """Drain until nothing of the session is in Redis; what is erased stays until the leases of its day are over."""
        self.services.sessions.close(self.session_id)

        def gone() -> bool:
            drain(self.services, SHARDS)
            info = self.services.sessions.info(self.session_id)
            if info and info.floor is None:
                self.services.sessions.close(self.session_id)
            return info is None

        wait_until(gone, 10, f"session {self.session_id!r} leaves Redis")

    def check(self) -> None:
        """Wherever it is, asleep and awake: the transcript is what was acknowledged, in order, once."""
        assert transcript(self.services, self.session_id) == self.acknowledged
        self.sleep()
        assert transcript(self.services, self.session_id) == self.acknowledged
        if self.acknowledged:
            restore_session(self.services, self.session_id)
            assert self.services.sessions.messages(self.session_id) == self.acknowledged

    def check_archived_once(self) -> None:
        sizes = [each.name.stop - each.name.start for each in look(self.services.archive, self.session_id).segments]
        assert sum(sizes) == len(self.acknowledged)


def transcript(services: Services, session_id: str) -> list[bytes]:
    try:
        return read_transcript(services, session_id)
    except SessionNotFound:
        return []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    started = start_redis(tmp_path_factory.mktemp("redis"))
    yield started
    started.stop()


@pytest.fixture
def direct(server: RedisServer, scratch: Path) -> Services:
    """Services without faults, on an empty Redis and an empty archive."""
    services = services_at(server.url, scratch / "archive")
    services.sessions.client.flushall()
    services.sessions.load_scripts()
    return services


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with Proxy(server.port) as started:
        yield started


@pytest.fixture
def through(proxy: Proxy, direct: Services, scratch: Path) -> Services:
    """The same services through the proxy."""
    return services_at(proxy.url, scratch / "archive", Retry(NoBackoff(), 5))


@pytest.fixture
def unretried(proxy: Proxy, direct: Services, scratch: Path) -> Services:
    """The same services through the proxy, by a client that sends nothing again."""
    return services_at(proxy.url, scratch / "archive", NO_RETRY)


# Each single command of a way, lost in turn


def prepare_asleep(chat: Chat) -> None:
    chat.say(9)
    archive_session(chat.services, chat.session_id)


def prepare_woken(chat: Chat) -> None:
    """Three segments of two epochs, and messages that are in none."""
    prepare_asleep(chat)
    restore_session(chat.services, chat.session_id)
    chat.say(3)
    archive_session(chat.services, chat.session_id)
    restore_session(chat.services, chat.session_id)
    chat.say(3)


def prepare_spoken_to(chat: Chat) -> None:
    prepare_asleep(chat)
    chat.say(2)


def prepare_cleared(chat: Chat) -> None:
    prepare_asleep(chat)
    chat.services.sessions.clear(chat.session_id)
    chat.acknowledged.clear()
    chat.say(2)


def close_and_drain(services: Services, chat: Chat) -> None:
    services.sessions.close(chat.session_id)
    drain(services, SHARDS)


def clear(services: Services, chat: Chat) -> None:
    chat.acknowledged.clear()
    services.sessions.clear(chat.session_id)


def pop(services: Services, chat: Chat) -> None:
    """Take the last but these back; asked for again, it does what is left of that."""
    del chat.acknowledged[12:]
    conversation = Conversation(
        services.sessions.client, chat.session_id, archive=SessionArchive(services.archive.url), shards=len(SHARDS)
    )
    while len(transcript(chat.services, chat.session_id)) > len(chat.acknowledged):
        run_sync(conversation.pop(lambda page: page.messages))


def purge(services: Services, chat: Chat) -> None:
    chat.acknowledged.clear()
    purge_session(services, chat.session_id)


@dataclass(frozen=True)
class Way:
    name: str
    prepare: Callable[[Chat], None]
    go: Callable[[Services, Chat], object]


WAYS = [
    Way("append", prepare_spoken_to, lambda services, chat: chat.say(3, services)),
    Way("archive", lambda chat: chat.say(9), lambda services, chat: archive_session(services, chat.session_id)),
    Way("archive woken", prepare_woken, lambda services, chat: archive_session(services, chat.session_id)),
    Way("archive cleared", prepare_cleared, lambda services, chat: archive_session(services, chat.session_id)),
    Way("drain", prepare_woken, close_and_drain),
    Way("drain cleared", prepare_cleared, close_and_drain),
    Way("restore", prepare_asleep, lambda services, chat: restore_session(services, chat.session_id)),
    Way("restore spoken to", prepare_spoken_to, lambda services, chat: restore_session(services, chat.session_id)),
    Way("clear", prepare_woken, clear),
    Way("pop", prepare_woken, pop),
    Way("purge", prepare_woken, purge),
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
@pytest.mark.parametrize("fault", [Fault.LOSE_REPLY, Fault.CUT_BEFORE], ids=str)
def test_a_command_that_is_lost_is_sent_again_and_done_once(
    direct: Services, through: Services, proxy: Proxy, way: Way, fault: Fault
) -> None:
    for number, chat in each_command(direct, through, proxy, way):
        proxy.plan = nth(number, fault)
        way.go(through, chat)
        proxy.plan = no_fault
        assert len(proxy.commands) >= number
        where = f"{fault} of {proxy.commands[number - 1]}, command {number}"
        try:
            chat.check()
        except (AssertionError, TorporError) as exc:
            raise AssertionError(f"{where}: {exc}") from exc
        if way.name in ("archive", "drain", "restore"):
            chat.check_archived_once()


@pytest.mark.parametrize("way", [way for way in WAYS if way.name != "append"], ids=lambda way: way.name)
def test_a_worker_that_never_hears_of_a_command_leaves_the_session_to_the_next(
    direct: Services, unretried: Services, proxy: Proxy, way: Way
) -> None:
    for number, chat in each_command(direct, unretried, proxy, way):
        proxy.plan = nth(number, Fault.LOSE_REPLY)
        ended = True
        try:
            way.go(unretried, chat)
        except RedisUnavailable:
            ended = False
        proxy.plan = no_fault
        if way.name in ("clear", "pop", "purge") and not ended:
            way.go(direct, chat)  # nothing was acknowledged: the user asks again
        try:
            chat.check()
        except (AssertionError, TorporError) as exc:
            raise AssertionError(f"lost {proxy.commands[number - 1]}, command {number}: {exc}") from exc


def each_command(direct: Services, faulty: Services, proxy: Proxy, way: Way) -> Iterator[tuple[int, Chat]]:
    """A prepared session for each command that the way takes without a fault."""
    faulty.sessions.load_scripts()
    clean = Chat(direct, "clean")
    way.prepare(clean)
    _ = faulty.sessions.deployment  # asked for once for each client
    with faulty.sessions.purging("none", timedelta(seconds=1)) as lock:  # whose scripts are loaded once for each server
        assert lock
        assert lock.extend(timedelta(seconds=1))
    proxy.commands.clear()
    way.go(faulty, clean)
    clean.check()
    total = len(proxy.commands)
    assert total
    for number in range(1, total + 1):
        chat = Chat(direct, f"chat {number}")
        way.prepare(chat)
        proxy.commands.clear()
        yield number, chat


# Single operations


def test_a_turn_whose_reply_was_lost_is_there_once_each_time_it_is_sent(
    direct: Services, through: Services, proxy: Proxy
) -> None:
    chat = Chat(direct, "s")
    chat.say(2)
    _ = through.sessions.deployment
    for _ in range(3):
        left = [Fault.LOSE_REPLY, Fault.HALF_REPLY, Fault.CUT_BEFORE]
        proxy.plan = lambda _, left=left: left.pop() if left else None  # type: ignore[misc]
        chat.say(2, through)
        assert not left
    assert direct.sessions.messages("s") == chat.acknowledged
    assert proxy.commands.count("append") == 12


def test_a_renewal_whose_reply_was_lost_does_not_cost_the_lease(
    direct: Services, through: Services, proxy: Proxy
) -> None:
    chat = Chat(direct, "s")
    chat.say(9)
    watched, points = watch(through, lease_seconds=0.6)
    points.at("before segment put", lambda: wait_until(lambda: points.log.count("after renew") >= 2))
    proxy.plan = first("renew", Fault.LOSE_REPLY)
    assert archive_session(watched, "s").outcome is Outcome.ARCHIVED
    assert proxy.commands.count("renew") >= 3
    chat.check()
    chat.check_archived_once()


def test_a_release_whose_reply_was_lost_leaves_the_session_to_the_next_worker(
    direct: Services, through: Services, proxy: Proxy
) -> None:
    chat = Chat(direct, "s")
    chat.say(9)
    watched, points = watch(through)

    def fail() -> None:
        raise RedisUnavailable("no connection")

    points.at("before segment put", fail)
    proxy.plan = first("release", Fault.LOSE_REPLY)
    archive_session(watched, "s")
    assert proxy.commands.count("release") == 2
    info = direct.sessions.info("s")
    assert info
    assert (info.attempts, info.message_count) == (0, 9)
    chat.check()
    chat.check_archived_once()


def test_a_claim_whose_reply_was_lost_holds_the_session_for_one_lease(
    direct: Services, through: Services, proxy: Proxy
) -> None:
    chat = Chat(direct, "s")
    chat.say(9)
    direct.sessions.close("s")
    short = with_settings(through, lease_seconds=0.2)
    proxy.plan = first("claim", Fault.LOSE_REPLY)
    totals = drain(short, [shard_of(direct, "s")])
    wait_until(lambda: totals or direct.sessions.due_counts())
    assert totals + drain(direct, SHARDS) == {Outcome.ARCHIVED: 1}
    chat.check()


def shard_of(services: Services, session_id: str) -> int:
    return services.sessions.deployment.keyspace.shard_of(session_id.encode())


def test_a_commit_whose_reply_was_lost_is_counted_once(direct: Services, through: Services, proxy: Proxy) -> None:
    chat = Chat(direct, "s")
    chat.say(9)
    proxy.plan = first("commit", Fault.LOSE_REPLY)
    assert archive_session(through, "s").outcome in (Outcome.ARCHIVED, Outcome.SUPERSEDED)
    assert proxy.commands.count("commit") == 2
    assert sum(shard.archived for shard in direct.sessions.overview()) == 1
    chat.check()
    chat.check_archived_once()


def test_a_reply_that_stops_in_the_middle_is_given_up_after_the_time_out_and_never_mixed_with_the_next(
    direct: Services, proxy: Proxy
) -> None:
    chat = Chat(direct, "s")
    chat.say(9)
    client = redis.Redis.from_url(proxy.url, socket_timeout=0.1, retry=Retry(NoBackoff(), 2))
    store = SessionStore(client, shards=len(SHARDS))
    impatient = Services(direct.settings, store, direct.archive)
    proxy.plan = first("read", Fault.STALLED_REPLY)
    assert store.messages("s") == chat.acknowledged
    proxy.plan = first("append", Fault.STALLED_REPLY)
    chat.say(2, impatient)
    proxy.plan = first("snapshot", Fault.STALLED_REPLY)
    assert archive_session(impatient, "s").outcome is Outcome.ARCHIVED
    proxy.plan = first("swap", Fault.STALLED_REPLY)
    restore_session(impatient, "s")
    assert store.messages("s") == chat.acknowledged
    chat.check()
    client.close()


def test_a_redis_that_refuses_connections_delays_the_work_and_loses_none(
    direct: Services, unretried: Services, proxy: Proxy
) -> None:
    chat = Chat(direct, "s")
    chat.say(9)
    _ = unretried.sessions.deployment
    direct.sessions.close("s")
    proxy.refuse()
    for attempt in (
        lambda: chat.say(1, unretried),
        lambda: drain(unretried, SHARDS),
        lambda: archive_session(unretried, "s"),
        lambda: restore_session(unretried, "s"),
        lambda: purge_session(unretried, "s"),
        unretried.sessions.due_counts,
    ):
        with pytest.raises(RedisUnavailable):
            attempt()
    proxy.accept()
    assert drain(unretried, SHARDS) == {Outcome.ARCHIVED: 1}
    chat.check()


@pytest.mark.parametrize("point", ["before snapshot", "between pages", "before segment put", "before commit"])
def test_a_redis_that_is_gone_for_a_while_in_the_middle_of_an_archive_loses_nothing(
    direct: Services, unretried: Services, proxy: Proxy, point: str
) -> None:
    chat = Chat(direct, "s")
    chat.say(9)
    watched, points = watch(unretried, lease_seconds=0.3)
    points.at(point, proxy.refuse)
    ended: list[AttemptResult] = []
    try:
        ended.append(archive_session(watched, "s"))
    except RedisUnavailable:
        assert point == "before snapshot"
    assert not points.pending
    assert [result.outcome for result in ended] in ([Outcome.POSTPONED], [])
    proxy.accept()
    wait_until(direct.sessions.due_counts, what="the lease ends")
    assert drain(direct, SHARDS) == {Outcome.ARCHIVED: 1}
    chat.check()
    chat.check_archived_once()


def test_looking_again_before_a_lease_of_before_the_clear_has_ended_never_leads_to_quarantine(direct: Services) -> None:
    chat = Chat(direct, "s")
    chat.say(9)
    direct.sessions.claim_one("s", with_settings(direct, lease_seconds=60).settings.lease)
    clear(direct, chat)
    for _ in range(direct.settings.max_attempts + 2):
        direct.sessions.close("s")
        drain(direct, SHARDS)
    info = direct.sessions.info("s")
    assert info
    assert (info.attempts, info.floor is not None, info.status is Status.QUARANTINED) == (0, True, False)


# A server that is restarted, with its data and without its scripts


@dataclass
class Restartable:
    """A server whose data outlives it: each write is in its append-only file before its reply."""

    folder: Path
    server: RedisServer

    def restart(self, *options: str, loaded: bool = True) -> None:
        self.server.stop()
        self.server = _persistent(self.folder, *options, port=self.server.port, loaded=loaded)


def _persistent(folder: Path, *options: str, port: int | None = None, loaded: bool = True) -> RedisServer:
    return start_redis(folder, "--appendonly", "yes", "--appendfsync", "no", *options, port=port, loaded=loaded)


@pytest.fixture
def restartable(scratch: Path) -> Iterator[Restartable]:
    folder = scratch / "redis"
    folder.mkdir()
    started = Restartable(folder, _persistent(folder))
    yield started
    started.server.stop()


def test_a_server_that_was_restarted_gets_its_scripts_again(restartable: Restartable, scratch: Path) -> None:
    services = services_at(restartable.server.url, scratch / "archive")
    services.sessions.load_scripts()
    chats = [Chat(services, f"chat {number}") for number in range(5)]
    for chat in chats:
        chat.say(9)
        services.sessions.close(chat.session_id)
    restartable.restart()
    assert drain(services, SHARDS) == {Outcome.ARCHIVED: 5}
    restartable.restart()
    for chat in chats:
        assert restore_session(services, chat.session_id).messages == 9
    restartable.restart()
    for chat in chats:
        chat.say(2)
        chat.check()


@pytest.mark.parametrize("point", ["after snapshot", "between pages", "before commit", "after commit"])
def test_a_restart_in_the_middle_of_an_archive_does_not_even_delay_it(
    restartable: Restartable, scratch: Path, point: str
) -> None:
    services = services_at(restartable.server.url, scratch / "archive")
    chat = Chat(services, "s")
    chat.say(9)
    watched, points = watch(services)
    points.at(point, restartable.restart)
    assert archive_session(watched, "s").outcome is Outcome.ARCHIVED
    assert not points.pending
    chat.check()
    chat.check_archived_once()


@pytest.mark.parametrize("point", ["after begin", "after stage", "before finish_restore", "after finish_restore"])
def test_a_restart_in_the_middle_of_a_restore_does_not_even_delay_it(
    restartable: Restartable, scratch: Path, point: str
) -> None:
    services = services_at(restartable.server.url, scratch / "archive")
    chat = Chat(services, "s")
    prepare_spoken_to(chat)
    watched, points = watch(services)
    points.at(point, restartable.restart)
    assert restore_session(watched, "s").outcome is RestoreOutcome.RESTORED
    assert not points.pending
    chat.check()


def test_a_server_that_is_still_loading_is_an_unavailable_redis(restartable: Restartable, scratch: Path) -> None:
    patient = services_at(restartable.server.url, scratch / "archive")
    hasty = services_at(restartable.server.url, scratch / "archive", NO_RETRY)
    _ = hasty.sessions.deployment
    chat = Chat(patient, "s")
    chat.say(9)
    patient.sessions.close("s")
    # As long as a large data set takes: two milliseconds for each key, and a look at the clients now and then.
    with restartable.server.client() as client:
        for number in range(200):
            client.set(f"other {number}", os.urandom(2048))
        raw(client, "BGREWRITEAOF")
        wait_until(lambda: client.info("persistence")["aof_rewrite_in_progress"] == 0)
        wait_until(lambda: client.info("persistence")["aof_rewrite_scheduled"] == 0)
    slow = ("--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024")
    restartable.restart(*slow, loaded=False)
    for attempt in (lambda: chat.say(1, hasty), lambda: drain(hasty, SHARDS), hasty.sessions.due_counts):
        with pytest.raises(RedisUnavailable, match=r"LOADING|loading"):
            attempt()
    assert drain(patient, SHARDS) == {Outcome.ARCHIVED: 1}
    chat.check()


# Replicas


@dataclass
class Pair:
    """A primary with a replica, and a client that follows the promotion, as Memorystore's one address does."""

    primary: RedisServer
    replica: RedisServer
    address: Proxy

    def wait_until_equal(self) -> None:
        with self.primary.client() as client:
            wait_until(lambda: raw(client, "WAIT", 1, 100) == 1, what="the replica has all writes")

    def part(self) -> None:
        """From now on the replica hears nothing of the primary; it stays a replica."""
        self.wait_until_equal()
        with self.replica.client() as client:
            raw(client, "REPLICAOF", "127.0.0.1", free_port())

    def fail_over(self) -> None:
        """The primary is gone, with all that the replica has not heard of."""
        with self.replica.client() as client:
            raw(client, "REPLICAOF", "NO", "ONE")
        self.primary.stop()
        self.address.forward_to(self.replica.port)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    for name in ("primary", "replica"):
        (tmp_path / name).mkdir()
    primary = start_redis(tmp_path / "primary", "--repl-diskless-sync-delay", "0")
    replica = start_redis(tmp_path / "replica", "--replicaof", "127.0.0.1", str(primary.port))
    with replica.client() as client:
        wait_until(lambda: client.info("replication")["master_link_status"] == "up", what="the replica is connected")
    with Proxy(primary.port) as address:
        yield Pair(primary, replica, address)
    primary.stop()
    replica.stop()


@pytest.fixture
def replicated(pair: Pair, scratch: Path) -> Services:
    return services_at(pair.address.url, scratch / "archive", Retry(NoBackoff(), 1))


def test_a_replica_in_the_place_of_the_primary_refuses_writes_and_loses_none(pair: Pair, replicated: Services) -> None:
    chat = Chat(replicated, "s")
    chat.say(9)
    replicated.sessions.close("s")
    pair.part()
    pair.address.forward_to(pair.replica.port)
    for attempt in (lambda: chat.say(1), lambda: restore_session(replicated, "s"), lambda: drain(replicated, SHARDS)):
        with pytest.raises(RedisUnavailable):
            attempt()
    assert transcript(replicated, "s") == chat.acknowledged
    pair.fail_over()
    assert drain(replicated, SHARDS) == {Outcome.ARCHIVED: 1}
    chat.check()


def test_a_replica_that_lacks_the_last_turn_gets_it_back_from_the_archive(pair: Pair, replicated: Services) -> None:
    chat = Chat(replicated, "s")
    chat.say(5)
    pair.part()
    chat.say(4)
    assert archive_session(replicated, "s").outcome is Outcome.ARCHIVED
    pair.fail_over()
    assert replicated.sessions.messages("s") == chat.acknowledged[:5]
    chat.sleep()
    chat.check()


def test_a_replica_that_lacks_the_deletion_has_nothing_twice(pair: Pair, replicated: Services) -> None:
    chat = Chat(replicated, "s")
    prepare_woken(chat)
    pair.part()
    assert archive_session(replicated, "s").outcome is Outcome.ARCHIVED
    pair.fail_over()
    chat.check()
    chat.check_archived_once()


def test_a_turn_that_only_the_archive_has_and_one_that_only_the_replica_has_are_a_fork(
    pair: Pair, replicated: Services
) -> None:
    chat = Chat(replicated, "s")
    chat.say(5)
    pair.part()
    chat.say(4)
    set_aside = archive_session(replicated, "s").object_name
    pair.fail_over()
    del chat.acknowledged[5:]
    chat.say(2)
    chat.sleep()
    restored = restore_session(replicated, "s")
    assert list(restored.forks) == [set_aside]
    assert replicated.sessions.messages("s") == chat.acknowledged
    chat.check()
    assert set_aside in [segment.stored.name for segment in look(replicated.archive, "s").segments]


def test_a_replica_that_lacks_a_restore_and_what_followed_gets_it_back(pair: Pair, replicated: Services) -> None:
    chat = Chat(replicated, "s")
    prepare_asleep(chat)
    pair.part()
    restore_session(replicated, "s")
    chat.say(3)
    assert archive_session(replicated, "s").outcome is Outcome.ARCHIVED
    pair.fail_over()
    chat.say(2)
    chat.check()
    chat.check_archived_once()


def test_a_replica_that_lacks_the_last_turn_of_a_woken_session_gets_it_back(pair: Pair, replicated: Services) -> None:
    chat = Chat(replicated, "s")
    prepare_woken(chat)
    pair.part()
    chat.say(2)
    assert archive_session(replicated, "s").outcome is Outcome.ARCHIVED
    pair.fail_over()
    chat.sleep()
    chat.check()


@pytest.mark.parametrize("point", ["after snapshot", "before segment put", "after segment put"])
def test_a_failover_in_the_middle_of_an_archive_does_not_count_what_the_replica_lacks(
    pair: Pair, replicated: Services, point: str
) -> None:
    """What is uploaded then has more messages than the promoted replica, and later ones take their positions."""
    chat = Chat(replicated, "s")
    chat.say(5)
    pair.part()
    chat.say(4)
    watched, points = watch(replicated)
    points.at(point, pair.fail_over)
    archive_session(watched, "s")
    assert not points.pending
    uploaded = look(replicated.archive, "s").segments
    del chat.acknowledged[5:]
    chat.say(6)
    chat.sleep()
    restored = restore_session(replicated, "s")
    assert list(restored.forks) == [segment.stored.name for segment in uploaded]
    assert replicated.sessions.messages("s") == chat.acknowledged


def test_what_is_written_to_a_replica_that_lacks_a_clear_stays_in_redis(pair: Pair, replicated: Services) -> None:
    chat = Chat(replicated, "s")
    chat.say(5)
    pair.part()
    clear(replicated, chat)
    archive_session(replicated, "s")
    pair.fail_over()
    chat.say(2)
    result = archive_session(replicated, "s")
    assert isinstance(result.error, ClearForgotten)
    assert replicated.sessions.messages("s")[-2:] == chat.acknowledged


# Redis at its memory limit


def test_at_the_memory_limit_archiving_makes_room_again(tmp_path: Path, scratch: Path) -> None:
    server = start_redis(tmp_path, "--maxmemory-policy", "noeviction")
    try:
        services = services_at(server.url, scratch / "archive", batch=50)
        chats = [Chat(services, f"chat {number}") for number in range(60)]
        large = [b'{"content":"%b"}' % os.urandom(16_384).hex().encode()]
        for chat in chats:
            chat.say(3)
            services.sessions.append(chat.session_id, large)
            chat.acknowledged += large
            services.sessions.close(chat.session_id)
        client = services.sessions.client
        used = client.info("memory")["used_memory"]
        raw(client, "CONFIG", "SET", "maxmemory", used - 100_000)
        refused = Chat(services, "refused")
        with pytest.raises(RedisMemoryFull):
            refused.say()
        totals: Counter[Outcome] = Counter()
        while services.sessions.due_counts():
            totals += drain(services, SHARDS)
        assert totals[Outcome.ARCHIVED] == len(chats)
        assert client.info("memory")["used_memory"] < used - 1_000_000
        refused.say()
        refused.check()
        for chat in chats[:5]:
            chat.check()
        for chat in chats:
            assert transcript(services, chat.session_id) == chat.acknowledged
    finally:
        server.stop()


def test_at_the_memory_limit_a_store_that_was_down_and_a_poisoned_session_keep_nobody_in_redis(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_redis(tmp_path, "--maxmemory-policy", "noeviction")
    try:
        services = services_at(server.url, scratch / "archive", batch=8, max_attempts=2, retry_delay_seconds=0.2)
        chats = [Chat(services, f"chat {number}") for number in range(20)]
        for chat in chats:
            chat.say(2)
            services.sessions.close(chat.session_id)
        client = services.sessions.client
        poisoned = services.sessions.deployment.keyspace.of(b"chat 0").metadata(b"chat 0")
        raw(client, "HSET", poisoned, "base", "nonsense")
        raw(client, "CONFIG", "SET", "maxmemory", "1")
        with monkeypatch.context() as patch:

            def down(*_: object, **__: object) -> None:
                raise ArchiveUnavailable("the archive is down")

            patch.setattr(services.archive, "put", down)
            for _ in range(10):
                assert drain(services, SHARDS)[Outcome.ARCHIVED] == 0
        infos = [services.sessions.info(chat.session_id) for chat in chats[1:]]
        assert all(info and info.attempts == 0 for info in infos)

        def asleep() -> bool:
            drain(services, SHARDS)
            return list(services.sessions.sessions()) == []

        wait_until(asleep, what="all sleep but the poisoned one")
        assert list(services.sessions.sessions(quarantined=True)) == ["chat 0"]
        raw(client, "CONFIG", "SET", "maxmemory", "0")
        raw(client, "HDEL", poisoned, "base")
        assert services.sessions.requeue("chat 0")
        for chat in chats:
            chat.check()
    finally:
        server.stop()


# A server that was restarted with older data


def test_what_is_written_to_a_server_that_has_forgotten_a_clear_in_a_restart_stays_in_redis(
    tmp_path: Path, scratch: Path
) -> None:
    server = start_redis(tmp_path)
    services = services_at(server.url, scratch / "archive")
    chat = Chat(services, "s")
    chat.say(2)
    raw(services.sessions.client, "SAVE")
    services.sessions.clear("s")
    assert archive_session(services, "s").outcome in (Outcome.ERASED, Outcome.ARCHIVED)
    server.stop()
    server = start_redis(tmp_path, port=server.port)
    try:
        chat.say(1)
        result = archive_session(services, "s")
        assert result.outcome is Outcome.FAILED
        assert isinstance(result.error, ClearForgotten)
        assert services.sessions.messages("s", touch=False) == chat.acknowledged
    finally:
        server.stop()


def test_a_claim_whose_work_can_not_begin_is_given_back_at_once(
    direct: Services, unretried: Services, proxy: Proxy
) -> None:
    for number in range(6):
        Chat(direct, f"s{number}").say()
        direct.sessions.close(f"s{number}")
    for lost in ("attempts", "snapshot"):
        proxy.plan = first(lost, Fault.LOSE_REPLY)
        with pytest.raises(RedisUnavailable):
            drain(unretried, SHARDS)
        proxy.plan = no_fault
        assert sum(direct.sessions.due_counts().values()) == 6, f"all are due again after a lost {lost}"
        infos = [direct.sessions.info(f"s{number}") for number in range(6)]
        assert all(info and info.attempts == 0 for info in infos)
    assert drain(direct, SHARDS) == {Outcome.ARCHIVED: 6}


# Many at once


def test_many_writers_of_one_session_whose_replies_are_lost_at_once_write_each_turn_once(
    direct: Services, proxy: Proxy, scratch: Path
) -> None:
    everybody = threading.Barrier(8)
    own = [services_at(proxy.url, scratch / "archive", Retry(NoBackoff(), 5)) for _ in range(8)]
    for services in own:
        assert services.sessions.info("s") is None  # connected
    appends = count(1)
    proxy.plan = lambda name: Fault.LOSE_REPLY if name == "append" and next(appends) <= 8 else None
    chats = [Chat(direct, "s") for _ in own]

    def write(chat: Chat, services: Services) -> None:
        everybody.wait()
        for _ in range(5):
            chat.say(2, services)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, chats, own))
    proxy.plan = no_fault
    written = direct.sessions.messages("s")
    assert sorted(written) == sorted(message for chat in chats for message in chat.acknowledged)
    assert next(appends) > 48


def every_ninth() -> Plan:
    """A fault of another kind at every ninth command."""
    faults = (Fault.CUT_BEFORE, Fault.LOSE_REPLY, Fault.HALF_REPLY)
    commands = count(1)

    def plan(_: str) -> Fault | None:
        rounds, left = divmod(next(commands), 9)
        return None if left else faults[rounds % 3]

    return plan


def converse(chat: Chat, own: Services) -> None:
    for turn in range(30):
        chat.say(2, own)
        if turn % 7 == 6:
            own.sessions.close(chat.session_id)


def wake(chats: list[Chat], own: Services) -> None:
    for chat in chats:
        with suppress(SessionNotFound):
            restore_session(own, chat.session_id)


def test_writers_behind_a_line_that_keeps_breaking_write_each_turn_once_and_in_order(
    direct: Services, proxy: Proxy, scratch: Path
) -> None:
    """Four writers, a worker and a restorer, all of them behind the same line."""
    proxy.plan = every_ninth()
    chats = [Chat(direct, f"chat {number}") for number in range(4)]
    done = threading.Event()

    def connected() -> Services:
        return services_at(proxy.url, scratch / "archive", Retry(NoBackoff(), 20))

    def again_and_again(act: Callable[[Services], object], own: Services) -> None:
        while not done.is_set():
            act(own)

    with ThreadPoolExecutor(6) as pool:
        writers = [pool.submit(converse, chat, connected()) for chat in chats]
        workers = [
            pool.submit(again_and_again, act, connected())
            for act in (lambda own: drain(own, SHARDS), lambda own: wake(chats, own))
        ]
        wait(writers)
        done.set()
    for each in (*writers, *workers):
        each.result()
    proxy.plan = no_fault
    for chat in chats:
        chat.check()


def test_the_proxy_counts_and_names_what_it_passes_on(direct: Services, through: Services, proxy: Proxy) -> None:
    """The tests above mean nothing unless this holds."""
    plans: list[Plan] = [nth(3, Fault.CUT_BEFORE), first("info", Fault.LOSE_REPLY)]
    assert [plans[0](name) for name in "abcd"] == [None, None, Fault.CUT_BEFORE, None]
    assert [plans[1](name) for name in ("read", "info", "info")] == [None, Fault.LOSE_REPLY, None]
    direct.sessions.append("other", [b"{}"])
    _ = through.sessions.deployment
    proxy.commands.clear()
    through.sessions.append("s", [b"\r\n$3\r\n*2"])
    assert through.sessions.messages("s") == [b"\r\n$3\r\n*2"]
    assert through.sessions.due_counts() == {}
    assert proxy.commands == ["append", "read", "due"], "all shards in one script"
    with pytest.raises(RedisUnavailable):
        proxy.plan = lambda _: Fault.CUT_BEFORE
        SessionStore(redis.Redis.from_url(proxy.url, retry=NO_RETRY), shards=4).info("s")
