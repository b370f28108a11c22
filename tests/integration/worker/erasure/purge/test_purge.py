"""Purging: everything of a session goes, from everywhere, and a receipt says so."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jsonschema
import pytest
import redis
from langchain_core.messages import HumanMessage

from support.keyspace import lasting_keys, raw
from support.observed import watch
from support.purging import SHARDS, A, B, C, Killed, end_tombstones, epoch_of, markers, of_sessions, say, sleep
from support.sessions import with_settings
from support.transcripts import read_transcript
from support.waiting import wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import (
    InvalidArgument,
    SessionPurged,
    Status,
)
from torpor.worker import failpoints
from torpor.worker.archive import names
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders, receipts, schema
from torpor.worker.erasure.inventory import Tally
from torpor.worker.erasure.order import Order, Scope
from torpor.worker.erasure.purge import carry_out, preview, purge
from torpor.worker.erasure.receipt import PurgeState
from torpor.worker.errors import ArchiveUnavailable, PurgeNotFound
from torpor.worker.failpoints import Failpoint
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session


def test_a_purge_removes_a_session_from_redis_and_archive_and_writes_a_receipt(
    client: redis.Redis, services: Services
) -> None:
    sleep(services, "s", A, B)
    restore_session(services, "s")
    say(services, "s", C)
    archive_session(services, "s")
    restore_session(services, "s")
    sleep(services, "other", A, owner="bob")
    order = Order.of(session="s", requested_by="dpo@example.com", reason="request 17")

    standing = purge(services, order)

    assert standing.state is PurgeState.COMPLETE
    assert standing.found == Tally(1, 3, 2, standing.found.bytes)
    receipt = standing.receipt
    assert receipt is not None
    assert receipt.target.fields() == {"session": "s"}
    assert (receipt.requested_by, receipt.reason) == ("dpo@example.com", "request 17")
    assert receipt.removed == receipt.found
    assert receipt.kept.fields() == {"sessions": 0, "objects": 0, "named": []}
    jsonschema.validate(receipt.fields(), json.loads(schema.text()))
    assert markers(services, "s") == [names.floor_name("s", epoch_of(services, "s"))]
    assert not list(services.archive.list(names.all_owner_markers("ann")))
    assert list(services.archive.list(names.all_owner_markers("bob")))
    assert list(services.sessions.owned("ann")) == []
    assert not raw(client, "EXISTS", keys_of(services, "s").messages(b"s"))
    assert read_transcript(services, "other") == [A]
    assert list(orders.open_orders(services)) == []
    assert list(receipts.finished(services)) == [order.id]


def keys_of(services: Services, session_id: str) -> Any:
    return services.sessions.deployment.keyspace.of(session_id.encode())


def test_an_inventory_names_what_was_found_before_it_went_and_holds_no_text(services: Services) -> None:
    sleep(services, "s", A, B)
    [segment] = [name for name in markers(services, "s") if name.endswith(".gz")]
    [stored] = services.archive.list(segment)

    purged = purge(services, Order.of(session="s"))

    assert purged.receipt
    [listed] = purged.receipt.inventories
    [inventory] = services.archive.list(listed.object)
    with services.archive.open(inventory) as body:
        text = gzip.decompress(body.read())
    assert b"secret" not in text
    assert "secret" not in json.dumps(purged.receipt.fields())
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
    assert inventory.metadata["sha256"] == listed.sha256


def test_a_tombstone_refuses_late_writes_until_its_time_is_over(services: Services) -> None:
    services = with_settings(services, tombstone_seconds=1)
    sleep(services, "s")
    history = MemorystoreChatMessageHistory(services.sessions.client, "s", owner="ann", shards=4)
    purge(services, Order.of(session="s"))

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
    purge(services, Order.of(session="s"))
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
    assert purge(services, Order.of(owner="ann")).found.sessions == 6

    end_tombstones(services)

    assert of_sessions(services) == []
    assert {key for key in lasting_keys(client) if b"}:s:" in key or b"}:o:" in key or b"}:due" in key} == set()


def test_an_order_that_is_placed_again_is_the_same_purge(services: Services) -> None:
    sleep(services, "s")
    order = Order.of(session="s", id="task-1")
    done = purge(services, order)

    assert purge(services, Order.of(session="s", id="task-1")) == done
    with pytest.raises(InvalidArgument, match="another one"):
        orders.place(services, Order.of(session="t", id="task-1"))
    assert purge(services, Order.of(session="s")).state is PurgeState.COMPLETE  # repeating is harmless


def test_a_purge_that_meets_an_error_says_so_and_goes_on_later(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = with_settings(services, retry_delay_seconds=0.1)
    sleep(services, "s")
    order = orders.place(services, Order.of(session="s"))
    with monkeypatch.context() as patched:
        patched.setattr(
            "torpor.worker.erasure.erase.below_floor",
            lambda *_, **__: (_ for _ in ()).throw(ArchiveUnavailable("the bucket is down")),
        )
        with pytest.raises(ArchiveUnavailable):
            carry_out(services, order.id)

    standing = receipts.standing(services, order.id)
    assert (standing.state, standing.error) == (PurgeState.FAILED, "the bucket is down")
    wait_until(lambda: carry_out(services, order.id).state is PurgeState.COMPLETE)
    assert receipts.standing(services, order.id).error is None


def test_a_purge_that_nobody_began_is_queued_and_an_unknown_one_is_unknown(services: Services) -> None:
    order = orders.place(services, Order.of(owner="ann"))
    assert receipts.standing(services, order.id).state is PurgeState.QUEUED
    with pytest.raises(PurgeNotFound):
        receipts.standing(services, "nobody-knows-it")
    with pytest.raises(PurgeNotFound):
        carry_out(services, "nobody-knows-it")


def test_an_owners_purge_takes_all_their_sessions_and_nobody_elses(services: Services) -> None:
    for number in range(12):
        (sleep if number % 2 else say)(services, f"ann{number}")
        (sleep if number % 2 else say)(services, f"bob{number}", owner="bob")

    standing = purge(services, Order.of(owner="ann"))

    assert (standing.state, standing.found.sessions) == (PurgeState.COMPLETE, 12)
    for number in range(12):
        assert read_transcript(services, f"bob{number}") == [A]
    assert not [name for name in of_sessions(services) if "ann" in name and not name.endswith("/floor")]


def test_a_purge_of_idle_sessions_spares_what_was_used(services: Services) -> None:
    say(services, "old awake", idle=3600)
    sleep(services, "old asleep")
    sleep(services, "old of bob", owner="bob")
    idle = timedelta(seconds=2)
    wait_until(lambda: len(list(preview(services, Order.of(idle=idle)))) == 3, what="they have been idle for so long")
    say(services, "new awake", idle=3600)
    sleep(services, "new asleep")

    standing = purge(services, Order.of(idle=idle, owner="ann"))

    assert (standing.state, standing.found.sessions) == (PurgeState.COMPLETE, 2)
    assert read_transcript(services, "old of bob") == [A]
    assert read_transcript(services, "new awake") == [A]
    assert read_transcript(services, "new asleep") == [A]


def test_a_session_that_is_used_after_it_was_listed_as_idle_is_spared(services: Services) -> None:
    say(services, "s", idle=3600)
    wait_until(
        lambda: list(preview(services, Order.of(idle=timedelta(seconds=1)))), what="it has been idle for so long"
    )

    def use(at: Failpoint) -> None:
        if at is Failpoint.PURGE_LISTED:
            say(services, "s", B)

    failpoints.arm(use)
    standing = purge(services, Order.of(idle=timedelta(seconds=1)))

    assert standing.receipt
    assert (standing.state, standing.receipt.removed.sessions) == (PurgeState.COMPLETE, 0)
    assert read_transcript(services, "s") == [A, B]


def test_a_live_purge_leaves_the_archive_and_what_was_archived_wakes_up(services: Services) -> None:
    sleep(services, "s", A)
    restore_session(services, "s")
    say(services, "s", B)
    sleep(services, "t", A)

    standing = purge(services, Order.of(owner="ann", scope=Scope.LIVE))

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

    points.at("before commit batch", die)
    with pytest.raises(Killed):
        archive_session(watched, "s")
    order = Order.of(session="s", scope=Scope.LIVE)
    assert purge(services, order).state is PurgeState.RUNNING  # the worker may be at it still
    wait_until(lambda: carry_out(services, order.id).state is PurgeState.COMPLETE)

    assert not [name for name in markers(services, "s") if name.endswith(".gz")]
    assert services.sessions.info("s") is None


def test_a_purge_of_the_archive_leaves_the_messages_in_redis(services: Services) -> None:
    sleep(services, "awake", A, B)
    restore_session(services, "awake")
    sleep(services, "asleep", A)
    say(services, "new", C)

    standing = purge(services, Order.of(owner="ann", scope=Scope.ARCHIVE))

    assert (standing.state, standing.found.sessions, standing.found.messages) == (PurgeState.COMPLETE, 2, 3)
    assert [name for name in of_sessions(services) if not name.endswith("/floor")] == []
    drain(services, SHARDS)
    say(services, "awake", C)
    assert archive_session(services, "awake").outcome is Outcome.ARCHIVED
    assert read_transcript(services, "awake") == [A, B, C]
    assert read_transcript(services, "new") == [C]


@pytest.mark.parametrize(
    "wrong",
    [
        Order.of,
        lambda: Order.of(session="s", owner="ann"),
        lambda: Order.of(session=""),
        lambda: Order.of(owner=""),
        lambda: Order.of(idle=timedelta(0)),
        lambda: Order.of(session="s", id="../x"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(wrong: Callable[[], Order]) -> None:
    with pytest.raises(InvalidArgument):
        wrong()
