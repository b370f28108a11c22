"""Reading a transcript without waking its session."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import redis

from support.observed import watch
from support.restoring import EVENTS, archived_meanwhile, asleep, elements, everything, live, say
from support.sessions import purge_session
from support.transcripts import read_transcript
from torpor.history.protocol import (
    SessionNotFound,
)
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session

# Reading without waking


@pytest.mark.parametrize("awake", [0, 2])
def test_a_transcript_is_read_without_waking_or_touching(client: redis.Redis, services: Services, awake: int) -> None:
    said = asleep(services, 3, 4)
    if awake:
        said += say(services, len(said), awake)
    before = everything(client)
    assert read_transcript(services, "s") == said
    assert everything(client) == before
    restore_session(services, "s")
    assert live(services) == said
    assert read_transcript(services, "s") == said


@pytest.mark.parametrize("point", ["before list", "before open"])
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_a_transcript_that_is_read_while_the_session_moves_is_one_that_it_had(
    services: Services, event: Callable[[Services, str], list[bytes]], point: str
) -> None:
    before = asleep(services, 4, 5)
    watched, points = watch(services)
    said: list[bytes] = []
    points.at(point, lambda: said.extend(event(services, "s")))
    if event is archived_meanwhile:
        say(services, 9, 1)
        before += elements(9, 1)
    assert read_transcript(watched, "s") in (before, before + said)
    assert not points.pending


@pytest.mark.parametrize(("awake", "point"), [(0, "before list"), (3, "after read"), (3, "never")])
def test_a_transcript_is_whole_and_not_doubled_where_the_session_sleeps_and_wakes_while_it_is_read(
    services: Services, awake: int, point: str
) -> None:
    said = asleep(services, 4, 5)
    if awake:
        said += say(services, len(said), awake)
    watched, points = watch(services)

    def sleep() -> None:
        assert archive_session(services, "s").outcome is Outcome.ARCHIVED

    def sleep_and_come_back() -> None:
        if awake:
            sleep()
        said.extend(say(services, len(said), 2))

    points.at("after info", sleep_and_come_back)
    points.at(point, sleep)
    assert read_transcript(watched, "s") == said
    assert points.pending in ([], ["never"])


def test_a_transcript_that_is_erased_while_it_is_read_is_gone(services: Services) -> None:
    for point in ("before list", "before open"):
        asleep(services, 4, 5, session_id=point)
        watched, points = watch(services)
        points.at(point, partial(purge_session, services, point))
        with pytest.raises(SessionNotFound):
            read_transcript(watched, point)
        assert not points.pending
