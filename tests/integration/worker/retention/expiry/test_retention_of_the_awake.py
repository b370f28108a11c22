"""Sessions that wake up, or are awake for longer than the archive keeps their archived part."""

from __future__ import annotations

import pytest
import redis

from support.keyspace import dump
from support.observed import watch
from support.retained import (
    DAY,
    MARKER_OUTLIVES,
    MONTH,
    MONTH_SECONDS,
    described,
    ends,
    fall_asleep,
    lapse,
    live,
    marker_ends,
    say,
    segments,
)
from support.sessions import age, with_settings
from support.transcripts import read_transcript
from support.waiting import wait_until
from torpor.history.protocol import Expiry, PurgeOutcome, SessionNotFound
from torpor.worker.archive import names
from torpor.worker.archive.segment import pack
from torpor.worker.deployment.services import Services
from torpor.worker.retention import legal_hold
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import RestoreOutcome, restore_session

# Waking up


def test_a_session_that_wakes_up_is_kept_for_its_whole_retention_before_it_is_read(
    client: redis.Redis, monthly: Services
) -> None:
    say(monthly, 1, 2, owner="ann")
    age(client, "s", 20 * DAY)
    fall_asleep(monthly)
    watched, points = watch(monthly)
    before = monthly.sessions.redis_time()
    restore_session(watched, "s")
    assert points.log.index("after amend") < points.log.index("before open")
    [end] = ends(monthly)
    assert end
    assert before + MONTH <= end <= monthly.sessions.redis_time() + MONTH
    assert marker_ends(monthly) == [end + MARKER_OUTLIVES]


def test_waking_does_not_end_what_is_kept_for_ever(services: Services) -> None:
    say(services, 1, owner="ann")
    fall_asleep(services)
    restore_session(with_settings(services, archive_retention_seconds=MONTH_SECONDS), "s")
    assert ends(services) == {None}
    assert marker_ends(services) == [None]


def test_waking_leaves_the_end_of_what_is_awake_already(services: Services) -> None:
    """A message that came during the upload keeps the session in Redis: what was uploaded does not wake up."""
    say(services, 1, owner="ann", expiry=Expiry(retention=MONTH))
    watched, points = watch(services)
    points.at("before commit batch", lambda: say(services, 2))
    assert archive_session(watched, "s").outcome is Outcome.KEPT
    before = ends(services)
    assert restore_session(services, "s").outcome is RestoreOutcome.RESTORED
    assert ends(services) == before


def test_what_has_expired_is_not_read_though_the_store_has_a_part_of_it_still(
    client: redis.Redis, monthly: Services
) -> None:
    say(monthly, 1, owner="ann")
    age(client, "s", 31 * DAY)
    fall_asleep(monthly)
    for reading in (restore_session, read_transcript):
        with pytest.raises(SessionNotFound):
            reading(monthly, "s")
    assert monthly.sessions.info("s") is None
    assert len(segments(monthly)) == 1


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)  # the emulator keeps no holds
@pytest.mark.parametrize("held_first", [True, False])
def test_a_held_owners_session_outlives_its_retention_and_is_found_to_be_released(
    client: redis.Redis, monthly: Services, *, held_first: bool
) -> None:
    if held_first:
        legal_hold.hold_owner(monthly, "ann", "a lawsuit")
    said = say(monthly, 1, owner="ann")
    age(client, "s", 31 * DAY)
    fall_asleep(monthly)
    if not held_first:
        legal_hold.hold_owner(monthly, "ann", "a lawsuit")
        archive_session(monthly, "s")
    assert lapse(monthly) == 0
    assert read_transcript(monthly, "s") == said
    assert legal_hold.hold_owner(monthly, "ann", None) == legal_hold.HoldResult(1, 2)
    assert lapse(monthly) == 2


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)  # the emulator keeps no holds
def test_what_a_legal_hold_keeps_can_be_read_when_it_has_expired(client: redis.Redis, monthly: Services) -> None:
    said = say(monthly, 1)
    age(client, "s", 31 * DAY)
    fall_asleep(monthly)
    [stored] = segments(monthly)
    monthly.archive.amend(stored, held=True)
    assert lapse(monthly) == 0
    assert read_transcript(monthly, "s") == said


def test_what_was_written_after_the_rest_had_expired_is_a_session_of_its_own(
    client: redis.Redis, monthly: Services
) -> None:
    say(monthly, 1, owner="ann")
    age(client, "s", 31 * DAY)
    old = fall_asleep(monthly)
    said = say(monthly, 2, owner="ann")
    active = fall_asleep(monthly)
    assert ends(monthly) == {old + MONTH, active + MONTH}
    assert restore_session(monthly, "s").messages == 1
    assert live(monthly) == said


def test_a_segment_that_expires_while_it_is_looked_at_is_missed_by_nobody(
    client: redis.Redis, monthly: Services
) -> None:
    say(monthly, 1, owner="ann")
    age(client, "s", 20 * DAY)
    fall_asleep(monthly)
    watched, points = watch(monthly)
    points.at("before amend", lambda: lapse(monthly))
    with pytest.raises(SessionNotFound):
        restore_session(watched, "s")
    assert points.pending == []
    assert monthly.sessions.info("s") is None


