"""Orders, inventories and receipts as JSON: the bytes stay what they were, and damaged ones are refused."""

from __future__ import annotations

import gzip
import io
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from torpor.history.protocol import InvalidArgument, InvalidOwner, InvalidSessionId
from torpor.worker.archive import documents
from torpor.worker.archive.documents import Document
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.erasure import schema
from torpor.worker.erasure.inventory import Found, Tally
from torpor.worker.erasure.order import Order, Scope
from torpor.worker.erasure.receipt import Kept, Receipt, Remainder
from torpor.worker.errors import DocumentDamaged, ObjectNotFound

DOCS = Path(__file__).parents[4] / "docs"

# These were written before documents were pydantic models.
ORDER = """{
 "purge": "old-1",
 "target": {
  "owner": "änn",
  "idle_seconds": 7776000.0
 },
 "scope": "archive",
 "requested_by": "dpo@example.com",
 "reason": "request 17",
 "requested_at": "2026-11-24T20:37:32.212+00:00"
}
"""
RECEIPT = (
    ORDER.removesuffix("\n}\n")
    + """,
 "state": "blocked",
 "finished_at": "2026-11-28T20:50:32.399+00:00",
 "namespace": "torpor",
 "archive": "file:///srv/chats",
 "found": {
  "sessions": 2,
  "messages": 7,
  "objects": 2,
  "bytes": 345
 },
 "removed": {
  "sessions": 1,
  "messages": 7,
  "objects": 1,
  "bytes": 345
 },
 "inventories": [
  {
   "object": "v1/receipts/old-1/000001.jsonl.gz",
   "sha256": "a3368023e2f92f30bbc46412aaee88748c547b30723b428eaeb1c7088bb87e84"
  }
 ],
 "kept": {
  "sessions": 1,
  "objects": 1,
  "named": [
   {
    "session": "s-ü",
    "object": null,
    "why": "legal hold: case 12/2026",
    "until": null
   },
   {
    "session": "t",
    "object": "v1/aa/t/1/0-1-00000000.jsonl.gz",
    "why": "a retention policy keeps it",
    "until": "2026-11-24T20:37:32.212+00:00"
   }
  ]
 },
 "late_writes_refused_for_seconds": 86400,
 "recoverable_until": null
}
"""
)
INVENTORY = (
    '{"session": "s-ü", "owner": "ann", "owners": ["ann", "bob"], "epoch": 1764016652212000, "in_redis": true, '
    '"live_messages": 3, "messages": 7, "objects": [{"name": "v1/aa/s/1/0-7-deadbeef.jsonl.gz", "generation": 12, '
    '"size": 345, "sha256": "c6eac6ea"}, {"name": "v1/aa/s/1/floor", "generation": 13, "size": 0, "sha256": null}]}\n'
    '{"session": "t", "owner": null, "owners": [], "epoch": 0, "in_redis": false, "live_messages": 0, "messages": 0, '
    '"objects": []}\n'
)


@pytest.fixture
def archive(tmp_path: Path) -> ArchiveStore:
    return open_archive(f"file://{tmp_path}/archive", threads=1)


def store(archive: ArchiveStore, name: str, body: bytes) -> None:
    archive.put(name, io.BytesIO(body), len(body), metadata={})


def text_of(archive: ArchiveStore, name: str) -> str:
    [stored] = archive.list(name)
    with archive.open(stored) as body:
        read = body.read()
    return (gzip.decompress(read) if name.endswith(".gz") else read).decode()


@pytest.mark.parametrize(("model", "text"), [(Order, ORDER), (Receipt, RECEIPT)])
def test_a_document_of_an_earlier_version_is_read_and_written_to_the_byte(
    archive: ArchiveStore, model: type[Document], text: str
) -> None:
    store(archive, "old", text.encode())
    documents.put(archive, "new", documents.read(archive, "old", model))
    assert text_of(archive, "new") == text


def test_an_inventory_of_an_earlier_version_is_read_and_written_to_the_byte(archive: ArchiveStore) -> None:
    store(archive, "old.gz", gzip.compress(INVENTORY.encode()))
    [old] = archive.list("old.gz")
    founds = list(documents.read_lines(archive, old, Found))
    assert [found.tally for found in founds] == [Tally(1, 7, 2, 345), Tally(0, 0, 0, 0)]
    documents.put_lines(archive, "new.gz", founds, {})
    assert text_of(archive, "new.gz") == INVENTORY


