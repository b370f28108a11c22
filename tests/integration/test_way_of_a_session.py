"""The way of a session: live, due, archived, gone from Redis, and back."""

from __future__ import annotations

import gzip
import json

import pytest
import redis
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from support.keyspace import lasting_keys, raw
from support.sessions import purge_session
from support.transcripts import read_transcript
from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import SessionNotFound, Status
from torpor.worker.archive import contents, names
from torpor.worker.deployment.services import Services
from torpor.worker.erasure.receipt import PurgeState
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import RestoreOutcome, restore_session

TURN: list[BaseMessage] = [HumanMessage("Wie geht's? 😀"), AIMessage("gut\n", id="run-1")]


def history(client: redis.Redis, session_id: str = "s", **options: object) -> MemorystoreChatMessageHistory:
    return MemorystoreChatMessageHistory(client, session_id, **options)  # type: ignore[arg-type]


def stored(client: redis.Redis, session_id: str = "s") -> list[bytes]:
    [key] = raw(client, "KEYS", f"*:m:{session_id}")
    elements: list[bytes] = raw(client, "LRANGE", key, 0, -1)
    return elements


def test_a_session_goes_to_sleep_and_wakes_up_byte_for_byte(client: redis.Redis, services: Services) -> None:
    chat = history(client, owner="ann", ttl=3600)
    chat.add_messages(TURN)
    created = chat.info()
    before = stored(client)
    assert chat.close()
    due = services.sessions.due_counts()
    assert sum(due.values()) == 1
    assert drain(services, list(due)) == {Outcome.ARCHIVED: 1}
    assert {key.rpartition(b":")[2] for key in lasting_keys(client)} == {
        b"archive",
        b"config",
        b"events",
        b"measures",
        b"t",
    }

    restored = restore_session(services, "s")
    assert (restored.outcome, restored.messages) == (RestoreOutcome.RESTORED, 2)
    assert stored(client) == before
    assert chat.messages == TURN
    woken = chat.info()
    assert woken and created
    assert (woken.created, woken.owner, woken.expiry) == (created.created, "ann", created.expiry)
    assert (woken.message_count, woken.archived_count, woken.complete) == (2, 2, True)


def test_messages_written_to_a_sleeping_session_follow_the_old_ones(client: redis.Redis, services: Services) -> None:
    chat = history(client)
    chat.add_messages(TURN)
    archive_session(services, "s")
    chat.add_messages([HumanMessage("back")])
    assert [m.content for m in chat.messages] == ["back"]
    assert len(read_transcript(services, "s")) == 3
    assert restore_session(services, "s").messages == 2
    assert chat.messages == [*TURN, HumanMessage("back")]
    assert restore_session(services, "s").outcome is RestoreOutcome.COMPLETE


def test_a_session_that_wakes_and_sleeps_again_and_again_is_uploaded_once(
    client: redis.Redis, services: Services
) -> None:
    chat = history(client)
    expected: list[BaseMessage] = []
    for turn in range(4):
        said: list[BaseMessage] = [HumanMessage(f"turn {turn}"), AIMessage("yes")]
        chat.add_messages(said)
        expected += said
        assert archive_session(services, "s").outcome is Outcome.ARCHIVED
        if turn % 2:
            restore_session(services, "s")
            assert chat.messages == expected
    names = [segment.name for segment in contents.look(services.archive, "s").segments]
    assert sum(name.stop - name.start for name in names) == len(expected)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert [segment.name for segment in contents.look(services.archive, "s").segments] == names


def test_a_session_that_is_nowhere_is_not_found_and_leaves_nothing(client: redis.Redis, services: Services) -> None:
    with pytest.raises(SessionNotFound):
        restore_session(services, "nobody")
    with pytest.raises(SessionNotFound):
        read_transcript(services, "nobody")
    assert archive_session(services, "nobody").outcome is Outcome.MISSING
    assert raw(client, "KEYS", "*") == [b"torpor:config"]


def test_a_cleared_session_does_not_come_back(client: redis.Redis, services: Services) -> None:
    chat = history(client)
    chat.add_messages(TURN)
    archive_session(services, "s")
    chat.clear()
    assert restore_session(services, "s").outcome is RestoreOutcome.COMPLETE
    chat.add_messages([HumanMessage("new")])
    assert drain(services, list(services.sessions.due_counts())) == {Outcome.ERASED: 1}
    assert not contents.look(services.archive, "s")
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    restore_session(services, "s")
    assert chat.messages == [HumanMessage("new")]


def test_a_purged_session_is_gone_from_redis_and_archive(client: redis.Redis, services: Services) -> None:
    chat = history(client, owner="ann")
    chat.add_messages(TURN)
    archive_session(services, "s")
    restore_session(services, "s")
    chat.add_messages(TURN)
    purged = purge_session(services, "s")
    assert (purged.state, purged.found.messages, purged.found.objects) == (PurgeState.COMPLETE, 4, 1)
    assert [each.name.rpartition("/")[2] for each in services.archive.list(names.session_prefix("s"))] == ["floor"]
    info = chat.info()
    assert info
    assert (info.status, info.message_count) == (Status.PURGED, 0)
    assert not raw(client, "KEYS", "*:m:*")


def test_segments_are_json_lines_that_anybody_can_read(client: redis.Redis, services: Services) -> None:
    chat = history(client, "a/b")
    chat.add_messages(TURN)
    result = archive_session(services, "a/b")
    [segment] = contents.look(services.archive, "a/b").segments
    assert segment.stored.name == result.object_name
    with services.archive.open(segment.stored) as body:
        lines = [json.loads(line) for line in gzip.decompress(body.read()).splitlines()]
    assert [line["seq"] for line in lines] == [0, 1]
    assert [line["message"]["data"]["content"] for line in lines] == ["Wie geht's? 😀", "gut\n"]
    assert {(line["session_id"], line["epoch"]) for line in lines} == {("a/b", segment.name.epoch)}
