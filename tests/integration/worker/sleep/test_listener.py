"""A worker acts at the moment at which a session is due, even if announcements are lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import redis
from langchain_core.messages import HumanMessage

from support.compose import archived, deployment_of, image
from support.keyspace import raw
from support.servers import RedisServer, start_redis
from support.waiting import scaled, wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.worker.deployment.services import Services, connect
from torpor.worker.sleep.listener import Listener

pytestmark = pytest.mark.slow

LEASE = timedelta(minutes=1)
alone = pytest.mark.single_node(reason="it is about one node's connections")


class Heard:
    """A listener, and the drains that it has sent: (moment, shards) in turn."""

    def __init__(self, services: Services) -> None:
        self.sent: list[tuple[float, set[int]]] = []
        self.failures = 0
        self.listener = Listener(lambda: connect(services.settings), self._send)

    def _send(self, due: Mapping[int, int]) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the broker is down")
        self.sent.append((time.time(), set(due)))

    def of(self, shard: int) -> list[float]:
        """The moments at which a shard was sent for."""
        return [moment for moment, shards in self.sent if shard in shards]


@contextmanager
def listening(services: Services, count: int = 1, *, failures: int = 0) -> Iterator[list[Heard]]:
    """Listeners that have subscribed, of a deployment with hourly sweeps."""
    with ExitStack() as stack:
        all_heard = [Heard(services) for _ in range(count)]
        for heard in all_heard:
            heard.failures = failures
            heard.listener.start()
            stack.callback(heard.listener.stop)
        await_listeners(services, count)
        yield all_heard


def await_listeners(services: Services, count: int) -> None:
    # The channel matches the pattern, and is no shard's. The reply is the number of receivers.
    publish = partial(raw, services.sessions.client, "PUBLISH", "{torpor:nobody}:due", "hello")
    wait_until(lambda: publish() == count, what="all listen")


@pytest.fixture
def deployment(client: redis.Redis, redis_server: RedisServer, scratch: Path) -> Services:
    return deployment_of(redis_server, (scratch / "archive").as_uri(), sweep_interval_seconds=3600)


def say(services: Services, session_id: str, ttl: int = 3600) -> int:
    """Write to a session; returns its shard."""
    history = MemorystoreChatMessageHistory(services.sessions.client, session_id, ttl)
    history.add_message(HumanMessage("hello"))
    return services.sessions.deployment.keyspace.shard_of(session_id.encode())


def test_what_is_closed_is_sent_for_at_once(deployment: Services) -> None:
    heard = Heard(deployment)
    heard.listener.start()
    try:
        for session_id in ("a", "b"):
            shard = say(deployment, session_id)
            begun = time.time()
            deployment.sessions.close(session_id)
            [moment, *_] = wait_until(partial(heard.of, shard), 5)
            assert moment - begun < 5
            deployment.sessions.claim([shard], 10, LEASE)
    finally:
        heard.listener.stop()


@alone
def test_a_session_is_sent_for_when_its_idle_timeout_ends_and_not_before(deployment: Services) -> None:
    with listening(deployment) as [heard]:
        later = say(deployment, "later", ttl=3600)
        shard = say(deployment, "soon", ttl=1)
        info = deployment.sessions.info("soon")
        assert info
        assert info.due_at
        [moment] = wait_until(lambda: heard.of(shard), 10)
        assert info.due_at.timestamp() <= moment < info.due_at.timestamp() + 5
        assert later == shard or not heard.of(later)


@alone
def test_activity_puts_off_what_the_listener_has_planned(deployment: Services) -> None:
    with listening(deployment) as [heard]:
        shard = say(deployment, "s", ttl=1)
        deployment.sessions.update("s", idle=timedelta(hours=1))
        other = say(deployment, "other", ttl=2)
        wait_until(lambda: heard.of(other), 10)
        assert other == shard or not heard.of(shard)


@alone
def test_of_several_listeners_one_sends(deployment: Services) -> None:
    with listening(deployment, 3) as all_heard:

        def anybody_heard_of(shard: int) -> bool:
            return any(heard.of(shard) for heard in all_heard)

        for number in range(20):
            shard = say(deployment, f"s{number}")
            deployment.sessions.close(f"s{number}")
            wait_until(partial(anybody_heard_of, shard))
            deployment.sessions.claim([shard], 10, LEASE)
        await_listeners(deployment, 3)
        assert sum(len(heard.sent) for heard in all_heard) == 20


@alone
def test_what_the_elected_listener_does_not_send_for_is_sent_for_by_another(deployment: Services) -> None:
    with listening(deployment, failures=1) as [heard]:
        shard = say(deployment, "s")
        deployment.sessions.close("s")
        wait_until(lambda: heard.of(shard), 20, "the listener begins anew and looks at everything")


@alone
def test_a_connection_that_is_cut_heals_and_nothing_is_missed(tmp_path: Path) -> None:
    server = start_redis(tmp_path)
    try:
        deployment = deployment_of(server, (tmp_path / "archive").as_uri(), sweep_interval_seconds=3600)
        with listening(deployment) as [heard]:
            for number in range(3):
                shard = say(deployment, f"s{number}")
                assert raw(deployment.sessions.client, "CLIENT", "KILL", "TYPE", "pubsub") == 1
                deployment.sessions.close(f"s{number}")
                wait_until(partial(heard.of, shard), 20, "the listener sends for it")
                deployment.sessions.claim([shard], 10, LEASE)
                await_listeners(deployment, 1)
    finally:
        server.stop()


@alone
def test_a_server_that_was_restarted_is_listened_to_again(tmp_path: Path) -> None:
    server = start_redis(tmp_path, "--appendonly", "yes")
    try:
        deployment = deployment_of(server, (tmp_path / "archive").as_uri(), sweep_interval_seconds=3600)
        with listening(deployment) as [heard]:
            shard = say(deployment, "s")
            deployment.sessions.close("s")
            wait_until(lambda: heard.of(shard))
            server.stop()
            server = start_redis(tmp_path, "--appendonly", "yes", port=server.port)
            other = say(deployment, "another")
            deployment.sessions.close("another")
            wait_until(lambda: heard.of(other), 20)
    finally:
        server.stop()


@alone
def test_what_others_publish_does_no_harm(deployment: Services) -> None:
    with listening(deployment) as [heard]:
        shard = say(deployment, "s")
        for channel in ("{torpor:7}:due", "{torpor:99999}:due", "{torpor:-1}:due", "{torpor:}:due"):
            raw(deployment.sessions.client, "PUBLISH", channel, b"\xff nonsense")
        deployment.sessions.close("s")
        wait_until(lambda: heard.of(shard))


@pytest.mark.single_node(reason="the processes are the same")
def test_a_worker_without_beat_archives_what_is_closed_and_what_is_idle(deployment: Services, tmp_path: Path) -> None:
    with image("worker", deployment, tmp_path):
        say(deployment, "closed")
        deployment.sessions.close("closed")
        say(deployment, "idle", ttl=1)
        wait_until(lambda: archived(deployment) == 2, 60, "both are archived")


@pytest.mark.single_node(reason="the processes are the same")
def test_a_worker_and_its_pool_give_way_to_what_else_needs_the_cores(
    client: redis.Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    deployment = deployment_of(redis_server, (tmp_path / "archive").as_uri(), nice=7)
    with image("worker", deployment, tmp_path) as worker:
        say(deployment, "closed")
        deployment.sessions.close("closed")
        wait_until(lambda: archived(deployment) == 1, 60, "the pool is there")
        pool = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
        assert len(pool) >= 2
        priorities = {os.getpriority(os.PRIO_PROCESS, pid) for pid in (worker.pid, *map(int, pool))}
        assert priorities == {min(19, os.getpriority(os.PRIO_PROCESS, 0) + 7)}


@pytest.mark.single_node(reason="the processes are the same")
def test_with_the_listener_off_the_sweep_finds_everything(
    client: redis.Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    deployment = deployment_of(redis_server, (tmp_path / "archive").as_uri(), listen=False)
    with image("worker", deployment, tmp_path), image("beat", deployment, tmp_path):
        say(deployment, "closed")
        deployment.sessions.close("closed")
        wait_until(lambda: archived(deployment) == 1, 60, "the session is archived")


@pytest.mark.single_node(reason="the processes are the same")
def test_a_worker_that_is_asked_to_stop_gives_back_what_it_has_not_begun(
    client: redis.Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    deployment = deployment_of(
        redis_server, (tmp_path / "archive").as_uri(), sweep_interval_seconds=3600, concurrency=1, batch=1000
    )
    ids = [f"s{number}" for number in range(400)]
    for session_id in ids:
        say(deployment, session_id)
        deployment.sessions.close(session_id)
    with image("worker", deployment, tmp_path) as worker:
        wait_until(lambda: archived(deployment) > 5, 60, "it has begun")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(scaled(30)) == 0
        left = sum(deployment.sessions.due_counts().values())
        assert left == 400 - archived(deployment), "everything else is due at once, not when a lease ends"
        assert left > 0
        infos = [deployment.sessions.info(session_id) for session_id in ids]
        assert not any(info.attempts for info in infos if info)
