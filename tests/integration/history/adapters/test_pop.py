"""Taking the last message back: a new epoch that keeps the others, whoever is at work, however often it is sent."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from support.keyspace import dump, raw
from support.observed import Points, watch
from support.servers import start_redis
from support.sessions import purge_session
from support.transcripts import read_transcript
from support.watched_clients import WatchedRedis
from torpor.history import calls
from torpor.history.calls import Call
from torpor.history.conversation import Conversation
from torpor.history.protocol import (
    Expiry,
    MessageCorrupt,
    Origin,
    RedisRefused,
    RestoreTicket,
    SessionHeld,
    SessionIncomplete,
    SessionInfo,
    SessionPurged,
    SessionStore,
    Status,
    run_sync,
)
from torpor.history.session import Page
from torpor.worker.archive import contents
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import RestoreOutcome, restore_session
from torpor.worker.wake.session_archive import SessionArchive

HOUR = timedelta(hours=1)
A, B, C = (b'{"content":"%b"}' % name for name in (b"a", b"b", b"c"))


@pytest.fixture
def archive_url(scratch: Path) -> str:
    """One kind of store is enough here."""
    return (scratch / "archive").as_uri()


@pytest.fixture
def sessions(client: redis.Redis) -> SessionStore:
    """Few shards, so that a sweep over all of them costs little."""
    return SessionStore(client, shards=4)


def conversation(services: Services, client: Any = None, **options: Any) -> Conversation:
    options.setdefault("archive", SessionArchive(services.archive.url))
    options.setdefault("owner", "ann")
    return Conversation(client or services.sessions.client, "s", **options)


def stored(page: Page) -> list[bytes]:
    return page.messages


def popped(services: Services, **options: Any) -> bytes | None:
    return run_sync(conversation(services, **options).pop(stored))


def live(services: Services) -> list[bytes]:
    return services.sessions.messages("s", touch=False)


def described(services: Services) -> SessionInfo:
    info = services.sessions.info("s")
    assert info
    return info


def last_page(services: Services) -> Page:
    [page] = services.sessions.pages("s", -1)
    return page


def whole(services: Services, *messages: bytes) -> None:
    """A complete session, as the first read with an archive leaves it."""
    services.sessions.append("s", messages or [A, B, C], owner="ann", expiry=Expiry(HOUR))
    restore_session(services, "s")


def sleep(services: Services) -> None:
    while services.sessions.close("s"):
        drain(services, list(services.sessions.due_counts()))


# What it does


def test_the_last_message_is_taken_back_and_the_session_stays_what_it_was(services: Services) -> None:
    whole(services)
    before = described(services)
    assert popped(services) == C
    after = described(services)
    assert live(services) == [A, B]
    assert (after.owner, after.expiry, after.created) == ("ann", Expiry(HOUR), before.created)
    assert after.epoch == after.floor
    assert after.epoch > before.epoch
    assert (after.restored_count, after.archived_count, after.complete, after.status) == (0, 0, True, Status.DUE)
    assert after.last_written >= before.last_written


def test_what_was_taken_back_is_in_the_archive_no_more_and_the_rest_wakes_up(services: Services) -> None:
    services.sessions.append("s", [A, B], owner="ann")
    archive_session(services, "s")
    services.sessions.append("s", [C], owner="ann")
    archive_session(services, "s")
    assert popped(services) == C
    assert popped(services) == B
    services.sessions.append("s", [C], owner="ann")
    sleep(services)
    assert read_transcript(services, "s") == [A, C]
    epochs = {each.name.epoch for each in contents.look(services.archive, "s").segments}
    assert len(epochs) == 1
    restore_session(services, "s")
    assert live(services) == [A, C]


def test_a_session_whose_last_message_is_taken_back_is_empty_and_can_go_on(services: Services) -> None:
    whole(services, A)
    assert popped(services) == A
    assert popped(services) is None
    assert live(services) == []
    services.sessions.append("s", [B], owner="ann")
    sleep(services)
    assert read_transcript(services, "s") == [B]


@pytest.mark.parametrize("with_archive", [False, True])
def test_where_there_is_no_session_there_is_nothing_to_take_back(
    client: redis.Redis, services: Services, *, with_archive: bool
) -> None:
    options = {} if with_archive else {"archive": None}
    assert popped(services, **options) is None
    assert len(raw(client, "KEYS", "*:s:s")) == with_archive  # remembered as an empty one


@pytest.mark.parametrize("asleep", [0, 1, 2])
def test_a_session_that_may_have_slept_is_woken_first_or_left_as_it_is(
    client: redis.Redis, services: Services, asleep: int
) -> None:
    services.sessions.append("s", [A, B], owner="ann")
    for _ in range(asleep):
        archive_session(services, "s")
        services.sessions.append("s", [C], owner="ann")
    expected = [A, B] + [C] * asleep
    before = dump(client)
    with pytest.raises(SessionIncomplete, match="archive="):
        popped(services, archive=None)
    assert dump(client) == before
    assert popped(services) == expected.pop()
    assert live(services) == expected


def test_a_purged_session_has_nothing_to_take_back(client: redis.Redis, services: Services) -> None:
    whole(services)
    page = last_page(services)
    purge_session(services, "s")
    before = dump(client)
    for attempt in (lambda: popped(services), lambda: services.sessions.pop("s", page, owner="ann")):
        with pytest.raises(SessionPurged):
            attempt()
    assert dump(client) == before


@pytest.mark.parametrize("hold", ["the session", "its owner"])
def test_of_what_is_held_nothing_is_taken_back(client: redis.Redis, services: Services, hold: str) -> None:
    whole(services)
    if hold == "the session":
        services.sessions.hold("s", "a dispute")
    else:
        services.sessions.hold_owner("ann", "a dispute")
    before = dump(client)
    with pytest.raises(SessionHeld, match="a dispute"):
        popped(services)
    assert dump(client) == before


def test_what_the_caller_can_not_read_stays(client: redis.Redis, services: Services) -> None:
    whole(services)
    before = dump(client)

    def refuse(page: Page) -> list[bytes]:
        raise MessageCorrupt(f"message {page.start}")

    with pytest.raises(MessageCorrupt, match="message 2"):
        run_sync(conversation(services).pop(refuse))
    assert dump(client) == before


def test_a_session_in_quarantine_whose_last_message_is_taken_back_is_archived_again(services: Services) -> None:
    whole(services)
    [lease] = [services.sessions.claim_one("s", HOUR)]
    services.sessions.quarantine(lease, "too bad")  # type: ignore[arg-type]
    assert popped(services) == C
    info = described(services)
    assert (info.status, info.error, info.attempts) == (Status.DUE, None, 0)
    assert list(services.sessions.sessions(quarantined=True)) == []
    sleep(services)
    assert read_transcript(services, "s") == [A, B]


# Whoever writes meanwhile


@pytest.mark.parametrize("meanwhile", ["append", "clear", "pop", "nothing"])
def test_only_the_message_that_was_read_is_taken_back(services: Services, meanwhile: str) -> None:
    whole(services)
    page = last_page(services)
    match meanwhile:
        case "append":
            services.sessions.append("s", [C], owner="ann")
        case "clear":
            services.sessions.clear("s")
        case "pop":
            services.sessions.pop("s", page, owner="ann")
    left = live(services)
    assert services.sessions.pop("s", page, owner="ann") == (meanwhile == "nothing")
    assert live(services) == (left[:-1] if meanwhile == "nothing" else left)


def test_of_a_turn_that_comes_between_read_and_pop_the_last_message_is_taken_back(
    services: Services, watched: WatchedRedis
) -> None:
    whole(services)
    commands = 0

    def before(command: str) -> None:
        nonlocal commands
        commands += 1
        if commands == 3:  # after the deployment was asked for and the page was read
            services.sessions.append("s", [B], owner="ann")

    watched.before = before
    assert run_sync(conversation(services, watched).pop(stored)) == B
    assert commands == 5
    assert live(services) == [A, B, C]


@pytest.mark.parametrize(
    "point", ["after begin_restore", "before list", "before open", "after stage", "before finish_restore"]
)
def test_while_a_session_wakes_nothing_is_taken_back(services: Services, point: str) -> None:
    services.sessions.append("s", [A, B], owner="ann")
    archive_session(services, "s")
    services.sessions.append("s", [C], owner="ann")
    watched, points = watch(services)

    def refused() -> None:
        with pytest.raises(SessionIncomplete):
            popped(services, archive=None)

    points.at(point, refused)
    assert restore_session(watched, "s").outcome is RestoreOutcome.RESTORED
    assert not points.pending
    assert popped(services, archive=None) == C
    assert live(services) == [A, B]


def test_a_restore_that_began_before_the_session_was_woken_and_popped_changes_nothing(services: Services) -> None:
    services.sessions.append("s", [A, B], owner="ann")
    archive_session(services, "s")
    slow = services.sessions.begin_restore("s", HOUR)
    assert isinstance(slow, RestoreTicket)
    assert services.sessions.stage(slow, 0, [A, B], HOUR)
    restore_session(services, "s")
    assert popped(services) == B
    services.sessions.finish_restore(slow, 2, Origin())
    services.sessions.abandon(slow)
    assert live(services) == [A]


# The request that is sent again


def pop_call(services: Services) -> Call[bool]:
    return calls.pop(services.sessions.deployment, "s", last_page(services), request=os.urandom(8), owner="ann")


@dataclass(frozen=True)
class Meanwhile:
    name: str
    act: Callable[[Services], object]
    left: list[bytes]


MEANWHILE = [
    Meanwhile("nothing", lambda services: None, [A, B]),
    Meanwhile("a turn", lambda services: services.sessions.append("s", [C], owner="ann"), [A, B, C]),
    Meanwhile("another pop", popped, [A]),
    Meanwhile("a clear", lambda services: services.sessions.clear("s"), []),
    Meanwhile("an erasure", lambda services: drain(services, list(services.sessions.due_counts())), [A, B]),
    Meanwhile("sleep", sleep, [A, B]),
]


@pytest.mark.parametrize("meanwhile", MEANWHILE, ids=lambda meanwhile: meanwhile.name)
def test_a_pop_that_is_sent_again_takes_no_second_message(services: Services, meanwhile: Meanwhile) -> None:
    whole(services)
    lost = pop_call(services)
    assert services.sessions.run(lost)
    meanwhile.act(services)
    assert services.sessions.run(lost)
    restore_session(services, "s")
    assert live(services) == meanwhile.left


# Redis at its limits


@pytest.mark.single_node(reason="it sets the memory limit of a server of its own")
def test_at_the_memory_limit_a_message_can_be_taken_back(tmp_path: Path) -> None:
    server = start_redis(tmp_path, "--maxmemory", "100mb", "--maxmemory-policy", "noeviction")
    try:
        with server.client() as client:
            store = SessionStore(client, shards=1)
            store.clear("s")
            store.append("s", [A, B], owner="ann")
            [page] = store.pages("s", -1)
            raw(client, "CONFIG", "SET", "maxmemory", "1")
            assert store.pop("s", page, owner="ann")
            assert store.messages("s", touch=False) == [A]
            info = store.info("s")
            assert info
            assert info.floor == info.epoch
    finally:
        server.stop()


@pytest.mark.parametrize("kind", ["due", "t", "q", "h"])
def test_a_pop_that_meets_a_key_of_another_type_changes_nothing(
    client: redis.Redis, services: Services, kind: str
) -> None:
    whole(services)
    [key] = [messages.partition(b":m:")[0] + f":{kind}".encode() for messages in raw(client, "KEYS", "*:m:s")]
    raw(client, "DEL", key)
    raw(client, "SET", key, "not Torpor's")
    before = dump(client)
    with pytest.raises(RedisRefused, match="WRONGTYPE"):
        popped(services)
    assert dump(client) == before


# Workers that are killed


class Killed(BaseException):
    """Ends the process here."""


def killed(points: Points, point: str) -> None:
    def kill() -> None:
        raise Killed

    points.at(point, kill)


@pytest.mark.parametrize("point", ["before put marker", "after put marker", "before delete", "after delete"])
def test_an_erasure_after_a_pop_that_was_killed_is_finished_by_the_next(services: Services, point: str) -> None:
    services.sessions.append("s", [A, B], owner="ann")
    archive_session(services, "s")
    services.sessions.append("s", [C], owner="ann")
    assert popped(services) == C
    watched, points = watch(services, lease_seconds=0.05)
    killed(points, point)
    with pytest.raises(Killed):
        archive_session(watched, "s")
    assert read_transcript(services, "s") == [A, B]
    sleep(services)
    assert read_transcript(services, "s") == [A, B]
    assert not contents.look(services.archive, "s").erasable


def test_an_upload_that_was_killed_after_a_pop_never_comes_back(services: Services) -> None:
    whole(services)
    watched, points = watch(services, lease_seconds=0.05)
    points.at("before put segment", lambda: popped(services))
    killed(points, "after put segment")
    with pytest.raises(Killed):
        archive_session(watched, "s")
    assert described(services).floor is not None
    sleep(services)
    assert read_transcript(services, "s") == [A, B]
    restore_session(services, "s")
    sleep(services)
    assert read_transcript(services, "s") == [A, B]
    assert not contents.look(services.archive, "s").erasable


def test_an_upload_that_a_pop_has_overtaken_is_taken_back(services: Services) -> None:
    whole(services)
    watched, points = watch(services)

    def pop_and_erase() -> None:
        assert popped(services) == C
        assert sum(drain(services, list(services.sessions.due_counts())).values()) == 1

    points.at("before put segment", pop_and_erase)
    assert archive_session(watched, "s").outcome is Outcome.SUPERSEDED
    assert "after put segment" in points.log
    assert contents.look(services.archive, "s").segments == []
    assert live(services) == [A, B]