def test_the_order_is_read_from_its_receipt() -> None:
    assert Order.model_validate_json(RECEIPT) == Order.model_validate_json(ORDER)


def test_a_receipt_keeps_what_a_later_version_has_added() -> None:
    later = {**json.loads(RECEIPT), "signature": "x"}
    assert Receipt.model_validate(later).fields() == later


@pytest.mark.parametrize(
    "damage",
    [
        {"target": None},
        {"target": {}},
        {"target": {"session": "s", "owner": "ann"}},
        {"target": {"owner": 5}},
        {"scope": "moon"},
        {"purge": "../x"},
        {"requested_at": "yesterday"},
    ],
)
def test_a_damaged_order_is_refused_by_its_name(archive: ArchiveStore, damage: dict[str, Any]) -> None:
    store(archive, "order", json.dumps({**json.loads(ORDER), **damage}).encode())
    with pytest.raises(DocumentDamaged, match=re.escape(f"{archive.url}/order is damaged: {next(iter(damage))}")):
        documents.read(archive, "order", Order)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff"])
def test_what_is_no_json_object_is_refused(archive: ArchiveStore, body: bytes) -> None:
    store(archive, "order", body)
    with pytest.raises(DocumentDamaged, match="order is damaged"):
        documents.read(archive, "order", Order)


@pytest.mark.parametrize(
    "body",
    [
        b"no gzip",
        gzip.compress(INVENTORY.encode())[:-20],
        gzip.compress(b"{}\n"),
        gzip.compress(INVENTORY.replace('"epoch": 0', '"epoch": 0, "more": 1').encode()),
    ],
    ids=["no gzip", "cut off", "fields missing", "a field too many"],
)
def test_a_damaged_inventory_is_refused(archive: ArchiveStore, body: bytes) -> None:
    store(archive, "inventory.gz", body)
    [stored] = archive.list("inventory.gz")
    with pytest.raises(DocumentDamaged, match=re.escape("inventory.gz is damaged")):
        list(documents.read_lines(archive, stored, Found))


def test_a_document_that_is_not_there_is_not_found(archive: ArchiveStore) -> None:
    with pytest.raises(ObjectNotFound):
        documents.read(archive, "order", Order)


def test_an_order_tells_what_is_wrong_with_it() -> None:
    with pytest.raises(InvalidSessionId):
        Order.of(session="")
    with pytest.raises(InvalidOwner):
        Order.of(owner="")
    with pytest.raises(InvalidArgument, match="from 1 second to 100 years"):
        Order.of(idle=timedelta(days=40_000))
    with pytest.raises(InvalidArgument, match="a purge id is"):
        Order.of(session="s", id="../x")


def test_free_text_that_is_a_number_is_taken_as_text() -> None:
    fields: dict[str, Any] = {"requested_by": 17, "reason": 4}
    order = Order.of(session="s", scope=Scope.LIVE, **fields)
    assert (order.requested_by, order.reason) == ("17", "4")


def test_a_remainder_counts_everything_and_names_a_thousand() -> None:
    remainder = Remainder()
    for number in range(1_500):
        remainder.add(Kept(session=f"s{number}", why="a hold", object="o" if number % 2 else None))
    assert (remainder.sessions, remainder.objects, len(remainder.named)) == (750, 750, 1_000)


def test_the_published_schema_of_receipts_is_current() -> None:
    published = (DOCS / "schemas" / "receipt.schema.json").read_text(encoding="utf-8")
    assert published == schema.text(), "run `make schemas`"


def test_receipts_of_earlier_versions_follow_the_published_schema() -> None:
    check = jsonschema.Draft202012Validator(json.loads(schema.text()))
    [example] = re.findall(
        r"^```json\n(\{\n \"purge\".*?)^```", (DOCS / "erasure.md").read_text(), re.DOTALL | re.MULTILINE
    )
    for receipt in (RECEIPT, example):
        check.validate(json.loads(receipt))
        assert not check.is_valid({**json.loads(receipt), "state": "queued"})
        assert not check.is_valid({**json.loads(receipt), "target": {"owner": None}})
