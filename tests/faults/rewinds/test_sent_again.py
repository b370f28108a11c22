"""Requests that are sent again, maybe much later, are done once."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import pytest
import redis
from langchain_core.messages import HumanMessage

from support.keyspace import lasting_keys, raw
from support.observed import ObservedStore, StoreCall
from support.rewinding import S, drain_due, keys, said, say, sleep
from support.waiting import wait_until
from torpor.history import calls
from torpor.history.adapters.messages import encode_message
from torpor.history.calls import Call
from torpor.history.protocol import (
    Expiry,
    Lease,
    RedisUnavailable,
)
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.leases import LeaseKeeper
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session

# Requests sent again


def turn(services: Services, text: str) -> Call[int | None]:
    """A turn as a client sends it, also again if the reply is lost."""
    return calls.append(
        services.sessions.configure(idle=timedelta(hours=1), max_age=None),
        S,
        [encode_message(HumanMessage(text))],
        request=os.urandom(8),
        expiry=Expiry(),
        owner=None,
    )


def clear(services: Services) -> Call[int]:
    deployment = services.sessions.configure(idle=timedelta(hours=1), max_age=None)
    return calls.clear(deployment, S, request=os.urandom(8))


def close_and_drain(services: Services, outcome: Outcome = Outcome.ARCHIVED) -> None:
    services.sessions.close(S)
    assert drain_due(services) == {outcome: 1}


@pytest.mark.parametrize("meanwhile", ["nothing", "another turn", "another turn, archived too"])
def test_a_turn_that_is_sent_again_after_the_session_went_to_sleep_is_written_once(
    client: redis.Redis, services: Services, meanwhile: str
) -> None:
    lost = turn(services, "once")
    services.sessions.run(lost)
    close_and_drain(services)
    if meanwhile != "nothing":
        say(client, "another")
    if meanwhile == "another turn, archived too":
        close_and_drain(services)
    services.sessions.run(lost)
    assert said(client) == (["another"] if meanwhile == "another turn" else [])
    restore_session(services, S)
    assert said(client) == (["once"] if meanwhile == "nothing" else ["once", "another"])


def test_a_turn_that_is_sent_again_after_the_session_slept_and_woke_is_written_once(
    client: redis.Redis, services: Services
) -> None:
    lost = turn(services, "once")
    services.sessions.run(lost)
    close_and_drain(services)
    restore_session(services, S)
    services.sessions.run(lost)
    assert said(client) == ["once"]


def test_a_turn_that_is_sent_again_after_the_session_slept_and_was_cleared_stays_cleared(
    client: redis.Redis, services: Services
) -> None:
    lost = turn(services, "cleared")
    services.sessions.run(lost)
    close_and_drain(services)
    services.sessions.clear(S)
    services.sessions.run(lost)
    assert said(client) == []


def test_what_a_sleeping_session_has_seen_is_forgotten_within_a_minute(client: redis.Redis, services: Services) -> None:
    services.sessions.run(turn(services, "now"))
    sleep(services)
    remembered = keys(services).recent_requests(S.encode())
    assert set(raw(client, "KEYS", "*")) - lasting_keys(client) == {remembered}
    assert 0 < raw(client, "PTTL", remembered) <= 60_000


def test_a_session_that_was_idle_for_a_minute_leaves_no_request_behind(client: redis.Redis, services: Services) -> None:
    services.sessions.run(turn(services, "a minute ago"))
    metadata = keys(services).metadata(S.encode())
    active = int(raw(client, "HGET", metadata, "active"))
    raw(client, "HSET", metadata, "active", active - 60_000)
    close_and_drain(services)
    assert set(raw(client, "KEYS", "*")) == lasting_keys(client)


@pytest.mark.parametrize("existing", [False, True], ids=["a new session", "an existing session"])
def test_a_clear_that_is_sent_again_spares_what_was_written_meanwhile(
    client: redis.Redis, services: Services, *, existing: bool
) -> None:
    if existing:
        say(client, "old")
    lost = clear(services)
    epoch = services.sessions.run(lost)
    say(client, "somebody else's")
    assert services.sessions.run(lost) == epoch
    assert said(client) == ["somebody else's"]
    assert services.sessions.clear(S) > epoch
    assert said(client) == []


def test_a_clear_that_is_sent_again_spares_what_was_written_and_archived_meanwhile(
    client: redis.Redis, services: Services
) -> None:
    lost = clear(services)
    services.sessions.run(lost)
    say(client, "somebody else's")
    assert drain_due(services) == {Outcome.ERASED: 1}
    close_and_drain(services)
    services.sessions.run(lost)
    restore_session(services, S)
    assert said(client) == ["somebody else's"]


def test_a_turn_that_is_sent_again_after_a_clear_stays_cleared(client: redis.Redis, services: Services) -> None:
    lost = turn(services, "cleared")
    services.sessions.run(lost)
    services.sessions.clear(S)
    assert services.sessions.run(lost) == 0
    assert said(client) == []
    say(client, "new")
    services.sessions.run(lost)
    assert said(client) == ["new"]


def test_a_renewal_that_is_sent_again_gives_the_same_lease(client: redis.Redis, services: Services) -> None:
    say(client, "0")
    lease = services.sessions.claim_one(S, timedelta(seconds=30))
    assert isinstance(lease, Lease)
    call = calls.renew(services.sessions.deployment, lease, timedelta(seconds=10))
    renewed = services.sessions.run(call)
    assert renewed
    assert services.sessions.run(call) == renewed
    assert float(renewed.token) == float(lease.token) + 10_000
    assert float(raw(client, "ZSCORE", keys(services).due, S)) == float(renewed.token)
    say(client, "1")
    assert services.sessions.run(call) is None


T = TypeVar("T")


class LosesFirstRenewal:
    """Loses the first reply to a renewal."""

    renewals = 0

    def make(self, call: StoreCall, act: Callable[[], T]) -> T:
        result = act()
        if call.name == "renew batch":
            self.renewals += 1
            if self.renewals == 1:
                raise RedisUnavailable("the reply is lost")
        return result


def test_a_lost_reply_to_a_renewal_does_not_lose_the_leases(client: redis.Redis, services: Services) -> None:
    say(client, "0")
    lossy = LosesFirstRenewal()
    sessions = ObservedStore(client, lossy)
    lease = sessions.claim_one(S, timedelta(seconds=30))
    assert isinstance(lease, Lease)
    with LeaseKeeper(sessions, timedelta(milliseconds=100)) as keeper:
        keeper.keep([lease])
        wait_until(lambda: lossy.renewals >= 3)
        assert not keeper.lost(lease)
    newest = keeper.take(lease)
    assert newest
    assert float(raw(client, "ZSCORE", keys(services).due, S)) == float(newest.token)
