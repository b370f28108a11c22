"""The Celery app and the beat schedule: `celery -A torpor.worker.app worker`, `celery -A torpor.worker.app beat`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from celery import Celery, bootsteps
from celery.signals import worker_init, worker_shutting_down

from torpor.worker.archive.stores.url import parse_archive_url
from torpor.worker.deployment.services import connect
from torpor.worker.deployment.settings import Settings, load_settings
from torpor.worker.errors import SettingsError
from torpor.worker.sleep import shutdown
from torpor.worker.sleep.listener import Listener
from torpor.worker.sleep.relief import Reliever

# How old a hint may be. A worker compares with its own clock, so it is long beside what clocks differ by.
HINT_SECONDS = 300
_EXPIRE_SECONDS = 3600
# A purge is done by whoever has ordered it; each so many sweeps those are looked for that were left in the middle.
_SWEEPS_OF_PURGES = 4
_REDIS = ("redis://", "rediss://", "redis+socket://")


def make_app(settings: Callable[[], Settings], *, set_as_current: bool = True) -> Celery:
    """A Celery app for a deployment; the settings are asked for when Celery first needs its configuration."""
    app = Celery("torpor", include=["torpor.worker.tasks"], set_as_current=set_as_current)
    app.add_defaults(lambda: _configuration(settings()))
    app.steps["worker"].add(_watching_step(settings))
    return app


def _watching_step(settings: Callable[[], Settings]) -> type[bootsteps.StartStopStep]:
    """What watches Redis from the worker's main process: a Listener and a Reliever.

    They begin when the pool is there, so that their connections are not there before it forks, and before the worker
    needs the broker, which a full Redis may have to make room for.
    """

    class WatchingStep(bootsteps.StartStopStep):  # type: ignore[misc] # Celery is untyped
        requires = ("celery.worker.components:Pool",)
        _watching: Sequence[Listener | Reliever] = ()  # Celery stops what has never started, too

        def start(self, _worker: Any) -> None:
            watching: list[Listener | Reliever] = [Reliever(settings())]
            if settings().listen:
                watching.append(Listener(lambda: connect(settings()), _send_drains))
            for each in watching:
                each.start()
            self._watching = watching

        def stop(self, _worker: Any) -> None:
            shutdown.begin()  # which Celery has not said where it was told by remote control
            for each in self._watching:
                each.stop()

        terminate = stop

    return WatchingStep


def _send_drains(due: Mapping[int, int]) -> None:
    from torpor.worker.tasks import send_drains  # which needs a finished app

    send_drains(due)


def _configuration(settings: Settings) -> dict[str, Any]:
    """Messages are hints, the due index is the truth: early acknowledged, soon expired, results of purges alone."""
    return {
        "broker_url": settings.celery_broker,
        "broker_connection_retry_on_startup": True,
        "broker_transport_options": _transport_options(settings),
        "task_default_queue": settings.namespace,
        "task_acks_late": False,
        "worker_cancel_long_running_tasks_on_connection_loss": True,  # Celery 6's default; only for late acks
        "task_ignore_result": True,
        "worker_prefetch_multiplier": 1,
        "timezone": "UTC",
        "beat_schedule": {
            "torpor.sweep": {
                "task": "torpor.sweep",
                "schedule": settings.sweep_interval_seconds,
                "options": {"expires": HINT_SECONDS},
            },
            "torpor.sweep_purges": {
                "task": "torpor.sweep_purges",
                "schedule": _SWEEPS_OF_PURGES * settings.sweep_interval_seconds,
                "options": {"expires": HINT_SECONDS},
            },
            **_expiry(settings),
        },
        **_results(settings),
    }


def _results(settings: Settings) -> dict[str, Any]:
    """Where the results of purges are kept for a day: in the broker, if it is a Redis."""
    url = settings.celery_broker
    if not url.startswith(_REDIS):
        return {}
    return {
        "result_backend": url,
        "result_expires": 86_400,
        "result_backend_transport_options": {"global_keyprefix": f"{settings.namespace}:celery:"},
    }


def _expiry(settings: Settings) -> dict[str, Any]:
    """A folder expires by a task; a bucket has a lifecycle rule for it."""
    if not isinstance(parse_archive_url(settings.archive_url), Path):
        return {}
    options = {"expires": HINT_SECONDS}
    return {"torpor.expire": {"task": "torpor.expire", "schedule": _EXPIRE_SECONDS, "options": options}}


def _transport_options(settings: Settings) -> dict[str, Any]:
    """Keep Celery's keys within the namespace, so that deployments can share a Redis; give up on one that hangs."""
    if settings.celery_broker.startswith(_REDIS):
        return {
            "global_keyprefix": f"{settings.namespace}:celery:",
            "socket_connect_timeout": 5,
            "socket_timeout": 30,
        }
    return {}


def _settings() -> Settings:
    try:
        return load_settings()
    except SettingsError as error:
        sys.exit(f"torpor: {error}")  # Celery's own command would print a traceback


def _give_way(sender: Any, **_: Any) -> None:
    """Leave the machine's cores to applications and Redis when they want them: nobody waits for an archive.

    Before the pool is there, whose processes inherit it. Another app's worker may have imported this module.
    """
    if sender.app is app:
        os.nice(load_settings().nice)


worker_init.connect(_give_way)
worker_shutting_down.connect(shutdown.begin)

app = make_app(_settings)
