"""Status tells how long a session has been waiting to fall asleep, from the moment at which it first became due."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import redis

from support.archiving import Chat
from support.keyspace import raw
from support.observed import watch
from support.waiting import wait_until
from torpor.history.protocol import Lease, SessionStore, Status
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveRefused, ArchiveUnavailable
from torpor.worker.ops.status import overview
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome

AGO = 1_000.0  # seconds
LEASE = timedelta(milliseconds=50)


def overdue_chats(services: Services, count: int) -> list[Chat]:
    """Sessions that have been due for AGO seconds, and that nobody has tried."""
    chats = [Chat(services, f"chat-{number}") for number in range(count)]
    for chat in chats:
        chat.say(2)
        make_overdue(services, chat.session_id)
    return chats


def make_overdue(services: Services, session_id: str) -> None:
    seconds, micros = raw(services.sessions.client, "TIME")
    due = int(seconds) * 1000 + int(micros) // 1000 - round(1000 * AGO)
    session = session_id.encode()
    raw(services.sessions.client, "ZADD", services.sessions.deployment.keyspace.of(session).due, due, session)


def unavailable(services: Services) -> Services:
    """The same services with an archive that is down."""
    watched, points = watch(services, concurrency=2, retry_delay_seconds=0.05, max_attempts=100)

    def fail() -> None:
        points.at("before put marker", fail)
        points.at("before put segment", fail)
        raise ArchiveUnavailable("the archive is down")

    points.at("before put marker", fail)
    points.at("before put segment", fail)
    return watched


def longest_wait(services: Services) -> float:
    waited = overview(services).oldest_overdue_seconds
    assert waited is not None
    return waited


def drain_all(services: Services) -> dict[Outcome, int]:
    return dict(drain(services, list(services.sessions.due_counts()) or [0]))


def test_each_look_during_an_outage_shows_how_long_it_keeps_sessions_awake(services: Services) -> None:
    chats = overdue_chats(services, 3)
    down = unavailable(services)
    for _ in range(6):
        assert longest_wait(services) >= AGO
        assert set(drain_all(down)) <= {Outcome.POSTPONED}
        seen = overview(services)
        assert (seen.waiting, seen.quarantined) == (3, 0)
        assert seen.oldest_overdue_seconds
        assert seen.oldest_overdue_seconds >= AGO
        wait_until(lambda: sum(services.sessions.due_counts().values()) == 3)
    while services.sessions.due_counts():
        drain_all(services)
    for chat in chats:
        chat.check()
    seen = overview(services)
    assert (seen.oldest_overdue_seconds, seen.waiting, seen.postponed) == (None, 0, 0)


def claim(store: SessionStore, session_id: str) -> Lease:
    lease = store.claim_one(session_id, LEASE)
    assert isinstance(lease, Lease)
    return lease


def lease_ends(store: SessionStore) -> None:
    claim(store, "chat-0")
    wait_until(store.due_counts)


def begun(store: SessionStore) -> Lease:
    lease = claim(store, "chat-0")
    assert store.begin_attempts([lease]) != [None]
    return lease


def worker_dies(store: SessionStore) -> None:
    begun(store)
    wait_until(store.due_counts)


def given_back_untried(store: SessionStore) -> None:
    assert store.release(claim(store, "chat-0"), timedelta(), counted=False)


def postponed(store: SessionStore) -> None:
    assert store.release(begun(store), timedelta(hours=1), counted=False)


def failed(store: SessionStore) -> None:
    assert store.release(begun(store), timedelta(milliseconds=1), counted=True, error="why")
    wait_until(store.due_counts)


def in_work(store: SessionStore) -> None:
    lease = store.claim_one("chat-0", timedelta(hours=1))
    assert isinstance(lease, Lease)
    assert store.begin_attempts([lease]) != [None]


MISHAPS: list[Callable[[SessionStore], None]] = [worker_dies, given_back_untried, failed]
STATES = [*MISHAPS, postponed, in_work]


@pytest.mark.parametrize("first", MISHAPS, ids=lambda act: act.__name__)
@pytest.mark.parametrize("second", STATES, ids=lambda act: act.__name__)
def test_no_two_mishaps_shorten_the_wait(
    services: Services, first: Callable[[SessionStore], None], second: Callable[[SessionStore], None]
) -> None:
    overdue_chats(services, 1)
    for act in (first, second):
        act(services.sessions)
        seen = overview(services)
        assert seen.waiting == 1
        assert seen.oldest_overdue_seconds is not None
        assert seen.oldest_overdue_seconds >= AGO, act.__name__


def test_a_worker_that_dies_before_its_attempt_costs_a_lease_at_most(services: Services) -> None:
    overdue_chats(services, 1)
    lease_ends(services.sessions)
    assert longest_wait(services) < AGO  # nothing was written under that lease


@pytest.mark.parametrize("state", [worker_dies, postponed, in_work], ids=lambda act: act.__name__)
def test_activity_ends_the_wait(services: Services, state: Callable[[SessionStore], None]) -> None:
    [chat] = overdue_chats(services, 1)
    state(services.sessions)
    chat.say(1)
    seen = overview(services)
    assert (seen.oldest_overdue_seconds, seen.waiting, seen.postponed) == (None, 0, 0)
    services.sessions.close("chat-0")
    postponed(services.sessions)
    assert longest_wait(services) < AGO  # it counts anew


def test_an_erasure_that_the_archive_refuses_for_long_is_not_overdue_meanwhile(services: Services) -> None:
    [chat] = overdue_chats(services, 1)
    assert archive_session(services, "chat-0").outcome is Outcome.ARCHIVED
    services.sessions.clear("chat-0")
    watched, points = watch(services)

    def refuse() -> None:
        raise ArchiveRefused("retained")

    points.at("before delete", refuse)
    assert archive_session(watched, "chat-0").outcome is Outcome.FAILED
    assert overview(services).oldest_overdue_seconds is None
    assert chat.session_id == "chat-0"


def test_a_quarantined_session_does_not_wait(services: Services, client: redis.Redis) -> None:
    overdue_chats(services, 1)
    assert services.sessions.quarantine(begun(services.sessions), "why")
    seen = overview(services)
    assert (seen.oldest_overdue_seconds, seen.waiting, seen.quarantined) == (None, 0, 1)
    info = services.sessions.info("chat-0")
    assert info
    assert (info.status, info.waiting_since) == (Status.QUARANTINED, None)
