"""A session's own legal hold: archived and woken as always, and neither cleared nor purged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from langchain_core.messages import HumanMessage

from support.held import SHARDS, A, B, C, Killed, chat, held, in_redis, objects, say, settle, sleep
from support.keyspace import raw
from support.observed import watch
from support.sessions import with_settings
from support.transcripts import read_transcript
from support.waiting import wait_until
from torpor.history.protocol import (
    InvalidReason,
    Lease,
    SessionHeld,
    Status,
)
from torpor.worker import failpoints
from torpor.worker.deployment.services import Services
from torpor.worker.erasure.order import Order, Scope
from torpor.worker.erasure.purge import purge
from torpor.worker.erasure.receipt import PurgeState
from torpor.worker.failpoints import Failpoint
from torpor.worker.retention import legal_hold
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session

# A session's own hold


def test_a_held_session_tells_of_its_hold_until_it_is_released(services: Services) -> None:
    history = chat(services)
    history.add_messages([HumanMessage("hello")])
    before = datetime.now(UTC) - timedelta(seconds=1)

    history.hold("case 12/2026: Müller")

    info = history.info()
    assert info
    assert info.hold
    assert info.hold.reason == "case 12/2026: Müller"
    assert info.hold.since
    assert before <= info.hold.since <= datetime.now(UTC) + timedelta(seconds=1)
    assert info.hold_pending
    history.hold("case 13: another")
    info = history.info()
    assert info
    assert info.hold
    assert info.hold.reason == "case 13: another"
    assert history.release_hold() is True
    assert history.release_hold() is False
    info = history.info()
    assert info
    assert info.hold is None
    assert [message.content for message in history.messages] == ["hello"]


@pytest.mark.parametrize("reason", ["", "  \n", None, 12, "\udce4"])
def test_a_hold_needs_a_reason(services: Services, reason: Any) -> None:
    history = chat(services)
    history.add_messages([HumanMessage("hello")])
    with pytest.raises(InvalidReason):
        history.hold(reason)
    if reason is not None:  # which releases
        with pytest.raises(InvalidReason):
            services.sessions.hold_owner("ann", reason)
    info = history.info()
    assert info
    assert info.hold is None


def test_a_held_session_is_archived_with_held_objects_and_woken_as_always(services: Services) -> None:
    say(services, "s", A, B)
    chat(services).hold("case 12")

    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert held(services, "s") == [True]
    assert restore_session(services, "s").messages == 2
    say(services, "s", C)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert held(services, "s") == [True, True]
    assert read_transcript(services, "s") == [A, B, C]
    assert in_redis(services) == 0


def test_reads_and_writes_do_not_put_off_what_a_hold_has_to_be_done(services: Services) -> None:
    store = services.sessions
    store.append("s", [b"1"])
    store.hold("s", "why")
    store.messages("s")
    store.append("s", [b"2"])
    held = store.info("s")
    assert held
    assert (held.hold_pending, held.status) == (True, Status.DUE)


def test_the_upload_itself_sets_the_hold(services: Services) -> None:
    watched, points = watch(services)
    say(services, "s", A)
    chat(services).hold("case 12")
    seen: list[list[bool]] = []
    points.at("after put segment", lambda: seen.append(held(services, "s")))

    archive_session(watched, "s")

    assert seen == [[True]]
    assert "before amend" not in points.log


@pytest.mark.parametrize("asleep", [False, True])
def test_a_held_session_is_neither_cleared_nor_purged(services: Services, *, asleep: bool) -> None:
    say(services, "s", A, B)
    history = chat(services)
    history.hold("case 12")
    if asleep:
        archive_session(services, "s")
        assert history.info() is None

    with pytest.raises(SessionHeld, match="case 12"):
        history.clear()
    for scope in Scope:
        for order in (Order.of(session="s", scope=scope), Order.of(owner="ann", scope=scope)):
            state = purge(services, order).state
            elsewhere = scope is (Scope.LIVE if asleep else Scope.ARCHIVE)
            assert state is (PurgeState.COMPLETE if elsewhere else PurgeState.BLOCKED)

    settle(services)
    assert read_transcript(services, "s") == [A, B]
    history.release_hold()
    settle(services)
    assert purge(services, Order.of(session="s")).state is PurgeState.COMPLETE
    assert objects(services, "s") == []


def test_objects_that_were_there_before_get_the_hold_from_the_worker_and_lose_it_at_the_release(
    services: Services,
) -> None:
    sleep(services, "s", A)
    restore_session(services, "s")
    say(services, "s", B)
    archive_session(services, "s")
    restore_session(services, "s")
    assert held(services, "s") == [False, False]

    chat(services).hold("case 12")
    info = chat(services).info()
    assert info
    assert info.status is Status.DUE
    assert drain(services, SHARDS)[Outcome.HOLD_APPLIED] == 1
    assert held(services, "s") == [True, True]
    info = chat(services).info()
    assert info
    assert (info.hold_pending, info.message_count, info.status) == (False, 2, Status.LIVE)

    chat(services).release_hold()
    assert drain(services, SHARDS)[Outcome.HOLD_APPLIED] == 1
    assert held(services, "s") == [False, False]
    assert read_transcript(services, "s") == [A, B]


def test_a_session_that_is_asleep_can_be_held_and_sleeps_on(client: redis.Redis, services: Services) -> None:
    sleep(services, "s", A, B)

    chat(services).hold("case 12")
    settle(services)

    assert held(services, "s") == [True]
    assert in_redis(services) == 0
    assert not [key for key in raw(client, "KEYS", "*") if b"}:s:" in key or b"}:m:" in key]
    assert restore_session(services, "s").messages == 2
    info = chat(services).info()
    assert info
    assert info.hold
    assert info.hold.reason == "case 12"
    archive_session(services, "s")
    assert chat(services).release_hold()
    settle(services)
    assert held(services, "s") == [False]
    assert in_redis(services) == 0


def test_a_session_that_does_not_exist_yet_can_be_held(services: Services) -> None:
    chat(services).hold("whatever comes")
    settle(services)
    assert in_redis(services) == 0

    say(services, "s", A)

    with pytest.raises(SessionHeld, match="whatever comes"):
        chat(services).clear()
    archive_session(services, "s")
    assert held(services, "s") == [True]


def test_a_quarantined_session_is_protected_at_once_and_its_objects_are_held_while_it_stays_there(
    client: redis.Redis, services: Services
) -> None:
    sleep(services, "s", A)
    restore_session(services, "s")
    say(services, "s", B)
    services = with_settings(services, max_attempts=2, retry_delay_seconds=0.1, lease_seconds=2)
    lease = services.sessions.claim_one("s", services.settings.lease)
    assert isinstance(lease, Lease)
    services.sessions.begin_attempts([lease])
    assert services.sessions.quarantine(lease, "it is broken")

    chat(services).hold("case 12")

    info = chat(services).info()
    assert info
    assert (info.status, info.hold is not None) == (Status.QUARANTINED, True)
    assert archive_session(services, "s").outcome is Outcome.QUARANTINED
    drain(services, SHARDS)
    assert held(services, "s") == [True]
    with pytest.raises(SessionHeld):
        chat(services).clear()
    # An upload of the attempt may arrive until its lease would have ended.
    wait_until(lambda: purge(services, Order.of(session="s")).state is PurgeState.BLOCKED)
    info = chat(services).info()
    assert info
    assert (info.status, info.error, info.attempts) == (Status.QUARANTINED, "it is broken", 0)
    assert (info.hold_pending, info.due_at) == (False, None)

    assert chat(services).release_hold()
    drain(services, SHARDS)
    assert held(services, "s") == [False]
    services.sessions.requeue("s")
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert held(services, "s") == [False, False]


def test_whoever_holds_by_the_command_sees_to_the_objects_at_once(services: Services) -> None:
    sleep(services, "s", A)
    for changed in (2, 0):
        assert legal_hold.hold_session(services, "s", "case 12") == legal_hold.HoldResult(1, changed)
        assert held(services, "s") == [True]
    settle(services)
    assert held(services, "s") == [True]
    assert legal_hold.hold_session(services, "s", None) == legal_hold.HoldResult(1, 2)
    assert legal_hold.hold_session(services, "s", None) is None
    assert legal_hold.hold_session(services, "nobody", None) is None
    assert held(services, "s") == [False]
    settle(services)
    assert in_redis(services) == 0


@pytest.mark.parametrize(
    "point",
    ["after snapshot batch", "before put segment", "after put segment", "before commit batch", "after commit batch"],
)
@pytest.mark.parametrize("of_owner", [False, True])
def test_a_hold_that_is_set_during_an_upload_ends_with_held_objects(
    services: Services, point: str, *, of_owner: bool
) -> None:
    watched, points = watch(services)
    say(services, "s", A, B)
    points.at(
        point,
        (lambda: legal_hold.hold_owner(services, "ann", "case 12"))
        if of_owner
        else (lambda: chat(services).hold("case 12")),
    )

    archive_session(watched, "s")
    settle(services)

    assert points.pending == []
    assert held(services, "s") == [True]
    assert services.sessions.find_holds([("s", ["ann"])])[0]
    if in_redis(services):
        services.sessions.close("s")
        settle(services)
    assert (in_redis(services), read_transcript(services, "s"), held(services, "s")) == (0, [A, B], [True])


@pytest.mark.parametrize(
    "point", ["after snapshot batch", "before put segment", "after put segment", "before commit batch"]
)
def test_a_hold_that_is_released_during_an_upload_ends_with_free_objects(services: Services, point: str) -> None:
    watched, points = watch(services)
    say(services, "s", A, B)
    chat(services).hold("case 12")
    settle(services)
    points.at(point, lambda: chat(services).release_hold())

    archive_session(watched, "s")
    settle(services)

    assert points.pending == []
    assert held(services, "s") == [False]
    assert purge(services, Order.of(session="s")).state is PurgeState.COMPLETE


def test_a_hold_that_is_changed_while_the_worker_sees_to_the_objects_is_seen_to_again(services: Services) -> None:
    watched, points = watch(services)
    sleep(services, "s", A)
    chat(services).hold("case 12")
    points.at("after amend", lambda: chat(services).release_hold())

    assert archive_session(watched, "s").outcome is Outcome.SUPERSEDED
    assert held(services, "s") == [False]  # by the worker, which looks again
    settle(services)

    assert points.pending == []
    assert held(services, "s") == [False]


@pytest.mark.parametrize("release", [False, True])
def test_a_worker_that_is_killed_before_it_notes_what_it_saw_to_is_followed_by_another(
    services: Services, *, release: bool
) -> None:
    services = with_settings(services, lease_seconds=0.2)
    sleep(services, "s", A)
    restore_session(services, "s")
    if release:
        legal_hold.hold_session(services, "s", "case 12")
        settle(services)
        chat(services).release_hold()
    else:
        chat(services).hold("case 12")

    def die(at: Failpoint) -> None:
        if at is Failpoint.HOLD_APPLIED:
            raise Killed

    failpoints.arm(die)
    with pytest.raises(Killed):
        archive_session(services, "s")
    failpoints.arm()
    info = chat(services).info()
    assert info
    assert info.hold_pending
    wait_until(lambda: drain(services, SHARDS)[Outcome.HOLD_APPLIED])

    info = chat(services).info()
    assert info
    assert (info.hold_pending, info.attempts) == (False, 0)
    assert held(services, "s") == [not release]
    assert read_transcript(services, "s") == [A]
