"""Leases of attempts: kept during slow uploads, lost to other workers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from support.archiving import LARGE, Chat, clear_and_erase
from support.keyspace import raw
from support.observed import Points, watch
from support.waiting import wait_until
from torpor.history.protocol import (
    ClaimOutcome,
    Lease,
)
from torpor.worker.archive import ownership
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome

# Leases


def score(client: redis.Redis) -> float | None:
    """When the lease of session "s" ends."""
    [due] = raw(client, "KEYS", "*:due") or [None]
    found: float | None = raw(client, "ZSCORE", due, "s") if due else None
    return found


def now_ms(client: redis.Redis) -> float:
    seconds, microseconds = raw(client, "TIME")
    return float(seconds * 1_000 + microseconds / 1_000)


def lose_the_lease(points: Points, act: Callable[[], object]) -> None:
    """Take the lease away just before a renewal, and wait until the worker knows it by that renewal."""
    points.at("before renew batch", act)
    wait_until(
        lambda: (
            "before renew batch" not in points.pending
            and points.log.count("after renew batch") == points.log.count("before renew batch")
        )
    )


def test_a_slow_upload_keeps_its_lease(client: redis.Redis, services: Services) -> None:
    chat = Chat(services)
    chat.say(3)
    watched, points = watch(services, lease_seconds=0.3)

    def wait_beyond_the_lease() -> None:
        first = score(client)
        assert first
        wait_until(lambda: now_ms(client) > first + 300)
        assert archive_session(services, "s").outcome is Outcome.BUSY

    points.at("before put segment", wait_beyond_the_lease)
    assert archive_session(watched, "s").outcome is Outcome.ARCHIVED
    assert points.log.count("after renew batch") >= 2
    assert not points.pending
    chat.check()


def test_a_lease_that_was_taken_over_stops_the_work(client: redis.Redis, services: Services) -> None:
    chat = Chat(services)
    chat.say(LARGE)
    watched, points = watch(services, lease_seconds=0.3)
    taken: list[Lease | ClaimOutcome] = []

    def take_over() -> None:
        services.sessions.close("s")
        taken.append(services.sessions.claim_one("s", services.settings.lease))

    points.at("after read", lambda: lose_the_lease(points, take_over))
    assert archive_session(watched, "s").outcome is Outcome.SUPERSEDED
    assert points.log.count("after read") == 1
    assert "before put segment" not in points.log
    assert not ownership.is_used(services.archive)
    [lease] = taken
    assert isinstance(lease, Lease)
    assert services.sessions.renew([lease], services.settings.lease) != [None]
    chat.check()


@pytest.mark.parametrize("erase", [clear_and_erase, Chat.purge])
def test_an_upload_that_finishes_after_its_session_was_erased_is_taken_back(
    client: redis.Redis, services: Services, erase: Callable[[Chat], None]
) -> None:
    chat = Chat(services)
    chat.say(3)
    watched, points = watch(services, lease_seconds=0.3)
    points.at("before put segment", lambda: lose_the_lease(points, lambda: erase(chat)))
    assert archive_session(watched, "s").outcome is Outcome.SUPERSEDED
    assert "after put segment" in points.log
    chat.check_erased()
    chat.check()
