"""Documents of purges that are damaged, and identities: each is refused by its name, and the others go on."""

from __future__ import annotations

import gzip
import io
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from support.command import Torpor
from support.peak import measured
from support.purging import sleep
from torpor.worker.archive import names, ownership
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders, receipts
from torpor.worker.erasure.order import Order
from torpor.worker.erasure.purge import carry_out, purge
from torpor.worker.errors import ArchiveCorrupt
from torpor.worker.ops import catching_up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
DEEP = b"[" * 5_000 + b"]" * 5_000


def put(services: Services, name: str, content: bytes, **metadata: str) -> None:
    services.archive.put(name, io.BytesIO(content), len(content), metadata=metadata)


def receipt(services: Services, purge_id: str, **changes: Any) -> bytes:
    """A purge's receipt with other values."""
    return json.dumps(receipts.read(services, purge_id).fields() | changes).encode()


@pytest.fixture
def sound(services: Services) -> Services:
    """A finished purge, an order, and two sessions that sleep."""
    for session_id in ("gone", "leaving", "bad"):
        sleep(services, session_id)
    purge(services, Order.of(session="gone", id="finished"))
    orders.place(services, Order.of(session="leaving", id="open"))
    return services


RECEIPTS: dict[str, dict[str, Any] | bytes] = {
    "another purge's": {"purge": "other"},
    "a time without a zone": {"purge": "bad", "finished_at": "2026-01-01T00:00:00"},
    "a count that nothing has": {"purge": "bad", "removed": {"bytes": 10**400}},
    "nested too deep": DEEP,
    "no text": b"\xff\x00",
}


@pytest.mark.parametrize("damage", RECEIPTS)
def test_a_damaged_receipt_is_named_and_the_others_are_listed(sound: Services, torpor: Torpor, damage: str) -> None:
    changed = RECEIPTS[damage]
    put(
        sound,
        names.PURGES.result("bad"),
        changed if isinstance(changed, bytes) else receipt(sound, "finished", **changed),
    )
    for arguments in (["receipts", "--json"], ["receipts"]):
        listed = torpor(*arguments)
        assert (listed.code, "finished" in listed.out, "bad" in listed.err) == (0, True, True), listed
    assert torpor("receipts", "bad").code == 1
    assert [each["detail"] for each in torpor("doctor", "--json").lines if "bad" in each["detail"]]
    assert catching_up.survey(sound).sessions


