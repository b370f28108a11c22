"""A folder's own expiry, which beat starts each hour."""

from __future__ import annotations

from datetime import timedelta

import pytest
import redis
from celery import Celery

from support.retained import fall_asleep, say, segments
from support.sessions import age
from torpor.worker import tasks
from torpor.worker.deployment.celery_config import make_app
from torpor.worker.deployment.services import Services

# The folder's own expiry


def app_of(services: Services, monkeypatch: pytest.MonkeyPatch) -> Celery:
    """A worker's app whose tasks have these services."""
    monkeypatch.setattr(tasks, "services", lambda: services)
    app = make_app(lambda: services.settings, set_as_current=False)
    app.finalize()
    return app


def test_beat_has_a_folder_expired_each_hour_and_leaves_a_bucket_to_its_lifecycle_rule(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_of(services, monkeypatch)
    scheduled = app.conf.beat_schedule.get("torpor.expire")
    if services.archive.url.startswith("gs:"):
        assert scheduled is None
    else:
        assert scheduled["schedule"] == 3600
        assert scheduled["task"] in app.tasks


def test_the_task_deletes_what_has_expired_in_a_folder(
    client: redis.Redis, monthly: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    for session_id, days in (("s", 31), ("t", 29)):
        say(monthly, 1, session_id=session_id)
        age(client, session_id, timedelta(days=days))
        fall_asleep(monthly, session_id)
    is_folder = monthly.archive.url.startswith("file:")
    assert app_of(monthly, monkeypatch).tasks["torpor.expire"]() == is_folder
    assert len(segments(monthly, "s")) == 1 - is_folder
    assert len(segments(monthly, "t")) == 1
