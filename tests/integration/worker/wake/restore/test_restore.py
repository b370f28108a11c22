"""Restoring a session: every message once, in order, with the very bytes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import redis
from langchain_core.messages import HumanMessage

from support.keyspace import raw
from support.observed import watch
from support.restoring import EVENTS, asleep, everything, live, say, segments
from support.sessions import purge_session, with_settings
from support.transcripts import read_transcript
from support.waiting import wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.history.compression import from_stored
from torpor.history.protocol import (
    ANY_OWNER,
    Expiry,
    RedisUnavailable,
    RestoreTicket,
    SessionNotFound,
    StagingLost,
    Status,
    run_sync,
)
from torpor.history.session import Page
from torpor.worker.archive import contents
from torpor.worker.deployment.services import Services
from torpor.worker.errors import SegmentDamaged
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import RestoreOutcome, restore_for_reader, restore_session

STRANGE = [b"", b"\xff\xfe", b"NaN", b"{", b'{"a":\n1}', b"\r\n", b"\x00" * 100, b'"\\ud800"', b"x" * 70_000]
POINTS = ["after begin_restore", "before list", "before open", "after stage", "before finish_restore"]


class Killed(BaseException):
    """Ends the process here."""


def transcript_of(services: Services, session_id: str) -> Page | None:
    return run_sync(services.sessions.operations.transcript(session_id, owner=ANY_OWNER, touch=False))


# What comes back


def test_a_reader_who_has_asked_for_a_session_that_nobody_has_sees_for_a_minute_that_it_is_empty(
    client: redis.Redis, services: Services
) -> None:
    with pytest.raises(SessionNotFound):
        restore_session(services, "s")
    assert transcript_of(services, "s") is None, "nobody waits for the answer"
    assert restore_for_reader(services, "s").outcome is RestoreOutcome.NOTHING
    page = transcript_of(services, "s")
    assert page
    assert (page.messages, page.complete) == ([], True)
    [key] = raw(client, "KEYS", "*:due")
    left_ms = float(raw(client, "ZSCORE", key, "s")) - 1000 * raw(client, "TIME")[0]
    assert 50_000 < left_ms <= 61_000, "then the worker forgets it"


def test_every_element_comes_back_byte_for_byte(client: redis.Redis, services: Services) -> None:
    said = say(services, 0, 1)
    [key] = raw(client, "KEYS", "*:m:s")
    raw(client, "RPUSH", key, *STRANGE)
    said += [*STRANGE, *say(services, 1, 1)]
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert read_transcript(services, "s") == said
    assert restore_session(services, "s").messages == len(said)
    assert from_stored(raw(client, "LRANGE", key, 0, -1)) == said
    assert raw(client, "TTL", key) == -1


def test_a_session_of_many_epochs_comes_back_in_order(services: Services) -> None:
    said = asleep(services, 1, 7, 2, 11, 1)
    assert len({segment.name.epoch for segment in contents.look(services.archive, "s").segments}) == 5
    assert restore_session(services, "s").messages == len(said)
    assert live(services) == said
    said += say(services, len(said), 2)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    said += say(services, len(said), 1)
    assert restore_session(services, "s").messages == len(said) - 1
    assert live(services) == said


def test_what_was_archived_of_a_live_epoch_does_not_come_twice(services: Services) -> None:
    said = asleep(services, 4)
    watched, points = watch(services)
    said += say(services, 4, 3)
    points.at("before commit batch", lambda: said.extend(say(services, 7, 2)))
    assert archive_session(watched, "s").outcome is Outcome.KEPT
    assert read_transcript(services, "s") == said
    assert restore_session(services, "s").messages == 4
    assert live(services) == said
    info = services.sessions.info("s")
    assert info
    assert (info.restored_count, info.archived_count, info.complete) == (4, 7, True)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert read_transcript(services, "s") == said


def test_a_session_gets_back_its_owner_its_expiry_and_its_beginning(services: Services) -> None:
    expiry = Expiry(timedelta(seconds=77), timedelta(days=3))
    say(services, 0, 1, owner="ann", expiry=expiry)
    created = services.sessions.info("s")
    archive_session(services, "s")
    say(services, 1, 1)  # it comes back without them
    restore_session(services, "s")
    info = services.sessions.info("s")
    assert created
    assert info
    assert (info.owner, info.expiry, info.created) == ("ann", expiry, created.created)
    assert (info.idle_timeout, info.max_age) == (expiry.idle, expiry.max_age)


def test_a_restored_session_is_due_after_its_idle_timeout_again(services: Services) -> None:
    asleep(services, 2, expiry=Expiry(timedelta(seconds=100)))
    restore_session(services, "s")
    info = services.sessions.info("s")
    assert info
    assert info.due_at
    assert info.status is Status.LIVE
    assert timedelta(seconds=98) < info.due_at - info.last_active <= timedelta(seconds=101)


def test_restoring_again_changes_nothing(client: redis.Redis, services: Services) -> None:
    asleep(services, 4)
    assert restore_session(services, "s").outcome is RestoreOutcome.RESTORED
    before = everything(client)
    assert restore_session(services, "s").outcome is RestoreOutcome.COMPLETE
    assert everything(client) == before


@pytest.mark.parametrize("awake", [0, 3])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_nothing_is_lost_or_doubled_whatever_happens_during_a_restore(
    services: Services, event: Callable[[Services, str], list[bytes]], point: str, awake: int
) -> None:
    said = asleep(services, 4, 5)
    if awake:
        said += say(services, len(said), awake)
    watched, points = watch(services)
    points.at(point, lambda: said.extend(event(services, "s")))
    result = restore_session(watched, "s")
    assert not points.pending
    assert result.outcome in (RestoreOutcome.RESTORED, RestoreOutcome.COMPLETE)
    assert live(services) == said
    assert read_transcript(services, "s") == said
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert read_transcript(services, "s") == said


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("erase", ["clear", "purge"])
def test_what_is_erased_during_a_restore_does_not_come_back(services: Services, erase: str, point: str) -> None:
    asleep(services, 4, 5)
    watched, points = watch(services)

    def act() -> None:
        if erase == "clear":
            services.sessions.clear("s")
        else:
            purge_session(services, "s")

    points.at(point, act)
    try:
        restore_session(watched, "s")
    except SessionNotFound:
        assert erase == "purge"
    assert not points.pending
    assert live(services) == []
    said = say(services, 50, 1, allow_reuse=True)
    drain(services, list(services.sessions.due_counts()) or [0])
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    restore_session(services, "s")
    assert live(services) == said
    assert len(segments(services)) == 1


def test_a_page_of_an_older_restore_is_refused(client: redis.Redis, services: Services) -> None:
    said = asleep(services, 9)
    watched, points = watch(services)
    points.at("after stage", lambda: restore_session(services, "s"))
    assert restore_session(watched, "s").outcome is RestoreOutcome.COMPLETE
    assert points.log.count("after stage") == 2  # the page that was refused was its last
    assert "before finish_restore" not in points.log
    assert live(services) == said
    assert not raw(client, "KEYS", "*:r:*")


def test_a_restore_leaves_the_session_to_one_that_is_still_running(services: Services) -> None:
    said = asleep(services, 9)
    watched, points = watch(services)
    tickets = []
    points.at(
        "after begin_restore",
        lambda: tickets.append(services.sessions.begin_restore("s", timedelta(seconds=30))),
    )
    assert restore_session(watched, "s").outcome is RestoreOutcome.SUPERSEDED
    [ticket] = tickets
    assert isinstance(ticket, RestoreTicket)
    assert services.sessions.abandon(ticket)
    assert restore_session(services, "s").messages == 9
    assert live(services) == said


def test_a_session_that_is_being_restored_is_not_due(services: Services) -> None:
    asleep(services, 9)
    seen = []
    for point in POINTS:
        watched, points = watch(services)

        def look() -> None:
            info = services.sessions.info("s")
            seen.append((info and info.status, services.sessions.due_counts()))

        points.at(point, look)
        restore_session(watched, "s")
        archive_session(services, "s")
    assert seen == [(Status.RESTORING, {})] * len(POINTS)


@pytest.mark.parametrize("awake", [0, 3])
@pytest.mark.parametrize("point", [*POINTS, "after finish_restore"])
@pytest.mark.parametrize("then", ["restore", "worker"])
def test_a_restore_that_was_killed_is_finished_by_the_next_or_forgotten_by_the_worker(
    client: redis.Redis, services: Services, then: str, point: str, awake: int
) -> None:
    said = asleep(services, 4, 5)
    if awake:
        said += say(services, len(said), awake)
    watched, points = watch(services, lease_seconds=0.1)

    def kill() -> None:
        raise Killed

    points.at(point, kill)
    with pytest.raises(Killed):
        restore_session(watched, "s")
    assert read_transcript(services, "s") == said
    if then == "restore":
        restore_session(services, "s")
        assert live(services) == said
    else:
        if awake or point == "after finish_restore":
            assert services.sessions.due_counts() == {}  # a session with messages stays until it is idle
            services.sessions.close("s")
        due = wait_until(services.sessions.due_counts, what="the restore's lease ends")
        drain(services, list(due))
        assert services.sessions.info("s") is None
        assert read_transcript(services, "s") == said
        restore_session(services, "s")
        assert live(services) == said
    wait_until(lambda: not raw(client, "KEYS", "*:r:*"), what="what was staged expires")


def test_a_staging_list_that_was_evicted_is_an_error_and_leaves_the_session_as_it_was(
    client: redis.Redis, services: Services
) -> None:
    said = [*asleep(services, 4, 5), *say(services, 9, 2)]
    before = everything(client)
    for point in ("after stage", "before finish_restore"):
        watched, points = watch(services)
        points.at(point, lambda: raw(client, "DEL", *raw(client, "KEYS", "*:r:*")))
        with pytest.raises(StagingLost):
            restore_session(watched, "s")
        assert everything(client) == before
    restore_session(services, "s")
    assert live(services) == said


# Quarantine


def test_a_restore_does_not_take_a_session_out_of_quarantine(services: Services) -> None:
    said = asleep(services, 4)
    said += say(services, 4, 1)
    failing = with_settings(services, max_attempts=1)
    watched, points = watch(failing)

    def fail() -> None:
        raise SegmentDamaged("no")

    points.at("before put segment", fail)
    assert archive_session(watched, "s").outcome is Outcome.QUARANTINED
    restore_session(services, "s")
    assert live(services) == said
    info = services.sessions.info("s")
    assert info
    assert (info.status, info.due_at, info.error) == (Status.QUARANTINED, None, "no")
    assert archive_session(services, "s").outcome is Outcome.QUARANTINED


def test_a_restore_that_fails_does_not_take_a_session_out_of_quarantine(
    client: redis.Redis, services: Services
) -> None:
    asleep(services, 4)
    say(services, 4, 1)
    watched, points = watch(with_settings(services, max_attempts=1))

    def fail() -> None:
        raise SegmentDamaged("no")

    points.at("before put segment", fail)
    archive_session(watched, "s")
    before = everything(client)
    for point in ("before list", "before open", "before finish_restore"):
        points.at(point, fail)
        with pytest.raises(SegmentDamaged, match="no"):
            restore_session(watched, "s")
        assert everything(client) == before


def test_an_expiry_that_was_changed_while_nothing_was_written_is_what_the_session_wakes_with(
    client: redis.Redis, services: Services
) -> None:
    chat = MemorystoreChatMessageHistory(client, "s", 10, owner="ann", shards=4)
    chat.add_message(HumanMessage("once"))
    for days in (30, 40):
        assert archive_session(services, "s").outcome is Outcome.ARCHIVED
        restore_session(services, "s")
        chat.set_expiry(ttl=days * 86_400)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    restore_session(services, "s")
    info = chat.info()
    assert info
    assert info.expiry == Expiry(timedelta(days=40))
    assert chat.messages == [HumanMessage("once")]
    count = len(contents.look(services.archive, "s").segments)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert len(contents.look(services.archive, "s").segments) == count, (
        "what is remembered already is not written again"
    )


def test_an_expiry_that_is_changed_between_attempts_is_the_last_one_when_the_session_wakes(
    client: redis.Redis, services: Services
) -> None:
    chat = MemorystoreChatMessageHistory(client, "s", 100, shards=4)
    chat.add_message(HumanMessage("once"))
    watched, points = watch(services, retry_delay_seconds=0.1)

    def fail() -> None:
        raise RedisUnavailable("the connection is cut")

    for ttl in (200, 300):
        points.at("before commit batch", fail)
        assert archive_session(watched, "s").outcome is Outcome.POSTPONED
        chat.set_expiry(ttl=ttl)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    restore_session(services, "s")
    info = chat.info()
    assert info
    assert info.expiry == Expiry(timedelta(seconds=300))
    assert chat.messages == [HumanMessage("once")]
