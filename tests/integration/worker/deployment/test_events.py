"""Events of sessions: in the stream, in `torpor events`, and in a Celery task of another team."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from support.compose import deployment_of, image
from support.keyspace import raw
from support.paths import TESTS
from support.servers import RedisServer
from support.sessions import purge_session, with_settings
from support.waiting import scaled, wait_until
from torpor.history.protocol import SessionStore
from torpor.worker.deployment.events import EventKind, follow
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import environment
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session

SAID = [b'{"content":"a secret"}', b'{"content":"another"}']


def told(services: Services) -> list[dict[str, Any]]:
    return [fields for _, fields in follow(services, count=100, forever=False)]


def test_what_happens_to_a_session_is_told_in_order_and_without_its_text(services: Services) -> None:
    services.sessions.append("s", SAID, owner="ann")
    archived = archive_session(services, "s")
    restore_session(services, "s")
    purge_session(services, "s")
    assert told(services) == [
        {
            "kind": "session.archived",
            "session": "s",
            "owner": "ann",
            "messages": 2,
            "object": archived.object_name,
            "generation": archived.generation,
        },
        {"kind": "session.restored", "session": "s", "owner": "ann", "messages": 2},
        {"kind": "session.purged", "session": "s", "owner": "ann", "messages": 2},
    ]
    assert "secret" not in str(raw(services.sessions.client, "XRANGE", "torpor:events", "-", "+"))


def test_a_drain_tells_of_each_session_and_of_failures_until_quarantine(services: Services) -> None:
    services = with_settings(services, max_attempts=2, retry_delay_seconds=0.1)
    for session_id in ("good", "bad"):
        services.sessions.append(session_id, SAID)
        services.sessions.close(session_id)
    keys = services.sessions.deployment.keyspace.of(b"bad")
    raw(services.sessions.client, "HDEL", keys.metadata(b"bad"), "epoch")

    def quarantined() -> bool:
        drain(services, list(services.sessions.due_counts()))
        return list(services.sessions.sessions(quarantined=True)) == ["bad"]

    wait_until(quarantined)
    events = told(services)
    assert [event["session"] for event in events if event["kind"] == EventKind.ARCHIVED] == ["good"]
    failures = [event for event in events if event["session"] == "bad"]
    assert [event["kind"] for event in failures] == [EventKind.FAILED, EventKind.QUARANTINED]
    assert all("metadata" in event["error"] for event in failures)


@pytest.mark.parametrize("options", [{}, {"decode_responses": True}, {"protocol": 3}], ids=str)
@pytest.mark.single_node(reason="it is about the replies of one node")
def test_events_are_read_and_waited_for_by_every_kind_of_client(
    client: redis.Redis, redis_server: RedisServer, options: dict[str, Any]
) -> None:
    with redis_server.client(**options) as other:
        store = SessionStore(other)
        assert store.last_events(10) == []
        assert store.events_after("0", seconds=0.1) == []
        store.add_events([{"kind": "one"}, {"kind": "two"}], keep=100)
        (first, one), (_, two) = store.last_events(10)
        assert (one, two) == ({"kind": "one"}, {"kind": "two"})
        assert [fields for _, fields in store.events_after(first, seconds=5)] == [two]
        assert [fields for _, fields in store.last_events(1)] == [two]


def test_the_stream_is_capped(client: redis.Redis) -> None:
    store = SessionStore(client)
    for _ in range(20):
        store.add_events([{"kind": "any"}] * 100, keep=500)
    assert 500 <= raw(client, "XLEN", "torpor:events") < 1000


def test_a_stream_that_cannot_be_written_hinders_nothing(
    services: Services, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    raw(client, "SET", "torpor:events", "not Torpor's")
    services.sessions.append("s", SAID)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert "1 events were not recorded" in caplog.text


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.single_node(reason="Celery has no Cluster as its broker")
def test_a_celery_task_of_another_application_gets_each_event(
    client: redis.Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    deployment = deployment_of(redis_server, (tmp_path / "archive").as_uri(), on_event_task="crm.note")
    heard = tmp_path / "heard"
    env = os.environ | {
        "SUBSCRIBER_BROKER": redis_server.url,
        "SUBSCRIBER_FILE": str(heard),
        "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
    }
    command = [
        sys.executable,
        *["-m", "celery", "-A", "support.subscriber", "worker", "-c", "1", "--without-gossip", "--without-mingle"],
    ]
    with (tmp_path / "subscriber.log").open("wb") as log, image("worker", deployment, tmp_path):
        subscriber = subprocess.Popen(command, env=env, cwd=tmp_path, stdout=log, stderr=log)
        try:
            for session_id in ("a", "b"):
                deployment.sessions.append(session_id, SAID, owner="ann")
                deployment.sessions.close(session_id)
            wait_until(lambda: heard.exists() and heard.read_text().count("\n") == 2, 60, "both events are heard")
        finally:
            subscriber.terminate()
            subscriber.wait(scaled(30))
    events = [json.loads(line) for line in heard.read_text().splitlines()]
    assert {(event["kind"], event["session"], event["owner"]) for event in events} == {
        ("session.archived", "a", "ann"),
        ("session.archived", "b", "ann"),
    }


@pytest.mark.single_node(reason="the command is the same")
def test_torpor_events_prints_what_was_told_and_follows(
    client: redis.Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    deployment = deployment_of(redis_server, (tmp_path / "archive").as_uri())
    deployment.sessions.append("s\x1b[31m", SAID)
    archive_session(deployment, "s\x1b[31m")
    torpor = str(Path(sys.executable).with_name("torpor"))
    env = environment(deployment.settings)
    printed = subprocess.run(
        [torpor, "events"], env=env, capture_output=True, text=True, check=True, timeout=scaled(60)
    )
    assert "session.archived" in printed.stdout
    assert "\x1b" not in printed.stdout
    following = subprocess.Popen(
        [torpor, "events", "--follow", "--json"], env=env | {"PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert following.stdout
        assert json.loads(following.stdout.readline())["session"] == "s\x1b[31m"
        deployment.sessions.append("later", SAID)
        archive_session(deployment, "later")
        assert json.loads(following.stdout.readline())["session"] == "later"
    finally:
        following.terminate()
        following.communicate(timeout=scaled(30))
