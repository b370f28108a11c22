"""Waking on access: with `archive=` the first read of a session brings it back, once, whoever asks, whatever fails."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from support.client_kinds import Chat, Connection, Kind
from support.keyspace import dump, lasting_keys, raw
from support.observed import Points, WatchedArchive
from support.servers import RedisServer
from support.sessions import age, purge_session, with_settings
from support.storage_proxy import StorageProxy, answered
from support.waiting import wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.history.adapters.messages import encode_message
from torpor.history.protocol import Expiry, OwnerMismatch, RestoreRefusal, SessionInfo, SessionPurged, SessionStore
from torpor.history.store import SessionOperations
from torpor.worker import failpoints
from torpor.worker.archive import contents, names, ownership
from torpor.worker.archive.stores import objects
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import PolicySettings, Settings
from torpor.worker.errors import ArchiveTaken, ArchiveUnavailable
from torpor.worker.failpoints import Failpoint
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import read_transcript
from torpor.worker.wake.session_archive import SessionArchive

SLEPT: list[BaseMessage] = [HumanMessage("one"), AIMessage("two"), HumanMessage("three"), AIMessage("four")]
LATE: list[BaseMessage] = [HumanMessage("five")]
SHARDS = list(range(256))
MONTH = timedelta(days=30)


def written(messages: list[BaseMessage]) -> list[bytes]:
    return list(map(encode_message, messages))


@pytest.fixture
def services(redis_server: RedisServer, sessions: SessionStore, scratch: Path) -> Services:
    return services_of(redis_server, sessions, (scratch / "archive").as_uri())


def services_of(server: RedisServer, sessions: SessionStore, url: str) -> Services:
    settings = Settings(**server.settings, archive_url=url, lease_seconds=30)
    services = Services(settings, sessions, open_archive(url))
    ownership.take(services.archive, settings.namespace)
    return services


@pytest.fixture
def in_gcs(redis_server: RedisServer, sessions: SessionStore, bucket: str, proxy: StorageProxy) -> Services:
    """The same deployment with an archive in a bucket, behind the proxy."""
    return services_of(redis_server, sessions, f"gs://{bucket}/chats")


@pytest.fixture(params=[False, True], ids=["blocking", "asyncio"])
def connection(client: redis.Redis, redis_server: RedisServer, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """An application's client of the same Redis, of either kind."""
    kind = Kind("redis", "cluster" if "redis_cluster" in redis_server.settings else "node", request.param)
    user = {"username": redis_server.user, "password": redis_server.password} if redis_server.user else {}
    connected = Connection(kind, redis_server.port, **user)
    yield connected
    connected.close()


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.arm()


@pytest.fixture
def points() -> Points:
    return Points()


@pytest.fixture
def archive(services: Services, points: Points) -> SessionArchive:
    """An application's archive, with a point before and after each call."""
    return watched(SessionArchive(services.archive.url), points)


def watched(archive: SessionArchive, points: Points) -> SessionArchive:
    archive.check()  # once for a process, which is no matter of the tests
    archive._store = WatchedArchive(archive._store, points)
    return archive


class Killed(BaseException):
    """Stands for a process that ends here."""


def kill(_: Failpoint | None = None) -> None:
    raise Killed


def fall_asleep(services: Services, messages: list[BaseMessage] = SLEPT, **options: Any) -> None:
    services.sessions.append("s", written(messages), owner="ann", **options)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED


def described(services: Services) -> SessionInfo:
    found = services.sessions.info("s")
    assert found is not None
    return found


def restored(services: Services) -> int:
    """How many sessions were ever restored."""
    return sum(shard.restored for shard in services.sessions.overview())


def events(services: Services) -> list[dict[str, Any]]:
    return [told for _, told in services.sessions.last_events(100) if told["kind"] == "session.restored"]


# The first read


