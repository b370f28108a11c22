"""A server that is restarted: with its data and without its scripts, or with older data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.faulty_redis import NO_RETRY, SHARDS, Chat, prepare_spoken_to, services_at
from support.keyspace import raw
from support.observed import watch
from support.redis_proxy import Fault, Proxy, first, no_fault
from support.servers import RedisServer, start_redis
from support.waiting import wait_until
from torpor.history.protocol import (
    RedisUnavailable,
)
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ClearForgotten
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import RestoreOutcome, restore_session

pytestmark = pytest.mark.single_node(reason="these are the faults of one node")


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


@pytest.mark.parametrize("point", ["after snapshot batch", "after read", "before commit batch", "after commit batch"])
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


@pytest.mark.parametrize(
    "point", ["after begin_restore", "after stage", "before finish_restore", "after finish_restore"]
)
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


@pytest.mark.usefixtures("_nothing_resent")
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
    proxy.plan = first("snapshot", Fault.LOSE_REPLY)
    with pytest.raises(RedisUnavailable):
        drain(unretried, SHARDS)
    proxy.plan = no_fault
    assert sum(direct.sessions.due_counts().values()) == 6, "all are due again"
    infos = [direct.sessions.info(f"s{number}") for number in range(6)]
    assert all(info and info.attempts == 0 for info in infos)
    assert drain(direct, SHARDS) == {Outcome.ARCHIVED: 6}
