"""Sessions that are archived in one batch: each ends as it would alone."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import redis

from support.archiving import EVENTS, Chat, Event, due_chats, woken
from support.keyspace import raw
from support.observed import watch
from support.servers import RedisServer
from support.sessions import with_settings
from support.waiting import wait_until
from torpor.history.protocol import (
    RedisUnavailable,
    SessionStore,
    Status,
)
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveUnavailable
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.sleep.pool import Pool

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
@pytest.mark.parametrize(
    ("point", "head_bytes"),
    [
        ("before snapshot batch", 10_000),
        ("after snapshot batch", 10_000),
        ("before commit batch", 10_000),
        ("after snapshot batch", 2_500),
    ],
    ids=["before snapshot batch", "after snapshot batch", "before commit batch", "after heads that are a part"],
)
def test_nothing_is_lost_whatever_happens_to_one_session_of_a_batch(
    services: Services, event: Event, point: str, head_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torpor.worker.sleep.pool._HEAD_BYTES", head_bytes)
    others = [Chat(services, f"other {number}", said=1_000 * number) for number in range(1, 4)]
    chat = Chat(services)
    for each in (*others, chat):
        woken(each)
        services.sessions.close(each.session_id)
    watched, points = watch(services, concurrency=1)  # so that the commit of several is one
    points.at(point, lambda: event.act(chat))
    outcomes = drain(watched, list(range(4)))
    assert not points.pending
    assert outcomes[Outcome.ARCHIVED] >= len(others)
    assert sum(outcomes[outcome] for outcome in event.outcomes) >= 1
    for each in (*others, chat):
        each.check()


def test_a_session_that_can_not_be_committed_keeps_no_other_of_its_batch(
    client: redis.Redis, services: Services
) -> None:
    chats = due_chats(services, 8)
    watched, points = watch(services, concurrency=4)
    [key] = raw(client, "KEYS", "*:s:chat 3")
    points.at(
        "after snapshot batch", lambda: (raw(client, "RENAME", key, key + b":aside"), raw(client, "SET", key, "x"))
    )
    assert drain(watched, list(range(4))) == {Outcome.ARCHIVED: 7, Outcome.FAILED: 1}
    raw(client, "RENAME", key + b":aside", key)
    for chat in chats:
        chat.check()


def test_a_commit_that_fails_for_a_whole_batch_gives_all_of_it_back(services: Services) -> None:
    chats = due_chats(services, 4)
    watched, points = watch(services, concurrency=1, retry_delay_seconds=0.01)

    def fail() -> None:
        raise RedisUnavailable("Redis is down")

    points.at("before commit batch", fail)
    outcomes = drain(watched, list(range(4)))
    assert outcomes[Outcome.POSTPONED] >= 1
    assert sum(outcomes.values()) == len(chats)
    for chat in chats:
        info = services.sessions.info(chat.session_id)
        assert info is None or info.status is not Status.IN_WORK
        chat.check()


def test_a_session_that_is_claimed_again_before_the_first_attempt_has_ended_comes_after_it(services: Services) -> None:
    chat = Chat(services)
    chat.say(2)
    services.sessions.close("s")
    watched, points = watch(services)
    arrived, go = threading.Event(), threading.Event()

    def hold_up() -> None:
        arrived.set()
        assert go.wait(20)

    points.at("before put segment", hold_up)
    with Pool(watched) as archiver:
        archiver.begin(services.sessions.claim(list(range(4)), 10, services.settings.lease))
        assert arrived.wait(20)
        chat.say(2)
        services.sessions.close("s")
        again = services.sessions.claim(list(range(4)), 10, services.settings.lease)
        assert [lease.session_id for lease in again] == ["s"]
        archiver.begin(again)
        go.set()
    assert archiver.totals == {Outcome.KEPT: 1, Outcome.ARCHIVED: 1}
    chat.check()


def leased(services: Services) -> int:
    return sum(shard.in_work for shard in services.sessions.overview())


def test_a_drain_claims_more_while_the_last_of_a_batch_is_still_in_work_and_not_too_many(services: Services) -> None:
    chats = due_chats(services, 40)
    watched, points = watch(services, concurrency=2, batch=8)
    most: list[int] = []

    def look() -> None:
        most.append(leased(services))
        points.at("before put segment", look)

    def hold_up() -> None:
        wait_until(lambda: points.log.count("after snapshot batch") > 1, what="more is claimed")
        look()

    points.at("before put segment", hold_up)
    assert drain(watched, list(range(4))) == {Outcome.ARCHIVED: len(chats)}
    assert max(most) <= 8 + 2 * 2
    for chat in chats:
        chat.check()


def fail_once(services: Services, chats: list[Chat]) -> None:
    """Let a worker begin each session and die."""
    leases = services.sessions.claim(list(range(4)), len(chats), services.settings.lease)
    assert len(leases) == len(chats)
    services.sessions.begin_attempts(leases)
    for chat in chats:
        services.sessions.close(chat.session_id)


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_more_threads_than_connections_wait_for_each_other(
    services: Services, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each thread reads its session itself."""
    monkeypatch.setattr("torpor.worker.sleep.pool._HEAD_BYTES", 1)
    chats = due_chats(services, 60)
    with redis_server.client(max_connections=5) as client:
        limited = replace(with_settings(services, concurrency=40), sessions=SessionStore(client))
        assert drain(limited, list(range(4))) == {Outcome.ARCHIVED: len(chats)}
    for chat in chats:
        chat.check()


