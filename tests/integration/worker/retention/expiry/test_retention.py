"""How long the archive keeps sessions: by the settings, by a policy, or by the session's own retention."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
import redis

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
from support.servers import RedisServer
from support.sessions import age, with_settings
from support.storage_proxy import StorageProxy
from support.tasks_here import forget_deployment
from support.transcripts import read_transcript
from support.waiting import wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import Expiry, SessionNotFound, SessionStore
from torpor.worker import tasks
from torpor.worker.archive import ownership
from torpor.worker.archive.stores import NEVER
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment.policy_settings import PolicySettings
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import Settings
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session

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
    assert not ownership.is_used(monthly.archive)


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
    forget_deployment()
    worker = tasks.services()
    forget_deployment()
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
    assert points.log.index("after amend") < points.log.index("before commit batch")
    assert points.log.count("after amend") == 1


class Killed(BaseException):
    """Ends the process here."""


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
