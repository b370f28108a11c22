"""A real Cluster whose slots move: MOVED, ASK and TRYAGAIN delay work, and lose and double none."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis.exceptions

from support.clusters import ClusterServer, start_cluster
from support.foreign import LAYOUTS
from support.keyspace import raw
from support.observed import watch
from support.ports import free_port
from support.sessions import commit
from support.slot_moves import move_away, moving
from support.stored_sessions import snapshot_of
from support.transcripts import read_transcript
from support.waiting import wait_until
from torpor.history.protocol import (
    CommitOutcome,
    Lease,
    RedisUnavailable,
    SessionNotFound,
)
from torpor.worker.deployment.services import Services, connect
from torpor.worker.deployment.settings import Settings
from torpor.worker.ops.status import overview
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import RestoreOutcome, restore_session

SHARDS = range(4)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterServer]:
    started = start_cluster(tmp_path_factory.mktemp("cluster"))
    yield started
    started.stop()


@pytest.fixture
def services(cluster: ClusterServer, scratch: Path) -> Iterator[Services]:
    made = connected(cluster, scratch)
    made.sessions.client.flushall()
    yield made
    made.sessions.client.disconnect_connection_pools()  # close() leaves those of from_url open


def connected(cluster: ClusterServer, scratch: Path) -> Services:
    """A worker's services, with their own view of the Cluster."""
    given: dict[str, Any] = {"shards": len(SHARDS), "lease_seconds": 30, "retry_delay_seconds": 0.1}
    return connect(Settings(archive_url=(scratch / "archive").as_uri(), **cluster.settings, **given))


@dataclass
class Chat:
    """A session as its user knows it: what was acknowledged, and what was written without an answer."""

    session_id: str
    acknowledged: list[bytes] = field(default_factory=list)
    unanswered: list[bytes] = field(default_factory=list)

    def say(self, services: Services, count: int = 2) -> None:
        said = [b'{"content":"%b"}' % os.urandom(4).hex().encode() for _ in range(count)]
        try:
            services.sessions.append(self.session_id, said, owner="ann")
        except RedisUnavailable:
            self.unanswered += said
            raise
        self.acknowledged += said

    def check(self, services: Services) -> None:
        """Asleep and awake: each acknowledged message is there once, in order, and nothing is there twice."""
        self._compare(read_transcript(services, self.session_id))
        for _ in range(5):
            if not services.sessions.close(self.session_id):
                break
            drain(services, SHARDS)
        assert services.sessions.info(self.session_id) is None
        self._compare(read_transcript(services, self.session_id))
        assert restore_session(services, self.session_id).outcome is RestoreOutcome.RESTORED
        self._compare(services.sessions.messages(self.session_id))

    def _compare(self, found: Sequence[bytes]) -> None:
        assert [message for message in found if message not in self.unanswered] == self.acknowledged
        assert set(Counter(found).values()) <= {1}


def slot_of(services: Services, session_id: str) -> int:
    key = services.sessions.deployment.keyspace.of(session_id.encode()).due
    found: int = raw(services.sessions.client, "CLUSTER KEYSLOT", key)
    return found


def archive(services: Services) -> None:
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED


def sweep(services: Services) -> None:
    services.sessions.close("s")
    assert drain(services, list(services.sessions.due_counts())) == {Outcome.ARCHIVED: 1}


def wake(services: Services) -> None:
    archive_session(services, "s")
    assert restore_session(services, "s").outcome is RestoreOutcome.RESTORED


WORK: list[Callable[[Services], None]] = [archive, sweep, wake]


@pytest.mark.parametrize("work", WORK)
def test_a_client_that_knows_only_where_a_slot_was_finds_where_it_is(
    cluster: ClusterServer, services: Services, scratch: Path, work: Callable[[Services], None]
) -> None:
    chat = Chat("s")
    chat.say(services)
    stale = connected(cluster, scratch)
    assert stale.sessions.messages("s") == chat.acknowledged
    move_away(cluster, slot_of(services, "s"))
    work(stale)
    chat.say(connected(cluster, scratch))
    move_away(cluster, slot_of(services, "s"))
    chat.say(stale)
    if work is not wake:
        restore_session(stale, "s")
    chat.check(stale)