def test_of_sessions_that_have_failed_before_no_more_than_a_batch_is_claimed_at_a_time(services: Services) -> None:
    chats = due_chats(services, 12)
    fail_once(services, chats)
    watched, points = watch(services, batch=4)
    most: list[int] = []

    def look() -> None:
        most.append(leased(services))
        points.at("before put segment", look)

    points.at("before put segment", look)
    assert drain(watched, list(range(4))) == {Outcome.ARCHIVED: len(chats)}
    assert 1 <= max(most) <= 4
    for chat in chats:
        chat.check()


def test_with_the_archive_down_one_session_that_has_failed_before_is_tried_and_no_other(services: Services) -> None:
    chats = due_chats(services, 4)
    fail_once(services, chats)
    watched, points = watch(services, retry_delay_seconds=60)

    def fail() -> None:
        points.at("before put marker", fail)
        raise ArchiveUnavailable("the archive is down")

    points.at("before put marker", fail)
    assert drain(watched, list(range(4)))[Outcome.POSTPONED] >= 1
    for chat in chats:
        services.sessions.close(chat.session_id)
    assert drain(watched, list(range(4))) == {Outcome.POSTPONED: 1}
    points.at("before put marker", lambda: None)
    assert drain(watched, list(range(4)))[Outcome.ARCHIVED] == 3
    for chat in chats:
        chat.check()


def test_a_session_that_waits_for_others_is_archived_though_its_lease_was_renewed_meanwhile(services: Services) -> None:
    waits, goes_first = due_chats(services, 2)
    [lease] = [
        lease
        for lease in services.sessions.claim(list(range(4)), 2, services.settings.lease)
        if lease.session_id == waits.session_id
    ]
    services.sessions.begin_attempts([lease])
    for chat in (waits, goes_first):
        services.sessions.close(chat.session_id)
    watched, points = watch(services, lease_seconds=2)
    points.at("before put segment", lambda: wait_until(lambda: points.log.count("after renew batch") >= 2))
    assert drain(watched, list(range(4))) == {Outcome.ARCHIVED: 2}
    for chat in (waits, goes_first):
        chat.check()


def test_what_an_unknown_error_leaves_is_given_back(services: Services) -> None:
    chats = due_chats(services, 8)
    watched, points = watch(services, concurrency=1)

    def fail() -> None:
        raise LookupError

    points.at("before commit batch", fail)
    with pytest.raises(LookupError):
        drain(watched, list(range(4)))
    assert leased(services) == 0
    for chat in chats:
        chat.check()
