"""Many who read one sleeping session at once, and archives that fail: it wakes once, or says why not."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from langchain_core.messages import BaseMessage, HumanMessage

from support.client_kinds import Connection
from support.keyspace import raw
from support.observed import ObservedArchive, Points
from support.servers import RedisServer
from support.storage_proxy import StorageProxy, answered
from support.waiting import scaled, wait_until
from support.waking import LATE, SLEPT, described, events, fall_asleep, restored, services_of, written
from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import RestoreRefusal, SessionStore
from torpor.history.store import SessionOperations
from torpor.worker import failpoints
from torpor.worker.archive.stores import objects
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveUnavailable
from torpor.worker.failpoints import Failpoint
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.wake.session_archive import SessionArchive


@pytest.fixture
def in_gcs(redis_server: RedisServer, sessions: SessionStore, bucket: str, proxy: StorageProxy) -> Services:
    """The same deployment with an archive in a bucket, behind the proxy."""
    return services_of(redis_server, sessions, f"gs://{bucket}/chats")


class Killed(BaseException):
    """Ends the process here."""


def kill(_: Failpoint | None = None) -> None:
    raise Killed


# Many at once


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The answers to all callers that have asked to wake a session."""
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
    assert points.calls == ["list", "open"]
    assert restored(services) == 1
    assert len(events(services)) == 1


READER = """
import sys, redis, redis.cluster
from torpor import MemorystoreChatMessageHistory
from torpor import SessionArchive
from torpor.history.protocol import SessionStore, run_sync
kind, redis_url, archive_url = sys.argv[1:]
client = (redis.cluster.RedisCluster if kind == "cluster" else redis.Redis).from_url(redis_url)
archive = SessionArchive(archive_url)
run_sync(archive._compare(SessionStore(client).operations))  # each process asks once whose archive it is
chat = MemorystoreChatMessageHistory(client, "s", owner="ann", archive=archive)
print("ready", flush=True)
sys.stdin.readline()
print(*(message.text for message in chat.messages), flush=True)
client.close()
"""


@pytest.mark.slow
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
    assert [process.communicate(timeout=scaled(60))[0] for process in started] == ["one two three four\n"] * 4
    assert (proxy.kinds().count("list"), proxy.kinds().count("read")) == (1, 1)
    assert restored(in_gcs) == 1


def test_readers_of_many_sessions_do_not_wait_for_each_other(
    connection: Connection, services: Services, archive: SessionArchive, points: Points
) -> None:
    names = [f"s{number}" for number in range(4)]
    for name in names:
        services.sessions.append(name, written([HumanMessage(name)]), owner="ann")
        archive_session(services, name)
    together = threading.Barrier(len(names), timeout=30)
    real = archive._store.list

    def wait_and_list(*args: Any, **options: Any) -> Any:
        together.wait()
        return real(*args, **options)

    archive._store = ObservedArchive(open_archive(services.archive.url), points)
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
    services.sessions.append("s", written(LATE), owner="ann")
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
    [Failpoint.RESTORE_BEGUN, Failpoint.RESTORE_STAGED, Failpoint.RESTORE_READ, Failpoint.RESTORE_FINISHED],
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
    services.sessions.append("s", written(LATE), owner="ann")
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
            chat = MemorystoreChatMessageHistory(client, "s", owner="ann", archive=archive)
            cancelled = asyncio.create_task(chat.aget_messages())
            await listing.wait()
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            go_on.set()
            assert await chat.ainfo() is None
            return await asyncio.wait_for(chat.aget_messages(), 10)

    assert asyncio.run(read()) == SLEPT
    assert points.calls == ["list", "list", "open"]


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
            chat = MemorystoreChatMessageHistory(client, "s", owner="ann", archive=archive)
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
