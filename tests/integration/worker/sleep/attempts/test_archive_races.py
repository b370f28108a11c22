"""What happens to a session while a worker archives it, at each point: nothing is lost, nothing comes back."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import redis

from support.archiving import EVENTS, LARGE, POINTS, STATES, Chat, Event, clear_and_erase, woken
from support.keyspace import raw
from support.observed import watch
from support.sessions import with_settings
from support.transcripts import read_transcript
from torpor.history.protocol import (
    Status,
)
from torpor.worker.archive import contents, names
from torpor.worker.deployment.services import Services
from torpor.worker.errors import SegmentMissing
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import AttemptResult, Outcome
from torpor.worker.wake.restore import restore_session

pytestmark = [pytest.mark.slow, pytest.mark.every_server]


@pytest.mark.parametrize(
    ("archive_url", "state"),
    [*(("folder", state) for state in STATES), ("gcs", woken)],
    indirect=["archive_url"],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
@pytest.mark.parametrize("point", POINTS[:-1])
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_nothing_is_lost_whatever_happens_meanwhile(
    services: Services, event: Event, point: str, state: Callable[[Chat], None]
) -> None:
    chat = Chat(services)
    state(chat)
    watched, points = watch(services)
    points.at(point, lambda: event.act(chat))
    result = archive_session(watched, chat.session_id)
    assert not points.pending
    assert result.outcome in event.outcomes
    chat.check()


@pytest.mark.parametrize("point", POINTS[:-1])
@pytest.mark.parametrize("use", ["append", "read"])
def test_a_session_that_is_used_meanwhile_stays_in_redis(services: Services, use: str, point: str) -> None:
    chat = Chat(services)
    chat.say(LARGE)
    watched, points = watch(services)
    points.at(point, lambda: chat.say() if use == "append" else services.sessions.messages("s"))
    archive_session(watched, "s")
    info = services.sessions.info("s")
    assert info
    assert (info.status, info.message_count) == (Status.LIVE, len(chat.acknowledged))
    assert services.sessions.messages("s") == chat.acknowledged
    sent = "after put segment" in points.log
    # What was verified is not sent again.
    assert info.archived_count == (LARGE if sent else 0)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    sizes = [segment.name.stop - segment.name.start for segment in contents.look(services.archive, "s").segments]
    assert sum(sizes) == len(chat.acknowledged)


def test_an_element_that_another_program_pushes_keeps_the_session_alive(
    client: redis.Redis, services: Services
) -> None:
    chat = Chat(services)
    chat.say(3)
    [key] = raw(client, "KEYS", "*:m:s")
    watched, points = watch(services)
    points.at("before commit batch", lambda: raw(client, "RPUSH", key, b"not by Torpor"))
    assert archive_session(watched, "s").outcome is Outcome.KEPT
    chat.acknowledged.append(b"not by Torpor")
    chat.check()


def test_a_maintenance_read_does_not_keep_a_session_alive(services: Services) -> None:
    chat = Chat(services)
    chat.say(LARGE)
    watched, points = watch(services)
    points.at("before commit batch", lambda: (services.sessions.info("s"), read_transcript(services, "s")))
    assert archive_session(watched, "s").outcome is Outcome.ARCHIVED
    assert not points.pending


def test_what_is_cleared_during_the_check_of_older_segments_does_not_come_back(services: Services) -> None:
    chat = Chat(services)
    woken(chat)
    watched, points = watch(services)
    points.at("before list", lambda: clear_and_erase(chat))
    assert archive_session(watched, "s").outcome is Outcome.SUPERSEDED
    chat.check()


def test_a_clear_during_the_erasure_of_another_clear_is_finished_too(services: Services) -> None:
    for point in (
        "before snapshot batch",
        "after snapshot batch",
        "before put marker",
        "before delete",
        "before note_erased",
    ):
        chat = Chat(services, f"cleared {point}")
        chat.say(3)
        archive_session(services, chat.session_id)
        chat.say(3)
        chat.clear()
        chat.say(4)
        watched, points = watch(services)
        points.at(point, chat.clear)
        archive_session(watched, chat.session_id)
        assert not points.pending
        chat.say(2)
        chat.check()


def test_a_cleared_session_is_not_archived_before_the_archive_is_erased(services: Services) -> None:
    chat = Chat(services)
    chat.say(3)
    archive_session(services, "s")
    chat.clear()
    chat.say(2)
    watched, points = watch(services)
    points.at("after note_erased", chat.check_erased)
    assert archive_session(watched, "s").outcome is Outcome.ARCHIVED
    assert not points.pending
    assert points.log.index("after note_erased") < points.log.index("before put segment")
    chat.check()


# What the archive must still have


@pytest.mark.parametrize("grown", [False, True])
def test_redis_keeps_a_session_whose_older_segment_is_missing(services: Services, grown: bool) -> None:  # noqa: FBT001
    services = with_settings(services, max_attempts=2)
    chat = Chat(services)
    chat.say(3)
    archive_session(services, "s")
    [first] = contents.look(services.archive, "s").segments
    restore_session(services, "s")
    if grown:
        chat.say(2)
    services.archive.delete(first.stored)
    results: list[AttemptResult] = [archive_session(services, "s") for _ in range(2)]
    assert [result.outcome for result in results] == [Outcome.FAILED, Outcome.QUARANTINED]
    assert all(isinstance(result.error, SegmentMissing) for result in results)
    assert services.sessions.messages("s", touch=False) == chat.acknowledged
    info = services.sessions.info("s")
    assert info
    assert re.search("Redis keeps them|are missing before epoch", info.error or "")


def test_a_session_that_was_not_changed_since_it_woke_is_not_sent_again(services: Services) -> None:
    chat = Chat(services)
    chat.say(3)
    archive_session(services, "s")
    restore_session(services, "s")
    watched, points = watch(services)
    result = archive_session(watched, "s")
    assert (result.outcome, result.object_name, result.messages) == (Outcome.ARCHIVED, None, 3)
    assert not [point for point in points.log if " put " in point]
    assert "before list" in points.log  # the archive was asked whether it still has them
    chat.check()


def test_the_owner_marker_is_there_before_the_first_segment(services: Services) -> None:
    chat = Chat(services)
    chat.say(3)
    watched, points = watch(services)
    info = services.sessions.info("s")
    assert info
    marker = names.owner_marker("ann", "s", info.epoch)
    points.at("before put segment", lambda: [stored.name for stored in services.archive.list("")].index(marker))
    assert archive_session(watched, "s").outcome is Outcome.ARCHIVED
    assert not points.pending
