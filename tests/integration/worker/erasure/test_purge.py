"""Purging: everything of a session goes, from everywhere; a receipt says so; whatever happens meanwhile."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from langchain_core.messages import HumanMessage

from support.keyspace import lasting_keys, raw
from support.observed import watch
from support.sessions import with_settings
from support.waiting import wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import (
    Expiry,
    InvalidArgument,
    PurgeTarget,
    SessionHeld,
    SessionPurged,
    SessionStore,
    Status,
)
from torpor.worker import failpoints
from torpor.worker.archive import names
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders, receipts, targets
from torpor.worker.erasure.inventory import Tally
from torpor.worker.erasure.orders import Order, Scope
from torpor.worker.erasure.purge import carry_out, preview, purge
from torpor.worker.erasure.receipts import PurgeState
from torpor.worker.errors import ArchiveRefused, ArchiveUnavailable, PurgeNotFound
from torpor.worker.failpoints import Failpoint
from torpor.worker.retention import legal_hold
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import read_transcript, restore_session

A, B, C = b'{"a":"secret one"}', b'{"b":"secret two"}', b'{"c":"secret three"}'
SHARDS = list(range(4))


@pytest.fixture
def sessions(client: redis.Redis) -> SessionStore:
    return SessionStore(client, shards=4)


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.arm()


class Killed(BaseException):
    """Stands for a process that ends here."""


def say(services: Services, session_id: str, *elements: bytes, owner: str | None = "ann", idle: int = 60) -> None:
    expiry = Expiry(idle=timedelta(seconds=idle))
    services.sessions.append(session_id, list(elements) or [A], expiry=expiry, owner=owner)


def sleep(services: Services, session_id: str, *elements: bytes, owner: str | None = "ann") -> None:
    say(services, session_id, *elements, owner=owner)
    assert archive_session(services, session_id).outcome is Outcome.ARCHIVED


def of_sessions(services: Services) -> list[str]:
    """The names of all objects but the deployment's, the orders and the receipts."""
    return [
        stored.name
        for stored in services.archive.list("v1/", generations=True)
        if not stored.name.startswith((names.DEPLOYMENT, names.ORDERS, names.RECEIPTS))
    ]


def markers(services: Services, session_id: str) -> list[str]:
    return [name for name in of_sessions(services) if name.startswith(names.session_prefix(session_id))]


def end_tombstones(services: Services) -> None:
    """What the sweep does when the time of the tombstones is over."""
    wait_until(lambda: not set(drain(services, SHARDS)) & {Outcome.ERASING, Outcome.ERASED} and not live(services))


def live(services: Services) -> int:
    return sum(shard.live + shard.tombstones for shard in services.sessions.overview())


def test_a_purge_removes_a_session_from_redis_and_archive_and_writes_a_receipt(
    client: redis.Redis, services: Services
) -> None:
    sleep(services, "s", A, B)
    restore_session(services, "s")
    say(services, "s", C)
    archive_session(services, "s")
    restore_session(services, "s")
    sleep(services, "other", A, owner="bob")
    order = Order(session="s", requested_by="dpo@example.com", reason="request 17")

    standing = purge(services, order)

    assert standing.state is PurgeState.COMPLETE
    assert standing.found == Tally(1, 3, 2, standing.found.bytes)
    receipt = standing.receipt
    assert receipt is not None
    assert receipt["target"] == {"session": "s"}
    assert (receipt["requested_by"], receipt["reason"]) == ("dpo@example.com", "request 17")
    assert receipt["removed"] == receipt["found"]
    assert receipt["kept"] == {"sessions": 0, "objects": 0, "named": []}
    assert markers(services, "s") == [names.floor_name("s", epoch_of(services, "s"))]
    assert not list(services.archive.list(names.all_owner_markers("ann")))
    assert list(services.archive.list(names.all_owner_markers("bob")))
    assert list(services.sessions.owned("ann")) == []
    assert not raw(client, "EXISTS", keys_of(services, "s").messages(b"s"))
    assert read_transcript(services, "other") == [A]
    assert list(orders.open_orders(services)) == []
    assert [each["purge"] for each in receipts.receipts(services)] == [order.id]


def epoch_of(services: Services, session_id: str) -> int:
    info = services.sessions.info(session_id)
    assert info
    return info.epoch


def keys_of(services: Services, session_id: str) -> Any:
    return services.sessions.deployment.keyspace.of(session_id.encode())


