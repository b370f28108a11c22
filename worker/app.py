"""The Celery app of workers and of beat: `celery -A torpor.worker.app worker`, `celery -A torpor.worker.app beat`."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn, Protocol

from billiard.util import get_pdeathsig
from celery import bootsteps
from celery.signals import (
    after_task_publish,
    beat_init,
    celeryd_init,
    task_failure,
    worker_before_create_process,
    worker_init,
    worker_shutting_down,
)
from celery.worker import state

from torpor.history.protocol import all_scripts
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment import main_thread, worker_name
from torpor.worker.deployment.broker_url import is_guarded
from torpor.worker.deployment.celery_config import make_app
from torpor.worker.deployment.services import connect
from torpor.worker.deployment.settings import Settings, own_settings
from torpor.worker.errors import DeploymentMismatch, SettingsError
from torpor.worker.logs import outages
from torpor.worker.logs.outages import Service
from torpor.worker.monitoring import health, presence
from torpor.worker.monitoring.presence import Presence
from torpor.worker.sleep import shutdown
from torpor.worker.sleep.listener import Listener
from torpor.worker.sleep.relief import Reliever
from torpor.worker.sleep.sweep import send_drains

log = logging.getLogger("torpor.app")

_HEARTBEAT_SECONDS = 10
_BEAT_SECONDS = 1


class _Watching(Protocol):
    """Something that the main process does in threads."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


def _settings() -> Settings:
    try:
        return own_settings()
    except SettingsError as error:
        _refuse(error)


def _refuse(error: Exception) -> NoReturn:
    sys.stderr.write(f"torpor: {error}\n")  # Celery's own command would print a traceback
    sys.exit(2)  # as the commands of torpor do


class _WatchingStep(bootsteps.StartStopStep):  # type: ignore[misc] # Celery is untyped
    """Watches Redis from the worker's main process, by a Reliever and a Listener, and lets others watch the worker.

    They start after the pool has forked, so that its processes do not inherit their connections, and before the worker
    needs the broker, because a full Redis may have to make room for it.
    """

    requires = ("celery.worker.components:Pool",)
    _watching: Sequence[_Watching] = ()  # Celery also stops a step that has never started

    def start(self, worker: Any) -> None:
        gc.enable()  # see _share_memory
        settings = _settings()
        _warn_of_broker(settings)
        watching: list[_Watching] = [
            *_monitor(settings),
            presence.of_worker(lambda: connect(settings), _in_work, worker.concurrency or 1),
            Reliever(settings),
        ]
        if settings.listen:
            watching.append(Listener(lambda: connect(settings), send_drains))
        for each in watching:
            try:
                each.start()
            except DeploymentMismatch as error:
                _refuse(error)
        self._watching = watching

    def stop(self, _worker: Any) -> None:
        shutdown.begin()  # Celery sends no signal for a shutdown by remote control
        for each in self._watching:
            each.stop()

    terminate = stop


class _HeartbeatStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Beats from the loop that takes messages, so that a stuck worker is seen: by /livez, and by a file."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
    _beating: Sequence[Any] = ()

    def start(self, consumer: Any) -> None:
        def beat() -> None:
            main_thread.beat()
            consumer.check_connection()

        beat()
        self._beating = [consumer.timer.call_repeatedly(_BEAT_SECONDS, beat)]
        if file := _settings().heartbeat_file:
            try:
                file.touch()
            except OSError as error:
                _refuse(error)
            self._beating.append(consumer.timer.call_repeatedly(_HEARTBEAT_SECONDS, file.touch))

    def stop(self, _consumer: Any) -> None:
        for each in self._beating:
            each.cancel()

    shutdown = stop


def _in_work() -> Mapping[str, int]:
    """The tasks that the pool is running, counted by their names without `torpor.`.

    Copied in one step, because other threads add to them.
    """
    running = (each() for each in list(state.active_requests.data))
    return Counter(request.name.removeprefix("torpor.") for request in running if request)


def _monitor(settings: Settings) -> Sequence[_Watching]:
    """The port for metrics and probes, if the settings give one."""
    if settings.http_port is None:
        return []
    from torpor.worker.monitoring.monitor import Monitor

    asked = {} if settings.broker_url is None else {"the broker": _ask_broker}  # else it is the Redis of the sessions
    try:
        return [Monitor(settings, settings.http_port, faults=health.stuck, questions=asked)]
    except OSError as error:
        _refuse(SettingsError(f"TORPOR_HTTP_PORT: port {settings.http_port} can't be opened: {error.strerror}"))


def _ask_broker() -> None:
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1)


def _warn_of_broker(settings: Settings) -> None:
    if not (settings.signing or is_guarded(settings.celery_broker)):
        log.warning(
            "whoever reaches the broker can order a purge: it has no password, and tasks are not signed; see "
            "docs/security.md"
        )


def _name(sender: str, instance: Any, **_: Any) -> None:
    """Take Celery's name of this node over. Another app's worker may have imported this module."""
    if instance.app is app:
        worker_name.set_name(sender)
        after_task_publish.connect(_note_sent)


def _note_failure(exception: Exception, **_: Any) -> None:
    outages.level(exception)


def _note_sent(**_: Any) -> None:
    """A message was sent, so the broker works, and perhaps beat."""
    outages.end(Service.REDIS if _settings().broker_url is None else Service.BROKER)
    for beat in _beats:
        beat.acted()


# The presence of beat, in the process of beat.
_beats: list[Presence] = []


def _note_beat(sender: Any, **_: Any) -> None:
    if sender.app is not app:
        return
    after_task_publish.connect(_note_sent)
    settings = _settings()
    _beats.append(Presence(lambda: connect(settings), "beat"))
    _beats[-1].start()


def _prepare(sender: Any, **_: Any) -> None:
    """Do once, before the pool forks, what its processes inherit. Another app's worker may have imported this module.

    Leave the machine's cores to applications and Redis when they want them: nobody waits for an archive. And make what
    each process would otherwise make for itself: the settings, the scripts, and Google's client if the archive is a
    bucket, which takes a fifth of a second and 15 MiB to import.
    """
    if sender.app is app:
        settings = own_settings()
        os.nice(settings.nice)
        open_archive(settings.archive_url)
        all_scripts()
        _load_parser_of_billiard()
        os.register_at_fork(after_in_child=gc.enable)


def _load_parser_of_billiard() -> None:
    """Load the parser of C with which billiard asks Linux to end a pool's process when its parent has ended."""
    with suppress(OSError):  # on other systems billiard does not ask either
        get_pdeathsig()


def _share_memory(**_: Any) -> None:
    """Before a process of the pool is forked, take what there is out of the garbage collection.

    The collector writes to each object that it looks at, and then the processes would not share its page any more. So
    `torpor worker` begins to collect only after this; see https://docs.python.org/3/library/gc.html#gc.freeze.
    """
    if gc.isenabled():  # the new process takes the place of one that has ended
        gc.collect()
    gc.freeze()


celeryd_init.connect(_name)
worker_init.connect(_prepare)
worker_before_create_process.connect(_share_memory)
worker_shutting_down.connect(shutdown.begin)
task_failure.connect(_note_failure)
beat_init.connect(_note_beat)

app = make_app(_settings)
app.steps["worker"].add(_WatchingStep)
app.steps["consumer"].add(_HeartbeatStep)
