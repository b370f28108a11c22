"""Purges beside workers that die or upload: finished by the next sweep, and nothing is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from support.observed import watch
from support.purging import SHARDS, A, B, C, Killed, epoch_of, live, markers, of_sessions, say, sleep
from support.sessions import with_settings
from support.transcripts import read_transcript
from support.waiting import wait_until
from torpor.history.protocol import (
    PurgeTarget,
    Status,
)
from torpor.worker import failpoints
from torpor.worker.archive import names
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders, receipts, targets
from torpor.worker.erasure.order import Order, Scope
from torpor.worker.erasure.purge import carry_out, purge
from torpor.worker.erasure.receipt import PurgeState
from torpor.worker.failpoints import Failpoint
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "point", ["after snapshot batch", "before put segment", "after put segment", "before commit batch"]
)
def test_a_worker_that_was_uploading_while_the_purge_ran_leaves_no_object(services: Services, point: str) -> None:
    watched, points = watch(with_settings(services, lease_seconds=1))
    say(services, "s", A, B)
    order = Order.of(session="s")
    points.at(point, lambda: purge(services, order))

    assert archive_session(watched, "s").outcome is Outcome.SUPERSEDED

    assert points.pending == []
    assert markers(services, "s") == [names.floor_name("s", epoch_of(services, "s"))]
    assert not list(services.archive.list(names.all_owner_markers("ann")))
    assert wait_until(lambda: carry_out(services, order.id).state is PurgeState.COMPLETE)


@pytest.mark.parametrize("point", ["after put marker", "after put segment"])
def test_a_purge_is_complete_only_when_what_a_dying_worker_left_is_gone(services: Services, point: str) -> None:
    services = with_settings(services, lease_seconds=1)
    watched, points = watch(services)
    say(services, "s", A, B)
    order = Order.of(session="s")
    states: list[PurgeState] = []

    def purge_and_die() -> None:
        states.append(purge(services, order).state)

    def die() -> None:
        raise Killed

    points.at(point.replace("after", "before"), purge_and_die)
    points.at(point, die)
    with pytest.raises(Killed):
        archive_session(watched, "s")

    assert states == [PurgeState.RUNNING]
    assert receipts.standing(services, order.id).receipt is None
    wait_until(lambda: carry_out(services, order.id).state is PurgeState.COMPLETE)
    assert [name for name in of_sessions(services) if not name.endswith("/floor")] == []


@pytest.mark.parametrize("use", ["say", "close", "hold"])
@pytest.mark.parametrize("clear", [False, True])
def test_what_a_dying_worker_left_goes_though_the_session_was_used_while_it_uploaded(
    services: Services, use: str, *, clear: bool
) -> None:
    services = with_settings(services, lease_seconds=1)
    watched, points = watch(services)
    say(services, "s", A, B)
    order = Order.of(session="s")

    def use_and_erase() -> None:
        match use:  # each of them makes the worker's lease void
            case "say":
                say(services, "s", C)
            case "close":
                services.sessions.close("s")
            case "hold":
                services.sessions.hold("s", "case 12")
                services.sessions.release_hold("s")
        if clear:
            services.sessions.clear("s")
        else:
            assert purge(services, order).state is PurgeState.RUNNING

    def die() -> None:
        raise Killed

    points.at("before put segment", use_and_erase)
    points.at("after put segment", die)
    with pytest.raises(Killed):
        archive_session(watched, "s")
    if clear:
        wait_until(lambda: not drain(services, SHARDS) and not live(services))
    else:
        wait_until(lambda: carry_out(services, order.id).state is PurgeState.COMPLETE)
    assert [name for name in of_sessions(services) if not name.endswith("/floor")] == []


LIVE = [
    Failpoint.PURGE_LISTED,
    Failpoint.PURGE_TRIMMED,
    Failpoint.PURGE_ERASED,
    Failpoint.PURGE_REMOVED,
    Failpoint.PURGE_RECEIPTED,
]
ERASING = [Failpoint.PURGE_DROPPED, Failpoint.ERASE_MARKED, Failpoint.ERASE_UNMARKED, Failpoint.ERASE_DELETED]
ALL = [point for point in [*LIVE, *ERASING] if point is not Failpoint.PURGE_TRIMMED]


@pytest.mark.parametrize(
    ("scope", "point"),
    [(Scope.LIVE, point) for point in LIVE]
    + [(scope, point) for scope in (Scope.EVERYWHERE, Scope.ARCHIVE) for point in ALL],
)
def test_a_purge_that_is_killed_anywhere_is_finished_by_the_next_sweep(
    services: Services, scope: Scope, point: Failpoint
) -> None:
    services = with_settings(services, lease_seconds=1)
    for number in range(4):
        say(services, f"s{number}", A, B)
        archive_session(services, f"s{number}")
        restore_session(services, f"s{number}")
    order = Order.of(owner="ann", scope=scope)

    def die(at: Failpoint) -> None:
        if at is point:
            raise Killed

    failpoints.arm(die)
    with pytest.raises(Killed):
        purge(services, order)
    failpoints.arm()
    [unfinished] = orders.open_orders(services)
    wait_until(lambda: carry_out(services, unfinished).state is PurgeState.COMPLETE)

    standing = receipts.standing(services, order.id)
    assert standing.receipt
    assert standing.receipt.removed.sessions == 4
    assert list(orders.open_orders(services)) == []
    left = [name for name in of_sessions(services) if not name.endswith("/floor")]
    if scope is Scope.LIVE:
        assert len(left) == 8
        assert [services.sessions.info(f"s{number}") for number in range(4)] == [None] * 4
    else:
        assert left == []


def test_of_two_workers_at_the_same_purge_one_works(services: Services) -> None:
    for number in range(5):
        sleep(services, f"s{number}")
    order = orders.place(services, Order.of(owner="ann"))
    found: list[PurgeState] = []
    at_work = threading.Event()
    go_on = threading.Event()

    def wait(at: Failpoint) -> None:
        if at is Failpoint.PURGE_LISTED:
            at_work.set()
            assert go_on.wait(20)

    failpoints.arm(wait)
    first = threading.Thread(target=lambda: found.append(carry_out(services, order.id).state))
    first.start()
    assert at_work.wait(20)
    assert carry_out(services, order.id).state is PurgeState.RUNNING
    go_on.set()
    first.join()
    assert found == [PurgeState.COMPLETE]


def test_a_purge_keeps_its_lock_while_it_finds_nothing_for_longer_than_a_lease(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = with_settings(services, lease_seconds=0.5)
    sleep(services, "s")
    order = orders.place(services, Order.of(owner="ann"))
    walked = targets.targets

    def walk_slowly(*arguments: Any) -> Iterator[str]:
        began = time.monotonic()
        wait_until(lambda: time.monotonic() > began + 1.5)
        assert carry_out(services, order.id).state is PurgeState.RUNNING  # somebody is at it
        yield from walked(*arguments)

    monkeypatch.setattr("torpor.worker.erasure.purge.targets", walk_slowly)
    assert carry_out(services, order.id).state is PurgeState.COMPLETE


def test_what_comes_back_after_a_failover_is_purged_again(client: redis.Redis, services: Services) -> None:
    say(services, "s", A, B)
    dump: dict[bytes, Any] = {key: client.dump(key) for key in client.scan_iter() if b"}:m:" in key or b"}:s:" in key}

    def rewind(at: Failpoint) -> None:
        if at is Failpoint.PURGE_ERASED:
            failpoints.arm()
            for key, value in dump.items():
                client.restore(key, 0, value, replace=True)

    failpoints.arm(rewind)
    assert purge(services, Order.of(session="s")).state is PurgeState.COMPLETE
    info = services.sessions.info("s")
    assert info
    assert (info.status, info.message_count) == (Status.PURGED, 0)


def test_what_comes_after_the_list_is_complete_is_not_purged(services: Services) -> None:
    services = with_settings(services, lease_seconds=1)
    watched, points = watch(services)
    say(services, "old", A)
    order = Order.of(owner="ann")
    points.at("after put segment", lambda: purge(services, order))
    archive_session(watched, "old")
    assert receipts.standing(services, order.id).state is PurgeState.RUNNING
    services.sessions.append("old", [B], owner="ann", allow_reuse=True)
    sleep(services, "new", C)

    wait_until(lambda: carry_out(services, order.id).state is PurgeState.COMPLETE)

    assert receipts.standing(services, order.id).found.sessions == 1
    assert read_transcript(services, "old") == [B]
    assert read_transcript(services, "new") == [C]


def test_a_session_that_was_begun_anew_and_slept_or_was_cleared_is_not_purged_again(services: Services) -> None:
    sleep(services, "slept", A)
    sleep(services, "cleared", A)
    order = Order.of(owner="ann")

    def begin_anew(at: Failpoint) -> None:
        if at is Failpoint.PURGE_ERASED:
            failpoints.arm()
            for session in ("slept", "cleared"):
                services.sessions.append(session, [B], owner="ann", allow_reuse=True)
            services.sessions.clear("cleared")
            services.sessions.append("cleared", [C], owner="ann")
            for session in ("slept", "cleared"):
                assert archive_session(services, session).outcome is Outcome.ARCHIVED
            raise Killed

    failpoints.arm(begin_anew)
    with pytest.raises(Killed):
        purge(services, order)
    assert carry_out(services, order.id).state is PurgeState.COMPLETE

    assert read_transcript(services, "slept") == [B]
    assert read_transcript(services, "cleared") == [C]


def test_a_live_purge_waits_for_a_clear_to_be_finished(services: Services) -> None:
    services = with_settings(services, retry_delay_seconds=0.1)
    sleep(services, "s", A)
    services.sessions.clear("s")
    say(services, "s", B)
    order = Order.of(session="s", scope=Scope.LIVE)

    assert purge(services, order).state is PurgeState.RUNNING
    drain(services, SHARDS)

    wait_until(lambda: carry_out(services, order.id).state is PurgeState.COMPLETE)
    assert services.sessions.info("s") is None


def test_what_was_rebased_before_the_purge_goes_on_is_purged(services: Services) -> None:
    sleep(services, "s", A)
    restore_session(services, "s")
    order = Order.of(session="s")

    def die(at: Failpoint) -> None:
        if at is Failpoint.PURGE_LISTED:
            raise Killed

    failpoints.arm(die)
    with pytest.raises(Killed):
        purge(services, order)
    failpoints.arm()
    services.sessions.rebase([PurgeTarget("s", "ann")])

    assert carry_out(services, order.id).state is PurgeState.COMPLETE
    info = services.sessions.info("s")
    assert info
    assert (info.status, info.message_count) == (Status.PURGED, 0)


def test_an_owners_purge_spares_what_is_another_owners_by_now(services: Services) -> None:
    sleep(services, "s", A, owner="ann")
    say(services, "s", B, owner="bob")

    standing = purge(services, Order.of(owner="ann"))

    assert standing.state is PurgeState.BLOCKED
    assert standing.receipt
    assert "another owner" in standing.receipt.kept.named[0].why
    assert services.sessions.messages("s") == [B]