def test_an_inventory_names_what_was_found_before_it_went_and_holds_no_text(services: Services) -> None:
    sleep(services, "s", A, B)
    [segment] = [name for name in markers(services, "s") if name.endswith(".gz")]
    [stored] = services.archive.list(segment)

    purged = purge(services, Order(session="s"))

    assert purged.receipt
    [listed] = purged.receipt["inventories"]
    [inventory] = services.archive.list(listed["object"])
    with services.archive.open(inventory) as body:
        text = gzip.decompress(body.read())
    assert b"secret" not in text
    assert "secret" not in json.dumps(purged.receipt)
    [line] = map(json.loads, text.splitlines())
    assert line["session"] == "s"
    assert line["objects"] == [
        {
            "name": segment,
            "generation": stored.generation,
            "size": stored.size,
            "sha256": stored.metadata["sha256"],
        }
    ]
    assert inventory.metadata["sha256"] == listed["sha256"]


def test_a_tombstone_refuses_late_writes_until_its_time_is_over(services: Services) -> None:
    services = with_settings(services, tombstone_seconds=1)
    sleep(services, "s")
    history = MemorystoreChatMessageHistory(services.sessions.client, "s", owner="ann", shards=4)
    purge(services, Order(session="s"))

    for late in (
        lambda: history.add_messages([HumanMessage("late")]),
        history.clear,
        lambda: history.hold("why"),
        lambda: restore_session(services, "s"),
    ):
        with pytest.raises(SessionPurged):
            late()
    assert history.messages == []
    info = history.info()
    assert info
    assert (info.status, info.message_count, info.owner) == (Status.PURGED, 0, None)

    end_tombstones(services)
    assert of_sessions(services) == []
    assert history.info() is None
    history.add_messages([HumanMessage("new")])
    assert [message.content for message in history.messages] == ["new"]


def test_a_tombstone_is_not_in_the_way_of_an_application_that_reuses_ids(services: Services) -> None:
    sleep(services, "s", A, B)
    purge(services, Order(session="s"))
    history = MemorystoreChatMessageHistory(services.sessions.client, "s", owner="bob", allow_reuse=True, shards=4)

    history.add_messages([HumanMessage("new")])

    assert [message.content for message in history.messages] == ["new"]
    assert sum(shard.tombstones for shard in services.sessions.overview()) == 0
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert len(read_transcript(services, "s")) == 1
    assert list(services.sessions.owned("ann")) == []


def test_nothing_is_left_when_the_tombstone_has_ended(client: redis.Redis, services: Services) -> None:
    services = with_settings(services, tombstone_seconds=1)
    for number in range(6):
        (sleep if number % 2 else say)(services, f"s{number}")
    assert purge(services, Order(owner="ann")).found.sessions == 6

    end_tombstones(services)

    assert of_sessions(services) == []
    assert {key for key in lasting_keys(client) if b"}:s:" in key or b"}:o:" in key or b"}:due" in key} == set()


@pytest.mark.parametrize("point", ["after snapshot", "before segment put", "after segment put", "before commit"])
def test_a_worker_that_was_uploading_while_the_purge_ran_leaves_no_object(services: Services, point: str) -> None:
    watched, points = watch(with_settings(services, lease_seconds=1))
    say(services, "s", A, B)
    order = Order(session="s")
    points.at(point, lambda: purge(services, order))

    assert archive_session(watched, "s").outcome is Outcome.SUPERSEDED

    assert points.pending == []
    assert markers(services, "s") == [names.floor_name("s", epoch_of(services, "s"))]
    assert not list(services.archive.list(names.all_owner_markers("ann")))
    assert wait_until(lambda: carry_out(services, order.id).state is PurgeState.COMPLETE)


@pytest.mark.parametrize("point", ["after marker put", "after segment put"])
def test_a_purge_is_complete_only_when_what_a_dying_worker_left_is_gone(services: Services, point: str) -> None:
    services = with_settings(services, lease_seconds=1)
    watched, points = watch(services)
    say(services, "s", A, B)
    order = Order(session="s")
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
    order = Order(session="s")

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

    points.at("before segment put", use_and_erase)
    points.at("after segment put", die)
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
ERASING = [Failpoint.PURGE_DROPPED, Failpoint.CLEAN_MARKED, Failpoint.CLEAN_UNMARKED, Failpoint.CLEAN_DELETED]
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
    order = Order(owner="ann", scope=scope)

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
    assert standing.receipt["removed"]["sessions"] == 4
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
    order = orders.place(services, Order(owner="ann"))
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
    order = orders.place(services, Order(owner="ann"))
    walked = targets.targets

    def walk_slowly(*arguments: Any) -> Iterator[str]:
        began = time.monotonic()
        wait_until(lambda: time.monotonic() > began + 1.5)
        assert carry_out(services, order.id).state is PurgeState.RUNNING  # somebody is at it
        yield from walked(*arguments)

    monkeypatch.setattr("torpor.worker.erasure.purge.targets", walk_slowly)
    assert carry_out(services, order.id).state is PurgeState.COMPLETE


