"""Celery's messages are hints: whatever happens to the broker and to beat, work is late, never lost or doubled."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from langchain_core.messages import HumanMessage

from support.compose import archived, deployment_of, image
from support.keyspace import raw
from support.ports import free_port
from support.servers import RedisServer, start_redis
from support.waiting import wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.worker.archive.contents import look
from torpor.worker.wake.restore import restore_session

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.single_node(reason="Celery has no Cluster as its broker, and the processes are the same"),
]

SAID = HumanMessage("once")


def say(client: redis.Redis, *session_ids: str) -> None:
    for session_id in session_ids:
        MemorystoreChatMessageHistory(client, session_id, 1).add_message(SAID)


def test_what_fell_due_while_nothing_ran_and_all_messages_were_lost_is_archived_later(
    client: redis.Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    deployment = deployment_of(redis_server, (tmp_path / "archive").as_uri())
    say(client, "a", "b")
    with image("beat", deployment, tmp_path):
        wait_until(lambda: raw(client, "KEYS", "torpor:celery:torpor"), what="sweeps pile up")
    for key in raw(client, "KEYS", "torpor:celery:*"):
        raw(client, "DEL", key)
    with image("worker", deployment, tmp_path), image("beat", deployment, tmp_path):
        wait_until(lambda: archived(deployment) == 2, 60, "both are archived")
    for session_id in ("a", "b"):
        assert restore_session(deployment, session_id).messages == 1
        assert MemorystoreChatMessageHistory(client, session_id).messages == [SAID]


def test_a_broker_that_is_lost_and_comes_back_empty_delays_work_and_loses_none(
    client: redis.Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    port = free_port()
    with ExitStack() as stack:
        broker = start_redis(tmp_path, port=port)
        stack.callback(broker.stop)
        deployment = deployment_of(redis_server, (tmp_path / "archive").as_uri(), broker_url=broker.url)
        workers = [stack.enter_context(image("worker", deployment, tmp_path, may_die=True))]
        stack.enter_context(image("beat", deployment, tmp_path))
        say(client, "before")
        wait_until(lambda: archived(deployment) == 1, 60, "the worker works")
        broker.stop()
        say(client, "meanwhile")
        wait_until(lambda: sum(deployment.sessions.due_counts().values()) == 1, what="a session falls due")
        stack.callback(start_redis(tmp_path, port=port).stop)

        def archived_in_the_end() -> bool:
            # kombu can end a worker whose broker is lost; docker-compose.yml has it restarted.
            if workers[-1].poll() is not None:
                workers.append(stack.enter_context(image("worker", deployment, tmp_path, may_die=True)))
            return archived(deployment) == 2

        wait_until(archived_in_the_end, 90, "what fell due meanwhile is archived")
    assert len(look(deployment.archive, "meanwhile").segments) == 1


def test_two_beats_and_two_workers_archive_each_session_once(
    client: redis.Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    deployment = deployment_of(redis_server, (tmp_path / "archive").as_uri())
    ids = [f"s{number}" for number in range(40)]
    with ExitStack() as stack:
        for number in ("1", "2"):
            (tmp_path / number).mkdir()
            for service in ("worker", "beat"):
                stack.enter_context(image(service, deployment, tmp_path / number))
        say(client, *ids)
        wait_until(lambda: not list(deployment.sessions.sessions()), 90, "all sessions are gone from Redis")
    assert archived(deployment) == len(ids)
    assert all(len(look(deployment.archive, session_id).segments) == 1 for session_id in ids)


def test_the_password_of_a_second_broker_is_not_logged(
    client: redis.Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    port = free_port()
    second = start_redis(tmp_path, port=port)
    logs = [tmp_path / "worker.log", tmp_path / "beat.log"]
    try:
        with second.client() as admin:
            raw(admin, "CONFIG", "SET", "requirepass", "needle")
        both = f"{redis_server.url};redis://:needle@127.0.0.1:{port}/0"
        deployment = deployment_of(redis_server, (tmp_path / "archive").as_uri(), broker_url=both)
        with image("worker", deployment, tmp_path), image("beat", deployment, tmp_path):
            say(client, "s")
            wait_until(lambda: archived(deployment) == 1, 60, "the worker works")
            wait_until(lambda: all("redis://" in log.read_text() for log in logs), 60, "both have logged the broker")
    finally:
        second.stop()
    assert not [log for log in logs if "needle" in log.read_text()]