def test_what_has_moved_with_its_slot_is_asked_for_at_its_new_place(cluster: ClusterServer, services: Services) -> None:
    """ASK: the old node still owns the slot, and the new one has all its keys."""
    sessions = services.sessions
    chat = Chat("s")
    chat.say(services)
    keys = sessions.deployment.keyspace.of(b"s")
    sessions.close("s")
    for lease in sessions.claim(SHARDS, 1, services.settings.lease):  # the shard has a tally from then on
        sessions.release(lease, timedelta(0), counted=False)
    with moving(cluster, slot_of(services, "s")) as move:
        move.send_all()
        with move.source.client() as source, pytest.raises(redis.exceptions.AskError):
            source.zcard(keys.due)
        assert sessions.messages("s") == chat.acknowledged
        assert sessions.close("s")
        assert sum(sessions.due_counts().values()) == 1
        [lease] = sessions.claim(SHARDS, 10, services.settings.lease)
        [renewed] = sessions.renew([lease], services.settings.lease)
        assert isinstance(renewed, Lease)
        assert move.keys() == []
    snapshot = snapshot_of(sessions, renewed)
    assert snapshot.message_count == 2
    assert commit(sessions, renewed, snapshot) is CommitOutcome.DELETED
    assert sessions.info("s") is None


@pytest.mark.parametrize("moved", ["all", "the messages", "nothing"])
def test_what_may_come_into_being_waits_until_its_slot_has_moved(
    cluster: ClusterServer, services: Services, moved: str
) -> None:
    """TRYAGAIN: a node can't distinguish a key that is elsewhere from a missing one. It changes nothing."""
    chat, other = Chat("s"), Chat("other")
    chat.say(services)
    while slot_of(services, other.session_id) == slot_of(services, "s"):
        other.session_id += "!"
    other.say(services)
    for each in (chat, other):
        services.sessions.close(each.session_id)
    with moving(cluster, slot_of(services, "s")) as move:
        if moved == "all":
            move.send_all()
        elif moved == "the messages":
            move.send(services.sessions.deployment.keyspace.of(b"s").messages(b"s"))
        for attempt in (
            lambda: chat.say(services),
            lambda: services.sessions.clear("s"),
            lambda: restore_session(services, "s"),
        ):
            with pytest.raises(RedisUnavailable):
                attempt()
        # The session is claimed, because the index is one key. It can't be committed, and the other one does not wait.
        while services.sessions.info(other.session_id):
            drain(services, SHARDS)
    assert services.sessions.messages("s") == chat.acknowledged
    for each in (chat, other):
        if each is other:
            restore_session(services, other.session_id)
        each.check(services)


@pytest.mark.parametrize(
    "point",
    ["after snapshot batch", "before put segment", "before commit batch", "before begin_restore", "after stage"],
)
def test_a_slot_that_moves_in_the_middle_of_the_work_does_not_even_delay_it(
    cluster: ClusterServer, services: Services, point: str
) -> None:
    chat = Chat("s")
    chat.say(services)
    watched, points = watch(services)
    points.at(point, lambda: move_away(cluster, slot_of(services, "s")))
    assert archive_session(watched, "s").outcome is Outcome.ARCHIVED
    assert restore_session(watched, "s").outcome is RestoreOutcome.RESTORED
    assert not points.pending
    chat.check(services)


def converse(chats: Sequence[Chat], services: Services, stop: threading.Event) -> None:
    while not stop.is_set():
        for chat in chats:
            with suppress(RedisUnavailable):
                chat.say(services)
                if len(chat.acknowledged) % 10 == 0:
                    services.sessions.close(chat.session_id)


