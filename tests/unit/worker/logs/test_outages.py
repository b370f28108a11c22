"""An outage has one line in the log when it begins and one when it ends, for all processes and threads of a worker."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from torpor.history.protocol import RedisUnavailable, TransientError
from torpor.worker.errors import ArchiveMisconfigured, ArchiveUnavailable
from torpor.worker.logs import outages
from torpor.worker.logs.outages import Service


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """No outage that another test has left, and outages of no time: any of them may end, and the clock stands still."""
    outages._outages.cache_clear()
    monkeypatch.setattr(outages, "_LEAST_SECONDS", 0.0)
    monkeypatch.setattr(outages, "monotonic", lambda: 0.0)


def test_an_answer_that_was_on_its_way_ends_no_outage(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "_LEAST_SECONDS", 60.0)
    outages.begin(Service.REDIS, "it is away")
    outages.end(Service.REDIS)
    assert caplog.messages == ["Redis fails: it is away"]
    monkeypatch.setattr(outages, "_LEAST_SECONDS", 0.0)
    outages.end(Service.REDIS)
    assert len(caplog.messages) == 2


def test_of_many_threads_one_tells_of_the_begin_and_one_of_the_end(caplog: pytest.LogCaptureFixture) -> None:
    with ThreadPoolExecutor(8) as threads:
        for _ in range(2):
            list(threads.map(lambda _: outages.begin(Service.REDIS, "it is away"), range(64)))
            list(threads.map(lambda _: outages.end(Service.REDIS), range(64)))
    told = [message.partition(", after ")[0] for message in caplog.messages]
    assert told == ["Redis fails: it is away", "Redis works again"] * 2


def test_the_services_fail_apart(caplog: pytest.LogCaptureFixture) -> None:
    outages.begin(Service.BROKER, "it is away")
    outages.end(Service.REDIS)
    outages.end(Service.BROKER)
    assert caplog.messages == ["the broker fails: it is away", "the broker works again, after 0 seconds"]


def test_a_forked_process_tells_nothing_that_its_parent_has_told(caplog: pytest.LogCaptureFixture) -> None:
    outages.begin(Service.REDIS, "it is away")
    child = os.fork()
    if not child:
        caplog.clear()
        outages.begin(Service.REDIS, "it is away")
        told = len(caplog.messages)
        outages.end(Service.REDIS)
        os._exit(10 * told + len(caplog.messages))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    outages.end(Service.REDIS)
    assert caplog.messages == ["Redis fails: it is away"]


def test_what_an_outage_prevents_is_logged_at_debug_and_everything_else_as_usual(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert outages.level(RedisUnavailable("it is away")) == logging.DEBUG
    assert outages.level(RedisUnavailable("it is still away")) == logging.DEBUG
    outages.end(Service.REDIS)
    assert caplog.messages[0] == "Redis fails: it is away"
    assert len(caplog.messages) == 2
    for error in (ArchiveUnavailable("it is away"), ArchiveMisconfigured("billing")):
        assert outages.level(error) == logging.DEBUG  # the first worker to note it tells of it
    assert outages.level(TransientError("in use")) == logging.WARNING
    assert outages.level(ValueError(), logging.ERROR) == logging.ERROR
    assert len(caplog.messages) == 2
