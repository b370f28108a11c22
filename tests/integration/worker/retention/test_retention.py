"""How long the archive keeps sessions: by the settings, by a policy, by the session's own wish; and what is left then.

The emulator knows no lifecycle rules, so `lapse` deletes what Cloud Storage would.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from celery import Celery

from support.keyspace import dump
from support.observed import watch
from support.servers import RedisServer
from support.sessions import age, with_settings
from support.storage_proxy import StorageProxy
from support.waiting import wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import Expiry, PurgeOutcome, SessionInfo, SessionNotFound, SessionStore
from torpor.worker import tasks
from torpor.worker.archive import contents, names
from torpor.worker.archive import segment as transcript
from torpor.worker.archive.stores import StoredObject
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment.celery_config import make_app
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import PolicySettings, Settings
from torpor.worker.retention import legal_hold
from torpor.worker.retention.expiry import NEVER
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import RestoreOutcome, read_transcript, restore_session

DAY = timedelta(days=1)
MONTH = timedelta(days=30)
MONTH_SECONDS = 30 * 86_400
MARKER_OUTLIVES = timedelta(days=2)


@pytest.fixture
def sessions(client: redis.Redis) -> SessionStore:
    """Few shards, so that a sweep over all of them costs little."""
    return SessionStore(client, shards=4)


@pytest.fixture
def monthly(services: Services) -> Services:
    """A deployment that keeps archives for thirty days."""
    return with_settings(services, archive_retention_seconds=MONTH_SECONDS)


def say(services: Services, *numbers: int, session_id: str = "s", **options: Any) -> list[bytes]:
    said = [b'{"content":"message %d"}' % number for number in numbers]
    services.sessions.append(session_id, said, **options)
    return said


def live(services: Services, session_id: str = "s") -> list[bytes]:
    return services.sessions.messages(session_id, touch=False)


def described(services: Services, session_id: str = "s") -> SessionInfo:
    info = services.sessions.info(session_id)
    assert info is not None
    return info


def fall_asleep(services: Services, session_id: str = "s") -> datetime:
    """Archive a session; returns when it was last active."""
    active = described(services, session_id).last_active
    assert archive_session(services, session_id).outcome is Outcome.ARCHIVED
    return active


def segments(services: Services, session_id: str = "s") -> list[StoredObject]:
    return [segment.stored for segment in contents.look(services.archive, session_id).segments]


def ends(services: Services, session_id: str = "s") -> set[datetime | None]:
    return {stored.custom_time for stored in segments(services, session_id)}


def marker_ends(services: Services, owner: str = "ann", session_id: str = "s") -> list[datetime | None]:
    return [stored.custom_time for stored in services.archive.list(names.owner_markers(owner, session_id))]


def lapse(services: Services, by: timedelta = 60 * DAY) -> int:
    """What the store deletes as time goes by; returns how many objects."""
    now = datetime.now(UTC) + by
    if services.archive.url.startswith("file:"):
        return services.archive.expire(now)
    gone = [
        each for each in services.archive.list("") if each.custom_time and each.custom_time <= now and not each.held
    ]
    return sum(map(services.archive.delete, gone))


# The moment at which a session's archive may go


def test_without_a_retention_nothing_has_an_end(services: Services) -> None:
    say(services, 1, owner="ann")
    fall_asleep(services)
    assert ends(services) == {None}
    assert marker_ends(services) == [None]
    assert lapse(services) == 0


def test_the_settings_end_an_archive_so_long_after_the_last_activity(monthly: Services) -> None:
    said = say(monthly, 1, 2, owner="ann")
    active = fall_asleep(monthly)
    assert ends(monthly) == {active + MONTH}
    assert marker_ends(monthly) == [active + MONTH + MARKER_OUTLIVES]
    assert lapse(monthly, MONTH - DAY) == 0
    assert read_transcript(monthly, "s") == said
    assert lapse(monthly, MONTH + DAY) == 1
    with pytest.raises(SessionNotFound):
        restore_session(monthly, "s")
    assert lapse(monthly) == 1  # its owner's marker, which a purge finds it by
    assert [each.name for each in monthly.archive.list("v1/")] == []


def test_a_sessions_own_retention_comes_before_the_settings(client: redis.Redis, monthly: Services) -> None:
    chat = MemorystoreChatMessageHistory(client, "s", archive_retention=86_400, shards=4)
    chat.add_user_message("hello")
    active = fall_asleep(monthly)
    assert ends(monthly) == {active + DAY}


RULE = PolicySettings(
    owner_prefix="a",
    archive_retention_seconds=2 * 86_400,
    archive_retention_min_seconds=86_400,
    archive_retention_max_seconds=3 * 86_400,
)


@pytest.mark.parametrize(
    ("owner", "own", "ended"),
    [
        ("ann", None, 2 * DAY),
        ("ann", 60 * DAY, 3 * DAY),
        ("ann", timedelta(hours=1), DAY),
        ("bob", None, MONTH),
        ("bob", 60 * DAY, 60 * DAY),
        (None, None, MONTH),
    ],
)
def test_a_rule_comes_before_the_settings_and_bounds_a_sessions_own(
    monthly: Services, owner: str | None, own: timedelta | None, ended: timedelta
) -> None:
    ruled = with_settings(monthly, policies=(RULE,))
    say(ruled, 1, owner=owner, expiry=Expiry(retention=own))
    active = fall_asleep(ruled)
    assert ends(ruled) == {active + ended}


def test_a_rule_wins_over_the_ttl_of_a_chat_history(
    client: redis.Redis, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, services: Services
) -> None:
    rule = [{"session_prefix": "web/", "idle_timeout_max_seconds": 60, "archive_retention_max_seconds": 86_400}]
    for name, value in redis_server.settings.items():
        monkeypatch.setenv(f"TORPOR_{name.upper()}", str(value))
    monkeypatch.setenv("TORPOR_ARCHIVE_URL", services.archive.url)
    monkeypatch.setenv("TORPOR_POLICIES", json.dumps(rule))
    tasks.services.cache_clear()
    worker = tasks.services()
    tasks.services.cache_clear()
    with redis_server.client() as application:
        for session_id in ("web/1", "app/1"):
            chat = MemorystoreChatMessageHistory(application, session_id, 3600, archive_retention=10 * 86_400)
            chat.add_user_message("hello")
    assert described(worker, "web/1").idle_timeout == timedelta(minutes=1)
    assert described(worker, "app/1").idle_timeout == timedelta(hours=1)
    assert ends(worker, "web/1") == set()
    for session_id, ended in (("web/1", DAY), ("app/1", 10 * DAY)):
        active = fall_asleep(worker, session_id)
        assert ends(worker, session_id) == {active + ended}


def test_the_requests_to_a_bucket_carry_the_end(
    proxy: StorageProxy, bucket: str, redis_server: RedisServer, sessions: SessionStore
) -> None:
    settings = Settings(
        **redis_server.settings, archive_url=f"gs://{bucket}/chats", archive_retention_seconds=MONTH_SECONDS
    )
    services = Services(settings, sessions, open_archive(settings.archive_url))
    say(services, 1, owner="ann")
    active = fall_asleep(services)
    uploads = [exchange.body for exchange in proxy.seen if exchange.kind == "upload"]
    told = [json.loads(re.split(rb"\r\n\r\n|\r\n--", body)[1]) for body in uploads]
    sent = [datetime.fromisoformat(each["customTime"]) for each in told]
    assert sent == [active + MONTH + MARKER_OUTLIVES, active + MONTH]
    proxy.heal()
    restore_session(services, "s")
    kinds = [exchange.kind for exchange in proxy.seen]
    assert [json.loads(each.body).keys() for each in proxy.seen if each.kind == "patch"] == [{"customTime"}] * 2
    assert kinds.index("read") > max(at for at, kind in enumerate(kinds) if kind == "patch")


def test_a_segment_tells_when_its_session_was_last_active(client: redis.Redis, services: Services) -> None:
    say(services, 1, expiry=Expiry(retention=DAY))
    age(client, "s", timedelta(hours=5))
    active = fall_asleep(services)
    [stored] = segments(services)
    assert datetime.fromisoformat(stored.metadata["active"]) == active
    assert stored.metadata["retention_ms"] == "86400000"


def test_a_woken_session_has_the_retention_it_fell_asleep_with(services: Services) -> None:
    own = Expiry(timedelta(hours=1), None, DAY)
    say(services, 1, expiry=own)
    fall_asleep(services)
    restore_session(services, "s")
    assert described(services).expiry == own
    services.sessions.update("s", retention=2 * DAY)
    fall_asleep(services)
    restore_session(services, "s")
    assert described(services).expiry == Expiry(timedelta(hours=1), None, 2 * DAY)


# A session that is archived again


def test_what_was_archived_before_expires_with_what_is_archived_now(client: redis.Redis, monthly: Services) -> None:
    said = say(monthly, 1, 2, owner="ann")
    age(client, "s", 20 * DAY)
    first = fall_asleep(monthly)
    assert ends(monthly) == {first + MONTH}
    restore_session(monthly, "s")
    said += say(monthly, 3)
    second = fall_asleep(monthly)
    assert len(segments(monthly)) == 2
    assert min(filter(None, ends(monthly))) >= second + MONTH
    assert lapse(monthly, 29 * DAY) == 0
    assert read_transcript(monthly, "s") == said


def test_a_session_that_was_woken_and_read_only_is_kept_from_then_on(client: redis.Redis, monthly: Services) -> None:
    said = say(monthly, 1, owner="ann")
    age(client, "s", 20 * DAY)
    fall_asleep(monthly)
    restore_session(monthly, "s")
    monthly.sessions.messages("s")
    active = fall_asleep(monthly)
    assert lapse(monthly, active + MONTH - datetime.now(UTC) - timedelta(seconds=1)) == 0
    assert max(filter(None, marker_ends(monthly))) >= active + MONTH
    restore_session(monthly, "s")
    assert live(monthly) == said


def test_what_sleeps_is_kept_with_what_was_written_without_waking_it(client: redis.Redis, monthly: Services) -> None:
    said = say(monthly, 1, owner="ann")
    age(client, "s", 20 * DAY)
    fall_asleep(monthly)
    said += say(monthly, 2, owner="ann")
    active = fall_asleep(monthly)
    assert ends(monthly) == {active + MONTH}
    restore_session(monthly, "s")
    assert live(monthly) == said


def test_older_segments_are_kept_before_a_session_leaves_redis(client: redis.Redis, monthly: Services) -> None:
    say(monthly, 1)
    age(client, "s", 20 * DAY)
    fall_asleep(monthly)
    say(monthly, 2)
    watched, points = watch(monthly)
    fall_asleep(watched)
    assert points.log.index("after amend") < points.log.index("before commit")
    assert points.log.count("after amend") == 1


class Killed(BaseException):
    """Stands for a process that ends here."""


@pytest.mark.parametrize("point", ["before amend", "after amend"])
def test_an_attempt_that_was_cut_short_is_finished_by_the_next(
    client: redis.Redis, monthly: Services, point: str
) -> None:
    said = say(monthly, 1, owner="ann")
    age(client, "s", 20 * DAY)
    fall_asleep(monthly)
    said += say(monthly, 2, owner="ann")
    watched, points = watch(monthly, lease_seconds=0.2)

    def die() -> None:
        raise Killed

    points.at(point, die)
    with pytest.raises(Killed):
        archive_session(watched, "s")
    active = described(monthly).last_active
    wait_until(lambda: archive_session(watched, "s").outcome is Outcome.ARCHIVED)
    assert ends(monthly) == {active + MONTH}
    assert read_transcript(monthly, "s") == said


def test_a_shorter_retention_ends_only_what_is_archived_from_now_on(monthly: Services) -> None:
    say(monthly, 1, owner="ann")
    first = fall_asleep(monthly)
    restore_session(monthly, "s")
    monthly.sessions.update("s", retention=DAY)
    say(monthly, 2)
    second = fall_asleep(monthly)
    older, newer = [stored.custom_time for stored in segments(monthly)]
    assert older
    assert older >= first + MONTH
    assert newer == second + DAY


def test_a_session_that_is_to_be_kept_for_ever_after_all_is_kept(services: Services) -> None:
    said = say(services, 1, owner="ann", expiry=Expiry(retention=DAY))
    fall_asleep(services)
    restore_session(services, "s")
    services.sessions.update("s", retention=None)
    said += say(services, 2)
    fall_asleep(services)
    assert ends(services) == {NEVER, None}
    assert lapse(services, 3650 * DAY) == 1  # the older marker
    restore_session(services, "s")
    assert live(services) == said


def test_a_session_of_which_a_part_was_kept_for_ever_ends_as_a_whole(services: Services) -> None:
    say(services, 1)
    fall_asleep(services)
    say(services, 2)
    monthly = with_settings(services, archive_retention_seconds=MONTH_SECONDS)
    active = fall_asleep(monthly)
    assert ends(monthly) == {active + MONTH}


# Waking up


def test_a_session_that_wakes_up_is_kept_for_its_whole_retention_before_it_is_read(
    client: redis.Redis, monthly: Services
) -> None:
    say(monthly, 1, 2, owner="ann")
    age(client, "s", 20 * DAY)
    fall_asleep(monthly)
    watched, points = watch(monthly)
    before = datetime.now(UTC)
    restore_session(watched, "s")
    assert points.log.index("after amend") < points.log.index("before open")
    [end] = ends(monthly)
    assert end
    assert before + MONTH <= end <= datetime.now(UTC) + MONTH
    assert marker_ends(monthly) == [end + MARKER_OUTLIVES]


def test_waking_does_not_end_what_is_kept_for_ever(services: Services) -> None:
    say(services, 1, owner="ann")
    fall_asleep(services)
    restore_session(with_settings(services, archive_retention_seconds=MONTH_SECONDS), "s")
    assert ends(services) == {None}
    assert marker_ends(services) == [None]


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
    assert legal_hold.hold_owner(monthly, "ann", None) == legal_hold.Held(1, 2)
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
    """Archive until the session sleeps: first comes the erasure of what is left of it."""
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
    points.at("before commit", lambda: said.extend(say(quick, 2)))
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
    packed = transcript.pack("s", epoch + 1 if newer else epoch, 0, 0, [[b"{}", b"{}"]])
    with packed.body:
        name = names.segment_name("s", packed.name)
        monthly.archive.put(name, packed.body, packed.size, metadata={"sha256": packed.sha256})
    missing(monthly)
    assert name in [stored.name for stored in segments(monthly)]


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


# The folder's own expiry


def app_of(services: Services, monkeypatch: pytest.MonkeyPatch) -> Celery:
    """A worker's app whose tasks have these services."""
    monkeypatch.setattr(tasks, "services", lambda: services)
    app = make_app(lambda: services.settings, set_as_current=False)
    app.finalize()
    return app


def test_beat_has_a_folder_expired_each_hour_and_leaves_a_bucket_to_its_lifecycle_rule(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_of(services, monkeypatch)
    scheduled = app.conf.beat_schedule.get("torpor.expire")
    if services.archive.url.startswith("gs:"):
        assert scheduled is None
    else:
        assert scheduled["schedule"] == 3600
        assert scheduled["task"] in app.tasks


def test_the_task_deletes_what_has_expired_in_a_folder(
    client: redis.Redis, monthly: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    for session_id, days in (("s", 31), ("t", 29)):
        say(monthly, 1, session_id=session_id)
        age(client, session_id, timedelta(days=days))
        fall_asleep(monthly, session_id)
    is_folder = monthly.archive.url.startswith("file:")
    assert app_of(monthly, monkeypatch).tasks["torpor.expire"]() == is_folder
    assert len(segments(monthly, "s")) == 1 - is_folder
    assert len(segments(monthly, "t")) == 1