@pytest.mark.parametrize("of_ours", [False, True], ids=["theirs", "ours"])
def test_a_session_is_adopted_as_a_whole_though_a_slot_is_on_the_move(
    cluster: ClusterServer, services: Services, monkeypatch: pytest.MonkeyPatch, *, of_ours: bool
) -> None:
    """Between the pages of an adoption the slot of the other library's key, or of our session, goes elsewhere."""
    monkeypatch.setattr("torpor.history.store.adoption.PAGE_BYTES", 100)
    sessions = services.sessions
    said = [b'{"type":"human","data":{"type":"human","content":"%d"}}' % number for number in range(10)]
    raw(sessions.client, "RPUSH", "s", *said)
    services.sessions.append("other", [b"{}"])  # the deployment is known
    slot = slot_of(services, "s") if of_ours else raw(sessions.client, "CLUSTER KEYSLOT", "s")
    refused = 0
    for keys_that_go in (0, 1, 10):
        with moving(cluster, slot) as move:
            move.send(*move.keys(keys_that_go)) if keys_that_go else None
            try:
                sessions.adopt("s", LAYOUTS["memorystore"])
            except RedisUnavailable:
                refused += 1
    assert refused
    sessions.adopt("s", LAYOUTS["memorystore"])
    assert sessions.messages("s") == said
    assert not raw(sessions.client, "EXISTS", "s")
    assert not sessions.adoptions()


def sweep_all(_: Sequence[Chat], services: Services, stop: threading.Event) -> None:
    while not stop.is_set():
        with suppress(RedisUnavailable):
            drain(services, list(services.sessions.due_counts()) or SHARDS)


def wake_all(chats: Sequence[Chat], services: Services, stop: threading.Event) -> None:
    while not stop.is_set():
        for chat in chats:
            with suppress(RedisUnavailable, SessionNotFound):
                restore_session(services, chat.session_id)


def wait_until_more_is_said(chats: Sequence[Chat]) -> None:
    before = [len(chat.acknowledged) for chat in chats]
    wait_until(lambda: all(len(chat.acknowledged) > said for chat, said in zip(chats, before, strict=True)))


def test_slots_that_move_under_writers_and_workers_lose_and_double_nothing(
    cluster: ClusterServer, services: Services, scratch: Path
) -> None:
    chats = [Chat(f"chat {number}") for number in range(12)]
    for chat in chats:
        chat.say(services)
    slots = {slot_of(services, chat.session_id) for chat in chats}
    stop = threading.Event()
    with ThreadPoolExecutor(5) as pool:
        running = [
            *(pool.submit(converse, chats[at::3], connected(cluster, scratch), stop) for at in range(3)),
            *(pool.submit(act, chats, connected(cluster, scratch), stop) for act in (sweep_all, wake_all)),
        ]
        for _ in range(5):
            for slot in sorted(slots):
                move_away(cluster, slot)
                wait_until_more_is_said(chats)
        stop.set()
    for each in running:
        each.result()
    for chat in chats:
        chat.check(services)


def test_a_cluster_that_cannot_be_reached_is_an_unavailable_redis(cluster: ClusterServer, scratch: Path) -> None:
    url = f"redis://:hush@127.0.0.1:{free_port()}/0"
    settings = Settings(**{**cluster.settings, "redis_url": url}, archive_url=(scratch / "archive").as_uri())
    with pytest.raises(RedisUnavailable, match="Cluster") as caught:
        connect(settings)
    assert "hush" not in str(caught.value)


def test_the_memory_of_a_cluster_is_that_of_its_primaries_together(cluster: ClusterServer, services: Services) -> None:
    for node in cluster.nodes:
        raw(node.client(), "CONFIG", "SET", "maxmemory", "100mb")
    shown = overview(services)
    for node in cluster.nodes:
        raw(node.client(), "CONFIG", "SET", "maxmemory", "0")
    assert shown.memory_limit_bytes == 3 * 100 * 2**20
    smallest = min(node.client().info("memory")["used_memory"] for node in cluster.nodes)
    assert shown.memory_bytes
    assert shown.memory_bytes > 2 * smallest