def test_the_first_read_brings_a_session_back_and_the_next_ones_cost_nothing(
    connection: Connection, services: Services, archive: SessionArchive, points: Points
) -> None:
    fall_asleep(services)
    chat = connection.chat(archive=archive)
    assert chat.messages == SLEPT
    assert points.log.count("before list") == 1
    points.log.clear()
    chat.add_messages(LATE)
    assert chat.messages == SLEPT + LATE
    assert len(chat) == 5
    assert connection.chat(archive=archive).last(2) == [*SLEPT, *LATE][-2:]
    assert points.log == []


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda chat: chat.last(3), SLEPT[-3:]),
        (lambda chat: chat.pages(3), [SLEPT[:3], SLEPT[3:]]),
        (lambda chat: chat.pages(3, newest_first=True), [SLEPT[1:], SLEPT[:1]]),
        (len, 4),
    ],
    ids=["last", "pages", "newest first", "len"],
)
def test_reading_a_part_of_a_session_wakes_it_too(
    connection: Connection, services: Services, archive: SessionArchive, read: Callable[[Chat], Any], expected: Any
) -> None:
    fall_asleep(services)
    assert read(connection.chat(archive=archive)) == expected


def test_what_describes_or_closes_a_session_leaves_it_asleep(
    connection: Connection, services: Services, archive: SessionArchive, points: Points
) -> None:
    fall_asleep(services)
    chat = connection.chat(archive=archive)
    assert chat.info() is None
    assert chat.close() is False
    assert points.log == []


def test_a_session_that_was_written_to_while_it_slept_comes_back_whole(
    connection: Connection, services: Services, archive: SessionArchive
) -> None:
    chat = connection.chat(ttl=600, archive_retention=6_000, owner="ann", archive=archive)
    chat.add_messages(SLEPT)
    before = chat.info()
    archive_session(services, "s")
    connection.chat().add_messages(LATE)
    assert chat.messages == SLEPT + LATE
    after = chat.info()
    assert (after.expiry, after.owner, after.created) == (before.expiry, before.owner, before.created)
    assert (after.complete, after.restored_count, after.message_count) == (True, 4, 5)


def test_without_an_archive_a_session_stays_asleep(connection: Connection, services: Services) -> None:
    fall_asleep(services)
    before = dump(services.sessions.client)
    chat = connection.chat()
    assert chat.messages == []
    assert len(chat) == 0
    assert chat.pages(10) == []
    assert dump(services.sessions.client) == before
    assert read_transcript(services, "s") == written(SLEPT)


def test_that_a_session_woke_up_is_told(connection: Connection, services: Services, archive: SessionArchive) -> None:
    fall_asleep(services)
    assert connection.chat(archive=archive).messages == SLEPT
    [told] = events(services)
    assert (told["session"], told["owner"], told["messages"]) == ("s", "ann", "4")


# A new session


def test_a_new_session_costs_one_listing(
    connection: Connection, services: Services, archive: SessionArchive, points: Points
) -> None:
    chat = connection.chat(archive=archive)
    assert chat.messages == []
    assert len(chat) == 0
    chat.add_messages(SLEPT)
    assert chat.messages == SLEPT
    assert connection.chat(archive=archive).messages == SLEPT
    assert points.log == ["before list"]
    assert events(services) == []
    assert restored(services) == 0


def test_a_new_session_that_is_written_first_costs_one_listing(
    connection: Connection, services: Services, archive: SessionArchive, points: Points
) -> None:
    chat = connection.chat(archive=archive)
    chat.add_messages(SLEPT)
    assert chat.messages == SLEPT
    assert chat.messages == SLEPT
    assert points.log == ["before list"]
    assert events(services) == []


