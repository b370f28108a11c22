"""A replica in the place of the primary, without what the primary did last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.faulty_redis import SHARDS, Chat, clear, prepare_asleep, prepare_woken, services_at, transcript
from support.keyspace import raw
from support.observed import watch
from support.ports import free_port
from support.redis_proxy import Proxy
from support.servers import RedisServer, start_redis
from support.waiting import wait_until
from torpor.history.protocol import (
    RedisUnavailable,
)
from torpor.worker.archive.contents import look
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ClearForgotten
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session

pytestmark = pytest.mark.single_node(reason="these are the faults of one node")


# Replicas


@dataclass
class Pair:
    """A primary with a replica, and a client that follows the promotion, as Memorystore's one address does."""

    primary: RedisServer
    replica: RedisServer
    address: Proxy

    def wait_until_equal(self) -> None:
        with self.primary.client() as primary, self.replica.client() as replica:
            written = primary.info("replication")["master_repl_offset"]
            wait_until(
                lambda: replica.info("replication")["slave_repl_offset"] >= written, what="the replica has all writes"
            )

    def part(self) -> None:
        """Cut the replica off from its primary; it stays a replica."""
        self.wait_until_equal()
        with self.replica.client() as client:
            raw(client, "REPLICAOF", "127.0.0.1", free_port())

    def fail_over(self) -> None:
        """Stop the primary, with all writes that the replica has not received, and promote the replica."""
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


def test_a_turn_that_only_the_archive_has_and_one_that_only_the_replica_has_are_divergent(
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
    assert list(restored.divergent) == [set_aside]
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


@pytest.mark.parametrize("point", ["after snapshot batch", "before put segment", "after put segment"])
def test_a_failover_in_the_middle_of_an_archive_does_not_count_what_the_replica_lacks(
    pair: Pair, replicated: Services, point: str
) -> None:
    """The upload then has more messages than the promoted replica, and later messages take their positions."""
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
    assert list(restored.divergent) == [segment.stored.name for segment in uploaded]
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
