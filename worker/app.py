"""The Celery app of workers and of beat: `celery -A torpor.worker.app worker`, `celery -A torpor.worker.app beat`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from celery import bootsteps
from celery.signals import worker_init, worker_shutting_down

from torpor.history.protocol import TorporError
from torpor.worker.deployment.celery_config import make_app
from torpor.worker.deployment.services import connect, open_deployment
from torpor.worker.deployment.settings import Settings, load_settings
from torpor.worker.errors import DeploymentMismatch, SettingsError
from torpor.worker.sleep import shutdown
from torpor.worker.sleep.listener import Listener
from torpor.worker.sleep.relief import Reliever
from torpor.worker.sleep.sweep import send_drains

log = logging.getLogger("torpor.worker")


def _settings() -> Settings:
    try:
        return load_settings()
    except SettingsError as error:
        _refuse(error)


def _refuse(error: Exception) -> NoReturn:
    sys.stderr.write(f"torpor: {error}\n")  # Celery's own command would print a traceback
    sys.exit(2)  # as the commands of torpor do


def _check_deployment(settings: Settings) -> None:
    """End the process if Redis and the archive do not belong together. If one is down, the tasks look later."""
    try:
        open_deployment(settings)
    except DeploymentMismatch as error:
        _refuse(error)
    except TorporError as error:
        log.warning("nobody knows yet whether Redis and the archive belong together: %s", error)


class _WatchingStep(bootsteps.StartStopStep):  # type: ignore[misc] # Celery is untyped
    """Watches Redis from the worker's main process, by a Reliever and a Listener.

    They start after the pool has forked, so that its processes do not inherit their connections, and before the worker
    needs the broker, because a full Redis may have to make room for it.
    """

    requires = ("celery.worker.components:Pool",)
    _watching: Sequence[Listener | Reliever] = ()  # Celery also stops a step that has never started

    def start(self, _worker: Any) -> None:
        settings = _settings()
        _check_deployment(settings)
        watching: list[Listener | Reliever] = [Reliever(settings)]
        if settings.listen:
            watching.append(Listener(lambda: connect(settings), send_drains))
        for each in watching:
            each.start()
        self._watching = watching

    def stop(self, _worker: Any) -> None:
        shutdown.begin()  # Celery sends no signal for a shutdown by remote control
        for each in self._watching:
            each.stop()

    terminate = stop


def _give_way(sender: Any, **_: Any) -> None:
    """Leave the machine's cores to applications and Redis when they want them: nobody waits for an archive.

    Runs before the pool forks, so its processes inherit it. Another app's worker may have imported this module.
    """
    if sender.app is app:
        os.nice(load_settings().nice)


worker_init.connect(_give_way)
worker_shutting_down.connect(shutdown.begin)

app = make_app(_settings)
app.steps["worker"].add(_WatchingStep)
