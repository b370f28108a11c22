"""How long the archive keeps a session that wakes up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.client_kinds import Connection
from support.observed import Points
from support.sessions import age, with_settings
from support.waking import LATE, SLEPT, described, fall_asleep, written
from torpor.history.protocol import Expiry
from torpor.worker.archive import contents
from torpor.worker.deployment.policy_settings import PolicySettings
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.session_archive import SessionArchive

MONTH = timedelta(days=30)


# How long the archive keeps what wakes up


def ends(services: Services) -> set[datetime | None]:
    return {segment.stored.custom_time for segment in contents.look(services.archive, "s").segments}


def fall_asleep_idle(services: Services, by: timedelta, **options: Any) -> None:
    """Archive a session that was last used as long ago as `by`."""
    services.sessions.append("s", written(SLEPT), owner="ann", **options)
    age(services.sessions.client, "s", by)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED


def record(services: Services) -> None:
    """Record the deployment's rules, as a worker does when it starts."""
    settings = services.settings
    services.sessions.configure(
        idle=timedelta(days=1), max_age=None, retention=settings.archive_retention, policies=settings.rules
    )


def assert_kept(services: Services, span: timedelta) -> None:
    """The archive keeps the session for so long from now on."""
    [until] = ends(services)
    assert until is not None
    assert abs(until - span - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("known", [False, True], ids=["new to the application", "recorded before"])
def test_a_session_that_wakes_up_is_kept_for_the_retention_that_a_worker_has_recorded(
    connection: Connection, services: Services, archive: SessionArchive, *, known: bool
) -> None:
    chat = connection.chat(archive=archive)
    if not known:
        assert connection.chat("earlier").messages == []
        connection.chat("earlier").add_messages(LATE)  # the application has asked for the defaults already
    monthly = with_settings(services, archive_retention_seconds=int(MONTH.total_seconds()))
    record(monthly)
    fall_asleep_idle(monthly, timedelta(days=10))
    [before] = ends(services)
    assert before is not None
    assert before < datetime.now(UTC) + timedelta(days=21)
    assert chat.messages == SLEPT
    assert_kept(services, MONTH)


def test_a_policy_that_a_worker_has_recorded_counts_when_a_session_wakes_up(
    connection: Connection, services: Services, archive: SessionArchive
) -> None:
    rules = (PolicySettings(owner="ann", archive_retention_seconds=int(MONTH.total_seconds())),)
    ruled = with_settings(services, policies=rules)
    record(ruled)
    fall_asleep_idle(ruled, timedelta(days=10))
    assert connection.chat(archive=archive).messages == SLEPT
    assert_kept(services, MONTH)


def test_a_sessions_own_retention_counts_when_it_wakes_up(
    connection: Connection, services: Services, archive: SessionArchive
) -> None:
    record(services)
    fall_asleep_idle(services, timedelta(days=10), expiry=Expiry(retention=MONTH))
    assert connection.chat(archive=archive).messages == SLEPT
    assert_kept(services, MONTH)
    assert described(services).expiry.retention == MONTH


def test_where_no_worker_has_said_how_long_archives_are_kept_they_stay_as_they_are(
    connection: Connection, services: Services, archive: SessionArchive, points: Points
) -> None:
    fall_asleep_idle(with_settings(services, archive_retention_seconds=int(MONTH.total_seconds())), timedelta(days=10))
    before = ends(services)
    assert None not in before
    assert connection.chat(archive=archive).messages == SLEPT
    assert ends(services) == before


def test_what_is_kept_for_ever_stays_so_when_it_wakes_up(
    connection: Connection, services: Services, archive: SessionArchive, points: Points
) -> None:
    record(services)
    fall_asleep(services)
    assert connection.chat(archive=archive).messages == SLEPT
    assert ends(services) == {None}
    assert "before amend" not in points.log


def test_what_has_expired_does_not_wake_up(connection: Connection, services: Services, archive: SessionArchive) -> None:
    monthly = with_settings(services, archive_retention_seconds=int(MONTH.total_seconds()))
    record(monthly)
    fall_asleep_idle(monthly, timedelta(days=31))
    assert connection.chat(archive=archive).messages == []
    assert [until < datetime.now(UTC) for until in ends(services) if until] == [True]