def test_an_order_that_is_placed_again_is_the_same_purge(services: Services) -> None:
    sleep(services, "s")
    order = Order(session="s", id="task-1")
    done = purge(services, order)

    assert purge(services, Order(session="s", id="task-1")) == done
    with pytest.raises(InvalidArgument, match="another one"):
        orders.place(services, Order(session="t", id="task-1"))
    assert purge(services, Order(session="s")).state is PurgeState.COMPLETE  # repeating is harmless


def test_a_purge_that_meets_an_error_says_so_and_goes_on_later(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = with_settings(services, retry_delay_seconds=0.1)
    sleep(services, "s")
    order = orders.place(services, Order(session="s"))
    with monkeypatch.context() as patched:
        patched.setattr(
            "torpor.worker.erasure.erase.below_floor",
            lambda *_: (_ for _ in ()).throw(ArchiveUnavailable("the bucket is down")),
        )
        with pytest.raises(ArchiveUnavailable):
            carry_out(services, order.id)

    standing = receipts.standing(services, order.id)
    assert (standing.state, standing.error) == (PurgeState.FAILED, "the bucket is down")
    wait_until(lambda: carry_out(services, order.id).state is PurgeState.COMPLETE)
    assert receipts.standing(services, order.id).error is None


def test_a_purge_that_nobody_began_is_queued_and_an_unknown_one_is_unknown(services: Services) -> None:
    order = orders.place(services, Order(owner="ann"))
    assert receipts.standing(services, order.id).state is PurgeState.QUEUED
    with pytest.raises(PurgeNotFound):
        receipts.standing(services, "nobody-knows-it")
    with pytest.raises(PurgeNotFound):
        carry_out(services, "nobody-knows-it")


def test_an_owners_purge_takes_all_their_sessions_and_nobody_elses(services: Services) -> None:
    for number in range(12):
        (sleep if number % 2 else say)(services, f"ann{number}")
        (sleep if number % 2 else say)(services, f"bob{number}", owner="bob")

    standing = purge(services, Order(owner="ann"))

    assert (standing.state, standing.found.sessions) == (PurgeState.COMPLETE, 12)
    for number in range(12):
        assert read_transcript(services, f"bob{number}") == [A]
    assert not [name for name in of_sessions(services) if "ann" in name and not name.endswith("/floor")]


def test_a_purge_of_idle_sessions_spares_what_was_used(services: Services) -> None:
    say(services, "old awake", idle=3600)
    sleep(services, "old asleep")
    sleep(services, "old of bob", owner="bob")
    idle = timedelta(seconds=2)
    wait_until(lambda: len(list(preview(services, Order(idle=idle)))) == 3, what="they have been idle for so long")
    say(services, "new awake", idle=3600)
    sleep(services, "new asleep")

    standing = purge(services, Order(idle=idle, owner="ann"))

    assert (standing.state, standing.found.sessions) == (PurgeState.COMPLETE, 2)
    assert read_transcript(services, "old of bob") == [A]
    assert read_transcript(services, "new awake") == [A]
    assert read_transcript(services, "new asleep") == [A]


def test_a_session_that_is_used_after_it_was_listed_as_idle_is_spared(services: Services) -> None:
    say(services, "s", idle=3600)
    wait_until(lambda: list(preview(services, Order(idle=timedelta(seconds=1)))), what="it has been idle for so long")

    def use(at: Failpoint) -> None:
        if at is Failpoint.PURGE_LISTED:
            say(services, "s", B)

    failpoints.arm(use)
    standing = purge(services, Order(idle=timedelta(seconds=1)))

    assert standing.receipt
    assert (standing.state, standing.receipt["removed"]["sessions"]) == (PurgeState.COMPLETE, 0)
    assert read_transcript(services, "s") == [A, B]


def test_a_live_purge_leaves_the_archive_and_what_was_archived_wakes_up(services: Services) -> None:
    sleep(services, "s", A)
    restore_session(services, "s")
    say(services, "s", B)
    sleep(services, "t", A)

    standing = purge(services, Order(owner="ann", scope=Scope.LIVE))

    assert (standing.state, standing.found) == (PurgeState.COMPLETE, Tally(1, 2, 0, 0))
    assert services.sessions.info("s") is None
    assert read_transcript(services, "s") == [A]
    assert restore_session(services, "s").messages == 1
    assert read_transcript(services, "t") == [A]


def test_a_live_purge_takes_back_what_was_uploaded_and_never_committed(services: Services) -> None:
    services = with_settings(services, lease_seconds=1)
    watched, points = watch(services)
    say(services, "s", A, B)

    def die() -> None:
        raise Killed

    points.at("before commit", die)
    with pytest.raises(Killed):
        archive_session(watched, "s")
    order = Order(session="s", scope=Scope.LIVE)
    assert purge(services, order).state is PurgeState.RUNNING  # the worker may be at it still
    wait_until(lambda: carry_out(services, order.id).state is PurgeState.COMPLETE)

    assert not [name for name in markers(services, "s") if name.endswith(".gz")]
    assert services.sessions.info("s") is None


def test_a_purge_of_the_archive_leaves_the_messages_in_redis(services: Services) -> None:
    sleep(services, "awake", A, B)
    restore_session(services, "awake")
    sleep(services, "asleep", A)
    say(services, "new", C)

    standing = purge(services, Order(owner="ann", scope=Scope.ARCHIVE))

    assert (standing.state, standing.found.sessions, standing.found.messages) == (PurgeState.COMPLETE, 2, 3)
    assert [name for name in of_sessions(services) if not name.endswith("/floor")] == []
    drain(services, SHARDS)
    say(services, "awake", C)
    assert archive_session(services, "awake").outcome is Outcome.ARCHIVED
    assert read_transcript(services, "awake") == [A, B, C]
    assert read_transcript(services, "new") == [C]


def test_a_session_under_a_legal_hold_is_neither_purged_nor_cleared(services: Services) -> None:
    sleep(services, "kept", A)
    sleep(services, "free", A)
    legal_hold.hold_session(services, "kept", "case 12")

    [dry] = preview(services, Order(session="kept"))
    assert dry.hold
    assert dry.hold.reason == "case 12"
    standing = purge(services, Order(owner="ann", requested_by="dpo"))

    assert standing.state is PurgeState.BLOCKED
    assert standing.receipt
    assert standing.receipt["kept"]["named"] == [
        {"session": "kept", "object": None, "why": "legal hold: case 12", "until": None}
    ]
    with pytest.raises(SessionHeld, match="case 12"):
        services.sessions.clear("kept")
    assert read_transcript(services, "kept") == [A]

    legal_hold.hold_session(services, "kept", None)
    assert purge(services, Order(owner="ann")).state is PurgeState.COMPLETE
    assert [name for name in of_sessions(services) if not name.endswith("/floor")] == []


def test_a_hold_that_comes_after_the_list_is_heeded(services: Services) -> None:
    sleep(services, "s", A)

    def keep(at: Failpoint) -> None:
        if at is Failpoint.PURGE_LISTED:
            legal_hold.hold_session(services, "s", "just in time")

    failpoints.arm(keep)
    standing = purge(services, Order(owner="ann"))

    assert standing.state is PurgeState.BLOCKED
    assert standing.receipt
    assert standing.receipt["removed"] == {"sessions": 0, "messages": 0, "objects": 0, "bytes": 0}
    assert read_transcript(services, "s") == [A]


def test_what_the_archive_refuses_to_delete_blocks_the_purge_and_is_named(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep(services, "s", A)
    [segment] = [name for name in markers(services, "s") if name.endswith(".gz")]
    delete = type(services.archive).delete

    def refuse(archive: Any, stored: Any) -> bool:
        if stored.name == segment:
            raise ArchiveRefused("a retention policy keeps it")
        return delete(archive, stored)

    monkeypatch.setattr(type(services.archive), "delete", refuse)
    standing = purge(services, Order(session="s"))

    assert standing.state is PurgeState.BLOCKED
    assert standing.receipt
    [named] = standing.receipt["kept"]["named"]
    assert (named["object"], named["why"]) == (segment, "a retention policy keeps it")
    assert standing.receipt["removed"]["objects"] == standing.found.objects - 1
    assert standing.receipt["removed"] == {"sessions": 0, "messages": 0, "objects": 0, "bytes": 0}
    again = purge(services, Order(owner="ann"))  # the owner's marker is there still
    assert (again.state, again.found.sessions) == (PurgeState.BLOCKED, 1)
    monkeypatch.undo()
    assert purge(services, Order(owner="ann")).state is PurgeState.COMPLETE
    assert [name for name in of_sessions(services) if not name.endswith("/floor")] == []


def test_what_comes_back_after_a_failover_is_purged_again(client: redis.Redis, services: Services) -> None:
    say(services, "s", A, B)
    dump: dict[bytes, Any] = {key: client.dump(key) for key in client.scan_iter() if b"}:m:" in key or b"}:s:" in key}

    def rewind(at: Failpoint) -> None:
        if at is Failpoint.PURGE_ERASED:
            failpoints.arm()
            for key, value in dump.items():
                client.restore(key, 0, value, replace=True)

    failpoints.arm(rewind)
    assert purge(services, Order(session="s")).state is PurgeState.COMPLETE
    info = services.sessions.info("s")
    assert info
    assert (info.status, info.message_count) == (Status.PURGED, 0)


def test_what_comes_after_the_list_is_complete_is_not_purged(services: Services) -> None:
    services = with_settings(services, lease_seconds=1)
    watched, points = watch(services)
    say(services, "old", A)
    order = Order(owner="ann")
    points.at("after segment put", lambda: purge(services, order))
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
    order = Order(owner="ann")

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
    order = Order(session="s", scope=Scope.LIVE)

    assert purge(services, order).state is PurgeState.RUNNING
    drain(services, SHARDS)

    wait_until(lambda: carry_out(services, order.id).state is PurgeState.COMPLETE)
    assert services.sessions.info("s") is None


def test_the_marker_of_an_old_clear_goes_with_a_purge(services: Services) -> None:
    services = with_settings(services, tombstone_seconds=1)
    sleep(services, "s", A)
    services.sessions.clear("s")
    archive_session(services, "s")
    assert services.sessions.info("s") is None
    assert len(of_sessions(services)) == 1

    assert purge(services, Order(session="s")).found.objects == 1

    end_tombstones(services)
    assert of_sessions(services) == []


def test_a_hold_that_was_released_is_not_in_the_way_of_an_erasure(services: Services) -> None:
    for session in ("purged", "cleared"):
        sleep(services, session, A)
        legal_hold.hold_session(services, session, "case 12")
        services.sessions.release_hold(session)  # the objects have yet to be seen to

    assert purge(services, Order(session="purged")).state is PurgeState.COMPLETE
    services.sessions.clear("cleared")
    assert archive_session(services, "cleared").outcome is Outcome.ARCHIVED
    assert [name for name in of_sessions(services) if not name.endswith("/floor")] == []


def test_a_held_session_is_in_the_receipt_though_the_purge_had_to_wait(services: Services) -> None:
    services = with_settings(services, lease_seconds=1)
    watched, points = watch(services)
    sleep(services, "held", A)
    legal_hold.hold_session(services, "held", "case 12")
    say(services, "leased", B)
    order = Order(owner="ann")
    points.at("after segment put", lambda: purge(services, order))
    archive_session(watched, "leased")
    assert receipts.standing(services, order.id).state is PurgeState.RUNNING

    standing = wait_until(lambda: (done := carry_out(services, order.id)).receipt and done)

    assert standing.state is PurgeState.BLOCKED
    assert [each["session"] for each in standing.receipt["kept"]["named"]] == ["held"]
    assert (standing.receipt["found"]["sessions"], standing.receipt["removed"]["sessions"]) == (2, 1)
    assert read_transcript(services, "held") == [A]


def test_what_was_rebased_before_the_purge_goes_on_is_purged(services: Services) -> None:
    sleep(services, "s", A)
    restore_session(services, "s")
    order = Order(session="s")

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

    standing = purge(services, Order(owner="ann"))

    assert standing.state is PurgeState.BLOCKED
    assert standing.receipt
    assert "another owner" in standing.receipt["kept"]["named"][0]["why"]
    assert services.sessions.messages("s") == [B]


@pytest.mark.parametrize("step", ["after begin", "before finish_restore"])
def test_a_hold_that_comes_during_a_restore_that_fails_is_seen_to(services: Services, step: str) -> None:
    sleep(services, "s", A)
    watched, points = watch(services)

    def hold_and_fail() -> None:
        services.sessions.hold("s", "case 12")
        raise ArchiveUnavailable("the bucket is down")

    points.at(step, hold_and_fail)
    with pytest.raises(ArchiveUnavailable):
        restore_session(watched, "s")
    drain(services, SHARDS)
    [segment] = list(services.archive.list(names.session_prefix("s")))
    assert segment.held or services.archive.url.startswith("gs:")  # the emulator does not tell of holds


@pytest.mark.parametrize(
    "wrong",
    [
        Order,
        lambda: Order(session="s", owner="ann"),
        lambda: Order(session=""),
        lambda: Order(owner=""),
        lambda: Order(idle=timedelta(0)),
        lambda: Order(session="s", id="../x"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(wrong: Callable[[], Order]) -> None:
    with pytest.raises(InvalidArgument):
        wrong()
