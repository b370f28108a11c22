"""Signed tasks: a worker obeys those alone, goes on when it refuses others, and logs nothing of what they say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from support.compose import archived, deployment_of, image
from support.keyspace import raw
from support.servers import RedisServer
from support.sessions import with_settings
from support.signing import signing_settings
from support.waiting import scaled, wait_until
from torpor.history.protocol import Expiry
from torpor.worker.deployment.celery_config import make_app
from torpor.worker.deployment.services import Services

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.single_node(reason="Celery has no Cluster as its broker, and the processes are the same"),
]

NEEDLES = {"requested_by": "needle-of-a-requester", "reason": "needle-of-a-reason"}


@pytest.fixture
def deployment(client: redis.Redis, redis_server: RedisServer, tmp_path: Path) -> Services:
    signing = signing_settings(tmp_path / "keys", "worker")
    return deployment_of(redis_server, (tmp_path / "archive").as_uri(), **signing)


@contextmanager
def sender(deployment: Services, **settings: Any) -> Iterator[Celery]:
    other = with_settings(deployment, **settings).settings
    with make_app(lambda: other, set_as_current=False) as app:
        yield app


def purge(app: Celery, session_id: str, **options: Any) -> Any:
    return app.send_task("torpor.purge_session", [session_id], NEEDLES, **options)


def test_unsigned_and_foreign_tasks_are_refused_and_the_signed_ones_between_them_run(
    deployment: Services, redis_server: RedisServer, tmp_path: Path
) -> None:
    deployment.sessions.append("s", [b'{"a":1}'])
    unsigned = dict.fromkeys(("signing_key", "signing_certificate", "signing_trusted"))
    foreign = signing_settings(tmp_path / "others", "stranger")
    for settings in (unsigned, foreign):
        with sender(deployment, **settings) as stranger:
            purge(stranger, "s")
            stranger.send_task("torpor.no_such_task", ["s"], NEEDLES)
    with image("worker", deployment, tmp_path), sender(deployment) as app:
        assert purge(app, "other").get(timeout=scaled(60))["state"] == "unknown"
        with sender(deployment, **unsigned) as stranger:
            purge(stranger, "s")
        with sender(deployment) as again:
            assert purge(again, "another").get(timeout=scaled(60))["state"] == "unknown"
            assert deployment.sessions.info("s"), "nobody has purged it"
            assert purge(again, "s").get(timeout=scaled(60))["state"] == "complete"
        log = (tmp_path / "worker.log").read_text()
        assert not raw(deployment.sessions.client, "LLEN", "torpor:celery:torpor"), "none is left or comes again"
        assert not raw(deployment.sessions.client, "HLEN", "torpor:celery:unacked")
    assert log.count("a message was refused and deleted") == 5
    assert log.count("Refusing to deserialize") == 3
    assert log.count("Unknown certificate") == 2
    assert "needle" not in log


def test_sessions_fall_asleep_by_the_signed_tasks_of_beat_and_listeners(deployment: Services, tmp_path: Path) -> None:
    with image("worker", deployment, tmp_path), image("beat", deployment, tmp_path):
        for session_id in ("closed", "due"):
            deployment.sessions.append(session_id, [b'{"a":1}'], expiry=Expiry(idle=timedelta(seconds=1)))
        deployment.sessions.close("closed")
        wait_until(lambda: archived(deployment) == 2, 60, "both are archived")
    assert "refused" not in (tmp_path / "worker.log").read_text()


def test_headers_which_nobody_signs_do_not_count(deployment: Services, tmp_path: Path) -> None:
    with image("worker", deployment, tmp_path), sender(deployment) as app:
        sent = purge(app, "s", headers={"expires": "2020-01-01T00:00:00+00:00"})
        assert sent.get(timeout=scaled(60))["state"] == "unknown", "it did not expire"


def test_a_new_key_is_obeyed_beside_the_old_one_as_soon_as_it_is_trusted(deployment: Services, tmp_path: Path) -> None:
    new = signing_settings(tmp_path / "keys", "new")
    with image("worker", deployment, tmp_path):
        for settings in ({}, new):
            with sender(deployment, **settings) as app:
                assert purge(app, "s").get(timeout=scaled(60))["state"] == "unknown"


def test_a_worker_with_an_expired_certificate_does_not_start(deployment: Services, tmp_path: Path) -> None:
    signing_settings(tmp_path / "keys", "old", life=timedelta(days=-1))
    with image("worker", deployment, tmp_path, may_die=True) as worker:
        assert worker.wait(scaled(60)) == 2
    assert "TORPOR_SIGNING_TRUSTED: the key and all certificates must" in (tmp_path / "worker.log").read_text()


@pytest.mark.parametrize("allowed", [False, True])
def test_remote_control_is_off_unless_asked_for(
    deployment: Services, redis_server: RedisServer, tmp_path: Path, *, allowed: bool
) -> None:
    settings = dict.fromkeys(("signing_key", "signing_certificate", "signing_trusted"))
    plain = with_settings(deployment, remote_control=allowed, heartbeat_file=tmp_path / "beating", **settings)
    with image("worker", plain, tmp_path), sender(plain) as app:
        wait_until((tmp_path / "beating").exists, 60, "the worker takes tasks")
        if allowed:
            wait_until(lambda: app.control.ping(timeout=1, limit=1), 60, "the worker answers")
        else:
            assert purge(app, "s").get(timeout=scaled(60))
            assert not app.control.ping(timeout=1)