# A session that is awake for longer than the archive keeps its archived part


def anew(services: Services) -> None:
    """Archive until the session sleeps; the first attempt erases the rest of its old part."""
    wait_until(lambda: archive_session(services, "s").outcome is Outcome.ARCHIVED)


def test_a_session_that_outlives_its_archived_part_is_archived_anew(monthly: Services) -> None:
    quick = with_settings(monthly, lease_seconds=0.2)
    said = say(quick, 1, 2, owner="ann")
    fall_asleep(quick)
    restore_session(quick, "s")
    said += say(quick, 3)
    assert lapse(quick) == 2
    before = described(quick)
    assert archive_session(quick, "s").outcome is Outcome.SUPERSEDED
    info = described(quick)
    assert info.epoch > before.epoch
    assert (info.floor, info.restored_count, info.archived_count, info.complete) == (info.epoch, 0, 0, True)
    assert (info.owner, info.expiry, info.error) == ("ann", before.expiry, None)
    assert live(quick) == said
    anew(quick)
    assert len(segments(quick)) == 1
    assert len(marker_ends(quick)) == 1
    assert restore_session(quick, "s").outcome is RestoreOutcome.RESTORED
    assert live(quick) == said
    said += say(quick, 4)
    fall_asleep(quick)
    assert read_transcript(quick, "s") == said


def test_a_session_that_was_only_read_since_is_archived_anew_too(monthly: Services) -> None:
    quick = with_settings(monthly, lease_seconds=0.2)
    said = say(quick, 1)
    fall_asleep(quick)
    restore_session(quick, "s")
    lapse(quick)
    assert archive_session(quick, "s").outcome is Outcome.SUPERSEDED
    anew(quick)
    assert read_transcript(quick, "s") == said


def test_a_session_that_never_slept_and_outlives_its_first_part_is_archived_anew(monthly: Services) -> None:
    quick = with_settings(monthly, lease_seconds=0.2)
    said = say(quick, 1)
    watched, points = watch(quick)
    points.at("before commit batch", lambda: said.extend(say(quick, 2)))
    assert archive_session(watched, "s").outcome is Outcome.KEPT
    assert not described(quick).complete
    assert lapse(quick) == 1
    assert archive_session(quick, "s").outcome is Outcome.SUPERSEDED
    anew(quick)
    assert read_transcript(quick, "s") == said


def missing(services: Services) -> None:
    """The session can't be archived, and nothing of it is changed."""
    before = described(services)
    failed = archive_session(services, "s")
    assert failed.outcome is Outcome.FAILED
    assert "Redis keeps them" in str(failed.error) or "has a gap" in str(failed.error)
    info = described(services)
    assert (info.epoch, info.message_count, info.floor) == (before.epoch, before.message_count, None)


def test_without_a_retention_a_missing_segment_is_an_error_as_ever(services: Services) -> None:
    say(services, 1)
    fall_asleep(services)
    restore_session(services, "s")
    say(services, 2)
    services.archive.delete(segments(services)[0])
    missing(services)


@pytest.mark.parametrize("newer", [True, False], ids=["of a newer epoch", "of messages that Redis has not"])
def test_a_session_of_which_the_archive_has_what_redis_has_not_is_left_as_it_is(
    monthly: Services, *, newer: bool
) -> None:
    say(monthly, 1)
    fall_asleep(monthly)
    restore_session(monthly, "s")
    epoch = described(monthly).epoch
    lapse(monthly)
    packed = pack("s", epoch + 1 if newer else epoch, 0, 0, [[b"{}", b"{}"]])
    with packed.body:
        name = names.segment_name("s", packed.name)
        monthly.archive.put(name, packed.body, packed.size, metadata={"sha256": packed.sha256})
    missing(monthly)
    assert name in [stored.name for stored in segments(monthly)]


@pytest.mark.usefixtures("as_in_cloud_storage")
def test_a_session_under_a_legal_hold_is_left_as_it_is(monthly: Services) -> None:
    say(monthly, 1, owner="ann")
    fall_asleep(monthly)
    restore_session(monthly, "s")
    say(monthly, 2)
    lapse(monthly)
    monthly.sessions.hold_owner("ann", "a lawsuit")
    missing(monthly)


def test_a_session_is_begun_anew_only_as_it_was_seen(client: redis.Redis, services: Services) -> None:
    sessions = services.sessions
    say(services, 1, owner="ann")
    seen = described(services)
    sessions.clear("s")
    before = dump(client)
    assert sessions.begin_anew(seen, ["ann"]).outcome is PurgeOutcome.CHANGED
    assert dump(client) == before
    gone = say(services, 1, session_id="t")
    asleep = described(services, "t")
    fall_asleep(services, "t")
    assert sessions.begin_anew(asleep, []).outcome is PurgeOutcome.CHANGED
    assert sessions.info("t") is None
    assert read_transcript(services, "t") == gone
