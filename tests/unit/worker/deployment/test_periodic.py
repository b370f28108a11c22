"""A periodic thread: what it calls, what it logs, how it stops."""

from __future__ import annotations

import logging
import threading

import pytest

from torpor.history.protocol import TransientError
from torpor.worker.deployment.periodic import PeriodicThread

log = logging.getLogger("torpor.test")


class Action:
    """Counts its calls, and raises the errors it was given, one a call."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0
        self.called_often = threading.Event()

    def __call__(self) -> None:
        self.calls += 1
        if self.calls > 2:
            self.called_often.set()
        if self.errors:
            raise self.errors.pop(0)


def periodic(action: Action, seconds: float = 0.001) -> PeriodicThread:
    return PeriodicThread("torpor-test", action, pause=lambda: seconds, log=log, failure="not done")


def test_it_goes_on_after_a_failure_and_logs_it(caplog: pytest.LogCaptureFixture) -> None:
    action = Action(TransientError("Redis is away"))
    thread = periodic(action)
    thread.start()
    assert action.called_often.wait(10)
    thread.stop()
    assert [record.getMessage() for record in caplog.records] == ["not done: Redis is away"]


def test_the_text_of_an_error_that_is_not_torpors_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    periodic(Action(ValueError("a secret"))).call()
    assert [record.getMessage() for record in caplog.records] == ["not done: ValueError"]


def test_stop_ends_a_long_pause_and_nothing_is_called_after_it() -> None:
    action = Action()
    thread = periodic(action, seconds=600)
    thread.start()
    assert not thread.is_stopped
    thread.stop()
    assert thread.is_stopped
    assert action.calls == 0


def test_stop_waits_for_a_call_no_longer_than_it_is_told() -> None:
    begun, release = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        release.wait(60)

    thread = PeriodicThread("torpor-test", hang, pause=lambda: 0, log=log, failure="not done")
    thread.start()
    assert begun.wait(10)
    thread.stop(timeout=0.01)
    release.set()
    thread.stop()
