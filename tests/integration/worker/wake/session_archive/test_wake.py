"""Waking on access: with `archive=` the first read of a session brings it back."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.client_kinds import Chat, Connection
from support.keyspace import dump, lasting_keys
from support.observed import Points
from support.servers import RedisServer
from support.sessions import purge_session
from support.transcripts import read_transcript
from support.waiting import wait_until
from support.waking import LATE, SLEPT, events, fall_asleep, restored, watched, written
from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import OwnerMismatch, SessionPurged
from torpor.worker.archive import ownership
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveTaken
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.session_archive import SessionArchive

SHARDS = list(range(256))


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
    assert points.calls == []


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
    assert points.calls == []


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
    assert points.calls == ["list"]
    assert events(services) == []
    assert restored(services) == 0


def test_a_new_session_that_is_written_first_costs_a_listing_for_its_owner_and_one_for_the_read(
    connection: Connection, services: Services, archive: SessionArchive, points: Points
) -> None:
    chat = connection.chat(archive=archive)
    chat.add_messages(SLEPT)
    chat.add_messages(LATE)
    assert points.calls == ["list"]
    assert chat.messages == SLEPT + LATE
    assert chat.messages == SLEPT + LATE
    assert points.calls == ["list", "list"]
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
    assert points.calls == ["list"]
    assert chat.info() is None
    assert lasting_keys(services.sessions.client) > before
    wait_until(lambda: drain(services, SHARDS) == {Outcome.ARCHIVED: 1}, what="it is due and goes")
    noted = b":config", b":t", b":measures"
    left = {key for key in lasting_keys(services.sessions.client) - before if not key.endswith(noted)}
    assert left == set()
    assert not ownership.is_used(services.archive)
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


def test_a_clear_asks_the_archive_whose_the_session_is_and_then_it_reads_as_empty_without_a_look(
    connection: Connection, services: Services, archive: SessionArchive, points: Points
) -> None:
    fall_asleep(services)
    chat = connection.chat(archive=archive)
    chat.clear()
    assert points.calls == ["list"]
    assert chat.messages == []
    chat.add_messages(LATE)
    assert chat.messages == LATE
    drain(services, SHARDS)
    assert chat.messages == LATE
    assert points.calls == ["list"]


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
    assert points.calls == []


@pytest.mark.parametrize("point", ["before list", "before open"])
@pytest.mark.parametrize("purged", [False, True], ids=["cleared", "purged"])
def test_a_session_that_is_erased_while_it_wakes_reads_as_empty(
    connection: Connection, services: Services, points: Points, point: str, *, purged: bool
) -> None:
    fall_asleep(services)
    erase = partial(purge_session, services, "s") if purged else partial(services.sessions.clear, "s")
    points.at(point, erase)
    chat = connection.chat(archive=watched(services, points))
    assert chat.messages == []
    assert points.pending == []
    assert restored(services) == 0


def test_parts_of_different_owners_are_not_shown_as_one(
    connection: Connection, services: Services, archive: SessionArchive
) -> None:
    fall_asleep(services)
    chat = connection.chat(owner="bob", archive=archive)
    with pytest.raises(OwnerMismatch):
        chat.add_messages(LATE)
    with pytest.raises(OwnerMismatch):
        chat.messages  # noqa: B018
    assert services.sessions.info("s") is None
    services.sessions.append("s", written(LATE), owner="bob")
    with pytest.raises(OwnerMismatch):
        chat.messages  # noqa: B018
    assert services.sessions.info("s") is None


# Forked processes


def test_an_archive_that_was_used_before_a_fork_wakes_sessions_after_it(
    services: Services, redis_server: RedisServer
) -> None:
    archive = SessionArchive(services.archive.url)

    async def read(session_id: str) -> None:
        client = redis_server.asyncio_client()
        chat = MemorystoreChatMessageHistory(client, session_id, owner="ann", archive=archive)
        assert await chat.aget_messages() == (SLEPT if session_id == "s" else [])
        await client.aclose()

    asyncio.run(read("other"))  # the parent's threads have begun
    fall_asleep(services)
    child = multiprocessing.get_context("fork").Process(target=lambda: asyncio.run(read("s")))
    child.start()
    try:
        wait_until(lambda: child.exitcode is not None, 30, "the child has read the session")
    finally:
        child.kill()
        child.join()
    assert child.exitcode == 0
