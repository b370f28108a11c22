"""Redis's clock alone decides what has expired, whatever the clock of the worker's host says."""

from __future__ import annotations

from datetime import timedelta

import pytest
import redis

from support.held import A
from support.keyspace import raw
from support.retained import fall_asleep, say, segments
from support.shifted import redis_ahead
from support.transcripts import read_transcript
from torpor.history.keys import purge_lock_key
from torpor.history.protocol import Lease, SessionNotFound
from torpor.worker import tasks
from torpor.worker.access import listing
from torpor.worker.deployment.celery_config import make_app
from torpor.worker.deployment.services import Services
from torpor.worker.erasure.order import Order
from torpor.worker.erasure.purge import purge
from torpor.worker.wake.restore import RestoreOutcome, restore_session


def expire(services: Services, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the task that beat starts each hour for a folder."""
    monkeypatch.setattr(tasks, "services", lambda: services)
    app = make_app(lambda: services.settings, set_as_current=False)
    app.finalize()
    return int(app.tasks["torpor.expire"]())


def test_a_host_that_is_a_month_ahead_takes_nothing_for_expired(
    monthly: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis_ahead(-timedelta(days=31)):
        say(monthly, 1, 2)
        fall_asleep(monthly)
        assert expire(monthly, monkeypatch) == 0
        assert len(segments(monthly)) == 1
        assert listing.find(monthly, "s")
        assert len(read_transcript(monthly, "s")) == 2
        restored = restore_session(monthly, "s")
        assert (restored.outcome, restored.messages) == (RestoreOutcome.RESTORED, 2)


def test_a_host_that_is_a_month_behind_brings_nothing_back_that_has_expired(
    monthly: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(monthly, 1, 2)
    fall_asleep(monthly)
    with redis_ahead(timedelta(days=31)):
        assert listing.find(monthly, "s") is None
        with pytest.raises(SessionNotFound):
            read_transcript(monthly, "s")
        with pytest.raises(SessionNotFound):
            restore_session(monthly, "s")
        assert expire(monthly, monkeypatch) == monthly.archive.url.startswith("file:")


@pytest.mark.parametrize("days", [-31, 31])
def test_a_receipt_is_dated_by_redis_because_a_recovery_compares_it_with_what_was_written_since(
    services: Services, days: int
) -> None:
    services.sessions.append("s", [A], owner="ann")
    with redis_ahead(timedelta(days=days)):
        before = services.sessions.redis_time()
        receipt = purge(services, Order.of(owner="ann")).receipt
        assert receipt
        assert before <= receipt.finished_at <= services.sessions.redis_time()


@pytest.mark.parametrize("days", [-31, 31])
def test_a_purge_that_has_to_wait_for_a_worker_s_lease_is_tried_again_when_that_has_ended(
    client: redis.Redis, services: Services, days: int
) -> None:
    services.sessions.append("s", [A], owner="ann")
    order = Order.of(owner="ann")
    with redis_ahead(timedelta(days=days)):
        assert isinstance(services.sessions.claim_one("s", timedelta(minutes=5)), Lease)
        assert purge(services, order).receipt is None
        assert 60 < int(raw(client, "TTL", purge_lock_key(services.sessions.namespace, order.id))) <= 5 * 60 + 1