def test_what_is_remembered_as_empty_is_gone_after_its_minute(
    connection: Connection,
    services: Services,
    archive: SessionArchive,
    points: Points,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torpor.worker.wake.session_archive._LEASE", timedelta(seconds=0.2))
    before = lasting_keys(services.sessions.client)
    chat = connection.chat(archive=archive)
    for _ in range(3):
        assert chat.messages == []
    assert points.log == ["before list"]
    assert chat.info() is None
    assert lasting_keys(services.sessions.client) > before
    wait_until(lambda: drain(services, SHARDS) == {Outcome.ARCHIVED: 1}, what="it is due and goes")
    left = {key for key in lasting_keys(services.sessions.client) - before if not key.endswith((b":config", b":t"))}
    assert left == set()
    assert [stored for stored in services.archive.list("v1/") if stored.name != names.DEPLOYMENT] == []
    assert services.sessions.last_events(10) == []


def test_a_turn_of_more_than_a_minute_keeps_what_is_written_at_its_end(
    connection: Connection, services: Services, archive: SessionArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torpor.worker.wake.session_archive._LEASE", timedelta(seconds=0.1))
    chat = connection.chat(archive=archive)
    assert chat.messages == []
    wait_until(lambda: drain(services, SHARDS) == {Outcome.ARCHIVED: 1})
    chat.add_messages(SLEPT)
    assert chat.messages == SLEPT


# Another deployment's archive


def test_the_archive_of_another_deployment_wakes_nothing(
    connection: Connection, services: Services, archive: SessionArchive, points: Points
) -> None:
    fall_asleep(services)
    before = lasting_keys(services.sessions.client)
    theirs = connection.chat(archive=archive, namespace="other")
    for read in (lambda: theirs.messages, partial(theirs.last, 1), partial(len, theirs)):
        with pytest.raises(ArchiveTaken, match="another namespace than 'other'"):
            read()
    assert lasting_keys(services.sessions.client) == before
    assert connection.chat(archive=archive).messages == SLEPT


def test_an_archive_that_is_nobody_s_yet_is_asked_until_it_is_somebody_s(
    connection: Connection, services: Services, scratch: Path
) -> None:
    archive = SessionArchive((scratch / "new").as_uri())
    chat = connection.chat(archive=archive, namespace="other")
    assert chat.messages == []
    ownership.take(open_archive((scratch / "new").as_uri()), "torpor")
    with pytest.raises(ArchiveTaken):
        archive.check("other")
    archive.check("torpor")


# What is not to come back


def test_a_cleared_session_reads_as_empty_without_a_look_at_the_archive(
    connection: Connection, services: Services, archive: SessionArchive, points: Points
) -> None:
    fall_asleep(services)
    chat = connection.chat(archive=archive)
    chat.clear()
    assert chat.messages == []
    chat.add_messages(LATE)
    assert chat.messages == LATE
    assert points.log == []
    drain(services, SHARDS)
    assert chat.messages == LATE
    assert points.log == []


def test_a_purged_session_reads_as_empty_without_a_look_at_the_archive(
    connection: Connection, services: Services, archive: SessionArchive, points: Points
) -> None:
    fall_asleep(services)
    purge_session(services, "s")
    chat = connection.chat(archive=archive)
    assert chat.messages == []
    assert len(chat) == 0
    with pytest.raises(SessionPurged):
        chat.add_messages(LATE)
    assert points.log == []


@pytest.mark.parametrize("point", ["before list", "before open"])
@pytest.mark.parametrize("purged", [False, True], ids=["cleared", "purged"])
def test_a_session_that_is_erased_while_it_wakes_reads_as_empty(
    connection: Connection, services: Services, points: Points, point: str, *, purged: bool
) -> None:
    fall_asleep(services)
    erase = partial(purge_session, services, "s") if purged else partial(services.sessions.clear, "s")
    points.at(point, erase)
    chat = connection.chat(archive=watched(SessionArchive(services.archive.url), points))
    assert chat.messages == []
    assert points.pending == []
    assert restored(services) == 0


def test_parts_of_different_owners_are_not_shown_as_one(
    connection: Connection, services: Services, archive: SessionArchive
) -> None:
    fall_asleep(services)
    chat = connection.chat(owner="bob", archive=archive)
    chat.add_messages(LATE)
    with pytest.raises(OwnerMismatch):
        chat.messages  # noqa: B018
    assert services.sessions.messages("s") == written(LATE)


# Many at once


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What each was told that has asked to wake a session."""
    told: list[Any] = []
    ask = SessionOperations.begin_restore

    async def noted(self: SessionOperations, *args: Any, **options: Any) -> Any:
        answer = await ask(self.runner, *args, **options)
        told.append(answer)
        return answer

    monkeypatch.setattr(SessionOperations, "begin_restore", noted)
    return told


def test_of_many_threads_or_tasks_that_read_at_once_one_wakes_the_session(
    connection: Connection, services: Services, archive: SessionArchive, points: Points, answers: list[Any]
) -> None:
    many = 16
    fall_asleep(services)
    points.at("before list", lambda: wait_until(lambda: answers.count(RestoreRefusal.RUNNING) >= many - 1))
    reads = [partial(connection.chat(archive=archive).act, "get_messages") for _ in range(many)]
    if not connection.kind.asynchronous:
        reads = [partial(getattr, connection.chat(archive=archive), "messages") for _ in range(many)]
    assert connection.at_once(reads) == [SLEPT] * many
    assert points.log == ["before list", "before open"]
    assert restored(services) == 1
    assert len(events(services)) == 1


READER = """
import sys, redis, redis.cluster
from torpor import MemorystoreChatMessageHistory
from torpor import SessionArchive
kind, redis_url, archive_url = sys.argv[1:]
client = (redis.cluster.RedisCluster if kind == "cluster" else redis.Redis).from_url(redis_url)
archive = SessionArchive(archive_url)
archive.check()  # each process asks once whose archive it is
chat = MemorystoreChatMessageHistory(client, "s", archive=archive)
print("ready", flush=True)
sys.stdin.readline()
print(*(message.text for message in chat.messages), flush=True)
client.close()
"""


def test_of_many_processes_that_read_at_once_one_wakes_the_session_from_gcs(
    redis_server: RedisServer, in_gcs: Services, proxy: StorageProxy
) -> None:
    fall_asleep(in_gcs)
    kind = "cluster" if "redis_cluster" in redis_server.settings else "node"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", READER, kind, redis_server.url, in_gcs.archive.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    proxy.heal()
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[0] for process in started] == ["one two three four\n"] * 4
    assert (proxy.kinds().count("list"), proxy.kinds().count("read")) == (1, 1)
    assert restored(in_gcs) == 1


def test_readers_of_many_sessions_do_not_wait_for_each_other(
    connection: Connection, services: Services, archive: SessionArchive, points: Points
) -> None:
    names = [f"s{number}" for number in range(4)]
    for name in names:
        services.sessions.append(name, written([HumanMessage(name)]))
        archive_session(services, name)
    together = threading.Barrier(len(names), timeout=30)
    real = archive._store.list

    def wait_and_list(*args: Any, **options: Any) -> Any:
        together.wait()
        return real(*args, **options)

    archive._store = WatchedArchive(open_archive(services.archive.url), points)
    object.__setattr__(archive._store, "list", wait_and_list)
    chats = [connection.chat(name, archive=archive) for name in names]
    reads = [
        partial(chat.act, "get_messages") if connection.kind.asynchronous else partial(getattr, chat, "messages")
        for chat in chats
    ]
    assert connection.at_once(reads) == [[HumanMessage(name)] for name in names]


# Failures


def test_while_the_archive_is_down_reads_say_so_and_then_the_session_wakes_from_gcs(
    connection: Connection, in_gcs: Services, proxy: StorageProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fall_asleep(in_gcs)
    monkeypatch.setattr(objects, "_RETRY", objects._RETRY.with_timeout(0.02))
    chat = connection.chat(archive=SessionArchive(in_gcs.archive.url))
    proxy.fail(answered(503))
    for read in (partial(getattr, chat, "messages"), partial(len, chat), partial(chat.last, 1)):
        with pytest.raises(ArchiveUnavailable):
            read()
    assert in_gcs.sessions.info("s") is None
    proxy.heal()
    assert chat.messages == SLEPT


def test_a_session_of_which_a_part_is_in_redis_is_as_it_was_when_its_archive_could_not_be_read(
    connection: Connection, services: Services, archive: SessionArchive, points: Points
) -> None:
    fall_asleep(services)
    services.sessions.append("s", written(LATE))
    before = described(services)

    def fail() -> None:
        raise ArchiveUnavailable("of the test")

    points.at("before open", fail)
    chat = connection.chat(archive=archive)
    with pytest.raises(ArchiveUnavailable):
        chat.messages  # noqa: B018
    assert services.sessions.messages("s", touch=False) == written(LATE)
    after = described(services)
    assert (after.epoch, after.status, after.complete) == (before.epoch, before.status, False)
    assert chat.messages == SLEPT + LATE


def test_while_the_archive_is_down_a_session_that_is_whole_is_read_and_written(
    connection: Connection, services: Services, archive: SessionArchive, points: Points
) -> None:
    fall_asleep(services)
    chat = connection.chat(archive=archive)
    assert chat.messages == SLEPT
    points.at("before list", partial(pytest.fail, "the archive was asked"))
    chat.add_messages(LATE)
    assert chat.messages == SLEPT + LATE


@pytest.mark.parametrize(
    "failpoint",
    [Failpoint.RESTORE_BEGUN, Failpoint.RESTORE_STAGED, Failpoint.RESTORE_READ, Failpoint.RESTORE_SWAPPED],
)
def test_where_one_that_wakes_a_session_dies_another_goes_on(
    connection: Connection,
    services: Services,
    archive: SessionArchive,
    failpoint: Failpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torpor.worker.wake.session_archive._LEASE", timedelta(seconds=0.3))
    fall_asleep(services)
    services.sessions.append("s", written(LATE))
    failpoints.arm(lambda reached: kill() if reached is failpoint else None)
    with pytest.raises(Killed):
        connection.chat(archive=archive).messages  # noqa: B018
    failpoints.arm()
    assert connection.chat(archive=archive).messages == SLEPT + LATE
    assert restored(services) == 1
    wait_until(lambda: not raw(services.sessions.client, "KEYS", "*:r:*"), what="what was staged expires")


def test_a_read_that_is_cancelled_leaves_the_session_to_others_at_once(
    redis_server: RedisServer, services: Services, archive: SessionArchive, points: Points
) -> None:
    fall_asleep(services)

    async def read() -> list[BaseMessage]:
        listing, go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def hang() -> None:
            loop.call_soon_threadsafe(listing.set)
            assert go_on.wait(30)

        points.at("before list", hang)
        async with redis_server.asyncio_client() as client:
            chat = MemorystoreChatMessageHistory(client, "s", archive=archive)
            cancelled = asyncio.create_task(chat.aget_messages())
            await listing.wait()
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            go_on.set()
            assert await chat.ainfo() is None
            return await asyncio.wait_for(chat.aget_messages(), 10)

    assert asyncio.run(read()) == SLEPT
    assert points.log == ["before list", "before list", "before open"]


@pytest.mark.parametrize("point", ["before list", "before open"])
def test_the_event_loop_goes_on_while_the_archive_is_slow(
    redis_server: RedisServer, services: Services, archive: SessionArchive, points: Points, point: str
) -> None:
    fall_asleep(services)
    beats: list[int] = []
    points.at(point, lambda: wait_until(lambda: len(beats) >= 10, what="the heart beats"))

    async def beat() -> None:
        while True:
            beats.append(1)
            await asyncio.sleep(0)

    async def read() -> list[BaseMessage]:
        async with redis_server.asyncio_client() as client:
            chat = MemorystoreChatMessageHistory(client, "s", archive=archive)
            await chat.ainfo()
            beats.clear()
            heart = asyncio.create_task(beat())
            points_before = list(points.pending)
            found = await chat.aget_messages()
            heart.cancel()
            assert points_before == [point]
            return found

    assert asyncio.run(read()) == SLEPT
    assert points.pending == []


# How long the archive keeps what wakes up


def ends(services: Services) -> set[datetime | None]:
    return {segment.stored.custom_time for segment in contents.look(services.archive, "s").segments}


def fall_asleep_idle(services: Services, by: timedelta, **options: Any) -> None:
    """Archive a session that was last used so long ago."""
    services.sessions.append("s", written(SLEPT), owner="ann", **options)
    age(services.sessions.client, "s", by)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED


def record(services: Services) -> None:
    """What a worker does when it starts."""
    settings = services.settings
    services.sessions.configure(
        idle=timedelta(days=1), max_age=None, retention=settings.archive_retention, policies=settings.rules
    )


def assert_kept(services: Services, span: timedelta) -> None:
    """The archive keeps the session for so long from now on."""
    [until] = ends(services)
    assert until is not None
    assert abs(until - span - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("known", [False, True], ids=["new to the application", "recorded before"])
def test_a_session_that_wakes_up_is_kept_for_the_retention_that_a_worker_has_recorded(
    connection: Connection, services: Services, archive: SessionArchive, *, known: bool
) -> None:
    chat = connection.chat(archive=archive)
    if not known:
        assert connection.chat("earlier").messages == []
        connection.chat("earlier").add_messages(LATE)  # the application has asked for the defaults already
    monthly = with_settings(services, archive_retention_seconds=int(MONTH.total_seconds()))
    record(monthly)
    fall_asleep_idle(monthly, timedelta(days=10))
    [before] = ends(services)
    assert before is not None
    assert before < datetime.now(UTC) + timedelta(days=21)
    assert chat.messages == SLEPT
    assert_kept(services, MONTH)


def test_a_policy_that_a_worker_has_recorded_counts_when_a_session_wakes_up(
    connection: Connection, services: Services, archive: SessionArchive
) -> None:
    rules = (PolicySettings(owner="ann", archive_retention_seconds=int(MONTH.total_seconds())),)
    ruled = with_settings(services, policies=rules)
    record(ruled)
    fall_asleep_idle(ruled, timedelta(days=10))
    assert connection.chat(archive=archive).messages == SLEPT
    assert_kept(services, MONTH)


def test_a_sessions_own_retention_counts_when_it_wakes_up(
    connection: Connection, services: Services, archive: SessionArchive
) -> None:
    record(services)
    fall_asleep_idle(services, timedelta(days=10), expiry=Expiry(retention=MONTH))
    assert connection.chat(archive=archive).messages == SLEPT
    assert_kept(services, MONTH)
    assert described(services).expiry.retention == MONTH


def test_where_no_worker_has_said_how_long_archives_are_kept_they_stay_as_they_are(
    connection: Connection, services: Services, archive: SessionArchive, points: Points
) -> None:
    fall_asleep_idle(with_settings(services, archive_retention_seconds=int(MONTH.total_seconds())), timedelta(days=10))
    before = ends(services)
    assert None not in before
    assert connection.chat(archive=archive).messages == SLEPT
    assert ends(services) == before


def test_what_is_kept_for_ever_stays_so_when_it_wakes_up(
    connection: Connection, services: Services, archive: SessionArchive, points: Points
) -> None:
    record(services)
    fall_asleep(services)
    assert connection.chat(archive=archive).messages == SLEPT
    assert ends(services) == {None}
    assert "before amend" not in points.log


def test_what_has_expired_does_not_wake_up(connection: Connection, services: Services, archive: SessionArchive) -> None:
    monthly = with_settings(services, archive_retention_seconds=int(MONTH.total_seconds()))
    record(monthly)
    fall_asleep_idle(monthly, timedelta(days=31))
    assert connection.chat(archive=archive).messages == []
    assert [until < datetime.now(UTC) for until in ends(services) if until] == [True]
