"""Attempts that fail: counted or postponed, and the other sessions go on."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable

import pytest
import redis

from support.archiving import Chat, due_chats, transcript
from support.keyspace import raw
from support.observed import watch
from support.sessions import with_settings
from support.waiting import wait_until
from torpor.history.protocol import (
    Status,
)
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveUnavailable
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome

# Failures


def drain_all(services: Services) -> Counter[Outcome]:
    return drain(services, list(services.sessions.due_counts()) or [0])


def broken_list(client: redis.Redis, messages: bytes, metadata: bytes) -> None:
    raw(client, "DEL", messages)
    raw(client, "SET", messages, "not a list")


def missing_metadata(client: redis.Redis, messages: bytes, metadata: bytes) -> None:
    raw(client, "DEL", metadata)


def damaged_metadata(client: redis.Redis, messages: bytes, metadata: bytes) -> None:
    raw(client, "HSET", metadata, "epoch", "yesterday")


def broken_metadata(client: redis.Redis, messages: bytes, metadata: bytes) -> None:
    raw(client, "DEL", metadata)
    raw(client, "SET", metadata, "not a hash")


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (broken_list, "WRONGTYPE"),
        (missing_metadata, "metadata of session .* was lost"),
        (damaged_metadata, "metadata .* is damaged"),
    ],
)
def test_one_bad_session_does_not_stop_the_others_and_goes_to_quarantine(
    client: redis.Redis, services: Services, damage: Callable[[redis.Redis, bytes, bytes], None], error: str
) -> None:
    services = with_settings(services, max_attempts=3, retry_delay_seconds=0.01, batch=1)
    chats = [Chat(services, f"chat {number}") for number in range(6)]
    for chat in chats:
        chat.say(2)
    bad, *good = chats
    [messages] = raw(client, "KEYS", f"*:m:{bad.session_id}")
    metadata = messages.replace(b":m:", b":s:")
    damage(client, messages, metadata)
    before = {key: raw(client, "DUMP", key) for key in (messages,)}
    for chat in chats:
        services.sessions.close(chat.session_id)

    totals = drain_all(services)
    assert totals[Outcome.ARCHIVED] == len(good)
    for _ in range(5):
        if list(services.sessions.sessions(quarantined=True)):
            break
        wait_until(services.sessions.due_counts)
        totals += drain_all(services)
    assert list(services.sessions.sessions(quarantined=True)) == [bad.session_id]
    assert (totals[Outcome.QUARANTINED], sum(services.sessions.due_counts().values())) == (1, 0)
    assert totals[Outcome.FAILED] in (0, 2)  # where the metadata can't be read, no attempt can be counted
    assert re.search(error, raw(client, "HGET", metadata, "error").decode())
    assert {key: raw(client, "DUMP", key) for key in before} == before  # untouched
    assert archive_session(services, bad.session_id).outcome is Outcome.QUARANTINED
    for chat in good:
        chat.check(counts=False)


def test_a_session_whose_metadata_is_no_hash_does_not_stop_the_others(client: redis.Redis, services: Services) -> None:
    chats = due_chats(services, 4)
    [messages] = raw(client, "KEYS", "*:m:chat 0")
    broken_metadata(client, messages, messages.replace(b":m:", b":s:"))
    assert drain_all(services)[Outcome.ARCHIVED] == 3
    assert raw(client, "LLEN", messages) == 2
    for chat in chats[1:]:
        chat.check(counts=False)


def test_an_error_that_nobody_foresaw_is_counted_and_kept(services: Services) -> None:
    services = with_settings(services, max_attempts=2, retry_delay_seconds=0.01)
    chat = Chat(services)
    chat.say(2)
    for outcome in (Outcome.FAILED, Outcome.QUARANTINED):
        watched, points = watch(services)

        def surprise() -> None:
            raise ZeroDivisionError("surprise")

        points.at("before put segment", surprise)
        result = archive_session(watched, "s")
        assert (result.outcome, str(result.error)) == (outcome, "ZeroDivisionError")
    info = services.sessions.info("s")
    assert info
    assert (info.status, info.attempts, info.error) == (Status.QUARANTINED, 2, "ZeroDivisionError")
    assert services.sessions.messages("s", touch=False) == chat.acknowledged


def test_an_archive_that_is_down_postpones_counts_nothing_and_stops_claiming(services: Services) -> None:
    chats = due_chats(services, 20)
    watched, points = watch(services, concurrency=1, batch=1, retry_delay_seconds=0.1)

    def fail() -> None:
        points.at("before put marker", fail)
        raise ArchiveUnavailable("the archive is down")

    points.at("before put marker", fail)
    [(outcome, count)] = drain(watched, list(services.sessions.due_counts())).items()
    assert outcome is Outcome.POSTPONED
    assert count <= 3, "what is in work and what was claimed ahead of it"
    assert points.log.count("before put marker") == 1
    infos = [services.sessions.info(chat.session_id) for chat in chats]
    assert [info and (info.attempts, info.message_count) for info in infos] == [(0, 2)] * len(chats)
    assert [info.error for info in infos if info and info.error] == ["the archive is down"]

    archived = 0
    while archived < len(chats):
        wait_until(services.sessions.due_counts)
        archived += drain_all(services)[Outcome.ARCHIVED]
    for chat in chats:
        chat.check()


def test_no_number_of_failures_that_may_pass_leads_to_quarantine(services: Services) -> None:
    chat = Chat(services)
    chat.say(2)
    for _ in range(services.settings.max_attempts + 2):
        watched, points = watch(services)

        def fail() -> None:
            raise ArchiveUnavailable("the archive is down")

        points.at("after put segment", fail)
        assert archive_session(watched, "s").outcome is Outcome.POSTPONED
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    chat.check()


def test_a_failure_after_the_lease_was_renewed_gives_the_session_back_all_the_same(
    client: redis.Redis, services: Services
) -> None:
    chat = Chat(services)
    chat.say(2)
    watched, points = watch(services, lease_seconds=0.6, retry_delay_seconds=0.01)

    def fail() -> None:
        raise ArchiveUnavailable("Redis or the archive is down")

    points.at("before put segment", lambda: wait_until(lambda: points.log.count("after renew batch") >= 1))
    points.at("before commit batch", fail)
    assert archive_session(watched, "s").outcome is Outcome.POSTPONED
    info = services.sessions.info("s")
    assert info
    assert (info.attempts, info.error) == (0, "Redis or the archive is down")
    assert info.status is not Status.IN_WORK
    chat.check()


def test_threads_that_drain_the_same_shards_archive_each_session_once(services: Services) -> None:
    chats = due_chats(services, 40)
    due = list(services.sessions.due_counts())
    totals: list[Counter[Outcome]] = []
    threads = [threading.Thread(target=lambda: totals.append(drain(services, due))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(totals, Counter()) == {Outcome.ARCHIVED: len(chats)}
    segments = [stored for stored in services.archive.list("") if stored.name.endswith(".jsonl.gz")]
    assert len(segments) == len(chats)
    for chat in chats:
        assert transcript(services, chat.session_id) == chat.acknowledged