def test_a_receipt_whose_tombstones_never_end_does_not_stop_a_recovery(
    sound: Services, caplog: pytest.LogCaptureFixture
) -> None:
    endless = receipt(sound, "finished", purge="bad", late_writes_refused_for_seconds=10**12)
    put(sound, names.PURGES.result("bad"), endless)
    assert catching_up.survey(sound).sessions
    assert "purge bad" in caplog.text


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_pipe_in_place_of_an_inventory_does_not_stop_a_recovery(
    sound: Services, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(sound.archive.url.removeprefix("file://")) / names.PURGES.batch("finished", 1)
    put(sound, names.PURGES.result("bad"), receipt(sound, "finished", purge="bad"))
    pipe = path.parent.parent / "bad" / path.name
    pipe.parent.mkdir(exist_ok=True)
    os.mkfifo(pipe)
    assert catching_up.survey(sound).sessions
    assert "purge bad" in caplog.text


@pytest.mark.parametrize("content", [b"{}", DEEP, b'{"purge":"open"', b" " * 70_000, None], ids=repr)
def test_a_damaged_order_is_named_and_the_others_are_carried_out(
    sound: Services, torpor: Torpor, content: bytes | None
) -> None:
    other = json.dumps(orders.read(sound, "open").fields()).encode()  # of another purge than its name says
    put(sound, names.PURGES.order("bad"), other if content is None else content)
    listed = torpor("purge-status", "--json")
    assert (listed.code, [each["purge"] for each in listed.lines], "bad" in listed.err) == (0, ["open"], True), listed
    assert torpor("purge", "--session", "nobody", "--dry-run").code == 3
    assert [each for each in torpor("doctor", "--json").lines if "bad" in each["detail"]]
    assert torpor("purge", "--resume", "bad").code == 1
    assert carry_out(sound, "open").receipt
    assert list(orders.open_orders(sound)) == ["bad"]


def test_an_order_that_a_sweep_would_not_read_is_not_placed(sound: Services, torpor: Torpor) -> None:
    refused = torpor("purge", "--session", "bad", "--reason", "x" * 70_000, "--yes")
    assert refused.code == 2
    assert "70" in refused.err
    assert list(orders.open_orders(sound)) == ["open"]


def test_an_inventory_with_a_session_twice_is_refused(sound: Services, torpor: Torpor) -> None:
    found: dict[str, Any] = {"session": "bad", "owner": None, "owners": [], "epoch": 1, "in_redis": False}
    line = json.dumps({**found, "live_messages": 0, "messages": 1, "objects": []}).encode() + b"\n"
    counts = {"sessions": "1", "messages": "1", "objects": "0", "bytes": "0"}
    put(sound, names.PURGES.batch("open", 1), gzip.compress(line * 2), **counts)
    refused = torpor("purge", "--resume", "open")
    assert (refused.code, "twice" in refused.err) == (1, True), refused
    assert torpor("show", "bad").code == 0


@pytest.mark.parametrize("wrong", [{"session": "s" * 2_000}, {"owner": "o" * 2_000}, {"owners": [""]}], ids=list)
def test_an_inventory_with_an_id_that_nobody_has_does_not_stop_a_recovery(
    sound: Services, caplog: pytest.LogCaptureFixture, wrong: dict[str, Any]
) -> None:
    found: dict[str, Any] = {"session": "bad", "owner": None, "owners": [], "epoch": 1, "in_redis": False}
    found |= {"live_messages": 0, "messages": 1, "objects": []}
    line = json.dumps(found | wrong).encode() + b"\n"
    counts = {"sessions": "1", "messages": "1", "objects": "0", "bytes": "0"}
    put(sound, names.PURGES.result("bad"), receipt(sound, "finished", purge="bad"))
    put(sound, names.PURGES.batch("bad", 1), gzip.compress(line), **counts)
    assert catching_up.survey(sound).sessions
    assert "purge bad" in caplog.text


def test_counts_of_an_inventory_that_are_none_are_named(sound: Services, torpor: Torpor) -> None:
    counts = {"sessions": "many", "messages": "1", "objects": "0", "bytes": "9" * 400}
    put(sound, names.PURGES.batch("open", 1), gzip.compress(b""), **counts)
    listed = torpor("purge-status")
    assert (listed.code, "000001.jsonl.gz" in listed.err) == (0, True), listed
    assert [each for each in torpor("doctor", "--json").lines if "000001.jsonl.gz" in each["detail"]]


def test_a_hostile_receipt_takes_no_hundred_times_its_size(sound: Services) -> None:
    for purge_id, many in (("tiny", 1), ("hostile", 300_000)):
        put(sound, names.PURGES.result(purge_id), b'{"more":[' + b"[]," * many + b"0]}")
    assert measured(sound, "receipts", "SESSION").added < 64 * 1024 * 1024


IDENTITIES = {
    "nested too deep": DEEP,
    "numbers as ids": b'{"deployment": 7, "namespace": "", "former": []}',
    "former ids that are numbers": b'{"deployment": "a", "namespace": "", "former": [7]}',
    "half a character": b'{"deployment": "\\ud800", "namespace": "", "former": []}',
    "a list": b"[]",
}


@pytest.mark.parametrize("content", IDENTITIES.values(), ids=IDENTITIES)
def test_a_damaged_identity_is_refused_by_its_name(sound: Services, torpor: Torpor, content: bytes) -> None:
    put(sound, names.identity_name(2), content)
    with pytest.raises(ArchiveCorrupt, match=names.identity_name(2)):
        ownership.read(sound.archive)
    for command in (["deployment"], ["status"], ["doctor"], ["receipts"]):
        refused = torpor(*command)
        assert (refused.code in (1, 2), names.identity_name(2) in refused.said) == (True, True), refused


@pytest.mark.parametrize("moved_at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "soon", ""])
def test_a_time_of_the_fence_that_makes_no_sense_is_unknown(sound: Services, torpor: Torpor, moved_at: str) -> None:
    ownership.move_fence(sound.archive, ownership.read(sound.archive), "token", datetime.now(UTC))
    last = ownership.read(sound.archive).stored
    assert last
    sound.archive.annotate(last, {"fence_moved_at": moved_at})
    there = ownership.read(sound.archive).fence
    assert there == ownership.ArchiveFence("token", None)
    assert torpor("deployment").code == 2  # this Redis does not have the token


@pytest.mark.parametrize("name", ["notes.txt", "1_0000.json", "0000003.json", "000002.json.bak"])
def test_foreign_objects_beside_the_identity_are_left_alone(sound: Services, torpor: Torpor, name: str) -> None:
    put(sound, names.IDENTITIES + name, b"whatever")
    assert torpor("deployment").code == torpor("status").code == 0


@pytest.mark.parametrize(
    "wrong",
    [b'"objects":[%b{}]' % (b"{}," * 100_000), b'"a":0,' + b",".join(b'"%d":0' % each for each in range(60_000))],
)
def test_a_hostile_inventory_takes_no_hundred_times_its_size(sound: Services, wrong: bytes) -> None:
    counts = {"sessions": "1", "messages": "1", "objects": "0", "bytes": "0"}
    for purge_id, content in (("tiny", b"0"), ("hostile", b'{"session":"bad",%b}\n' % wrong)):
        orders.place(sound, Order.of(session="bad", id=purge_id))
        put(sound, names.PURGES.batch(purge_id, 1), gzip.compress(content), **counts)
    done = measured(sound, "purge", "--resume", "SESSION")
    assert "is damaged" in done.said
    assert done.added < 64 * 1024 * 1024
