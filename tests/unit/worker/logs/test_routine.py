"""What beat sends again and again has no line of its own in the log."""

from __future__ import annotations

from pathlib import Path

from torpor.worker.deployment.celery_config import make_app
from torpor.worker.deployment.settings import Settings
from torpor.worker.logs.celery_logging import _ROUTINE


def test_each_task_of_beat_is_routine(tmp_path: Path) -> None:
    settings = Settings(archive_url=tmp_path.as_uri())
    app = make_app(lambda: settings, set_as_current=False)
    assert {each["task"] for each in app.conf.beat_schedule.values()} == set(_ROUTINE)
