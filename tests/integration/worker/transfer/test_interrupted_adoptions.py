"""Adoptions that are killed, repeated or run at once, and full or absent servers."""

from __future__ import annotations

import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from support.adopting import (
    FORMATS,
    MEMORYSTORE,
    Killed,
    Moments,
    history,
    idle_seconds,
    kill_when,
    leftovers,
    moments,
    said,
)
from support.foreign import LAYOUTS, Foreign
from support.keyspace import raw
from support.observed import ObservedStore
from support.servers import RedisServer, start_redis
from support.transcripts import read_transcript
from torpor.history import calls
from torpor.history.calls import Call
from torpor.history.protocol import (
    MessageCorrupt,
    RedisUnavailable,
    SessionStore,
)
from torpor.history.store.runner import Runner
from torpor.worker.deployment.services import Services
from torpor.worker.ops import doctor
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.wake.session_archive import SessionArchive


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_killed_anywhere_an_adoption_is_finished_by_the_next(
    client: redis.Redis, services: Services, name: str
) -> None:
    total = moments(client, name)
    assert total > 20
    for moment in range(total):
        session_id = f"s{moment}"
        theirs = Foreign(client, LAYOUTS[name], session_id, ttl=600)
        theirs.add(*"abcde")
        passing = Moments()
        store = ObservedStore(client, passing)
        passing.passed, passing.dies_at = 0, moment
        with pytest.raises(Killed):
            store.adopt(session_id, LAYOUTS[name])
        if moment % 2:
            theirs.add("f")
        if moment % 3 == 0:
            archive_session(services, session_id)
        chat = history(client, session_id, adopt=name, archive=SessionArchive(services.archive.url))
        assert said(chat) == [*"abcdef"][: 5 + moment % 2], moment
        assert idle_seconds(chat) in (600, 599)
        for ended in services.sessions.adoptions():  # killed just before its record was deleted
            assert services.sessions.finish_adoption(ended) == 0
        assert leftovers(client) == []


@pytest.mark.usefixtures("small_pages")
def test_a_session_that_is_archived_in_the_middle_of_its_adoption_is_complete_in_the_end(
    client: redis.Redis, services: Services
) -> None:
    Foreign(client).add(*"abcdefgh")
    passing = Moments()
    store = ObservedStore(client, passing)
    passing.meanwhile = lambda: archive_session(services, "s")
    store.adopt("s", MEMORYSTORE)
    found = [json.loads(element)["data"]["content"] for element in read_transcript(services, "s")]
    assert found == [*"abcdefgh"]


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("name", FORMATS)
def test_of_many_who_adopt_at_once_each_message_is_written_by_one(
    client: redis.Redis, redis_server: RedisServer, name: str
) -> None:
    sessions = [f"s{number}" for number in range(20)]
    for session_id in sessions:
        Foreign(client, LAYOUTS[name], session_id).add(*"abcdefg")
    together = threading.Barrier(4)

    def adopt_all(_: int) -> int:
        with redis_server.client() as connected:
            store = SessionStore(connected)
            together.wait()
            return sum(store.adopt(session_id, LAYOUTS[name]) for session_id in sessions)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(adopt_all, range(4))) >= 7 * len(sessions)
    for session_id in sessions:
        assert said(history(client, session_id)) == [*"abcdefg"]
    assert leftovers(client) == []


def test_two_layouts_of_one_session_are_adopted_one_after_the_other(client: redis.Redis) -> None:
    Foreign(client, LAYOUTS["community"]).add("a", "b")
    passing = Moments()
    store = ObservedStore(client, passing)
    passing.meanwhile = lambda: kill_when(client, taken=True)
    with pytest.raises(Killed):
        store.adopt("s", LAYOUTS["community"])
    Foreign(client).add("c")
    assert said(history(client, adopt="memorystore")) == ["a", "b", "c"]
    assert leftovers(client) == []


def test_a_taking_that_is_sent_again_much_later_takes_the_new_messages_as_new_ones(client: redis.Redis) -> None:
    """The first sending was executed, its reply lost, and others have finished meanwhile; as many messages came."""
    theirs = Foreign(client)
    theirs.add("a", "b")
    store = SessionStore(client)
    sent = calls.take_list("torpor", "s", MEMORYSTORE, "0a1b", 2)
    assert store.run(sent)
    store.adopt("s", MEMORYSTORE)
    theirs.add("c", "d")
    assert store.run(sent)
    assert said(history(client)) == ["a", "b", "c", "d"]


def test_a_redis_that_is_away_is_an_error_and_the_next_use_adopts(client: redis.Redis) -> None:
    Foreign(client).add("a")
    chat = history(client)
    perform, sent = Runner.perform, itertools.count()

    async def fail(self: Any, call: Call[Any]) -> Any:
        if next(sent) == 3:
            raise RedisUnavailable("gone")
        return await perform(self, call)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, "perform", fail)
        with pytest.raises(RedisUnavailable):
            _ = chat.messages
    assert said(chat) == ["a"]


@pytest.mark.single_node(reason="the limit is one node's")
def test_at_the_memory_limit_what_another_library_has_can_still_be_adopted(tmp_path: Path) -> None:
    server = start_redis(tmp_path, "--maxmemory-policy", "noeviction")
    try:
        with server.client() as client:
            Foreign(client).add(*"abc")
            raw(client, "CONFIG", "SET", "maxmemory", "1")
            assert said(history(client)) == [*"abc"]
            assert leftovers(client) == []
    finally:
        server.stop()


def test_the_doctor_finds_adoptions_at_which_nobody_is_and_finishes_them(
    client: redis.Redis, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    for session_id, taken in (("a", True), ("b", False)):
        Foreign(client, LAYOUTS["community"], session_id).add("x")
        passing = Moments()
        store = ObservedStore(client, passing)
        passing.meanwhile = lambda taken=taken: kill_when(client, taken=taken) if leftovers(client) else None  # type: ignore[misc]
        with pytest.raises(Killed):
            store.adopt(session_id, LAYOUTS["community"])
        assert [each.session_id for each in services.sessions.adoptions()] == [session_id]
        assert list(doctor.examine(services)) == []  # somebody may be at it
        with monkeypatch.context() as patch:
            patch.setattr(doctor, "_ADOPTING", timedelta(seconds=-1))
            [finding] = doctor.examine(services)
            assert (finding.session_id, finding.ailment) == (session_id, "adoption that was not finished")
            assert f"message_store:{session_id}" in str(finding.detail)
            [repaired] = doctor.examine(services, repair=True)
            assert repaired.repaired
        assert leftovers(client) == []
        assert said(history(client, session_id, adopt="community")) == ["x"]


@pytest.mark.parametrize("record", [b"", b"{}", b"1:[1]", b"x:[]", b'1:["n", 7, false, null, 0]'], ids=repr)
def test_a_record_that_somebody_has_damaged_is_named(client: redis.Redis, services: Services, record: bytes) -> None:
    theirs = Foreign(client)
    theirs.add("a")
    chat = history(client, adopt=None)
    chat.add_user_message("b")
    [key] = raw(client, "KEYS", "*:s:s")
    raw(client, "HSET", key.replace(b":s:s", b":a"), "s", record)
    with pytest.raises(MessageCorrupt, match="the adoption of session 's' is damaged"):
        history(client).info()
    assert theirs.elements
    assert said(chat) == ["b"]
    assert services.sessions.adoptions() == []
