"""The requests that a bucket gets.

The emulator ignores lifecycle rules, soft delete, retention, uniform access and IAM. So these tests look at the
requests, and a proxy gives the answers of Cloud Storage.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import random
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import google_crc32c
import pytest
import requests

from support.objects import (
    DESCRIBED,
    EARLIER,
    LATER,
    MIB,
    MOMENT,
    NAME,
    conflicting,
    content,
    described,
    forged,
    object_names,
    patches,
    put,
    query,
    refused,
)
from support.storage_proxy import Exchange, Reply, StorageProxy, answered
from torpor.worker.archive import contents, names
from torpor.worker.archive.names import SegmentName
from torpor.worker.archive.stores import ArchiveStore, StoredObject
from torpor.worker.archive.stores import objects as objects_module
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.errors import ArchiveCorrupt, ArchiveRefused, ArchiveUnavailable


@pytest.fixture
def versioned(bucket: str, emulator: str) -> str:
    """A bucket that keeps deleted objects."""
    requests.patch(f"{emulator}/storage/v1/b/{bucket}", json={"versioning": {"enabled": True}}, timeout=5)
    return bucket


@pytest.mark.parametrize("size", [5, 9 * MIB])
def test_a_hold_is_set_by_the_upload_itself(store: ArchiveStore, proxy: StorageProxy, size: int) -> None:
    put(store, NAME, b"x" * size, DESCRIBED, MOMENT, held=True)
    sent = described(proxy.seen[0])
    assert (sent["temporaryHold"], sent["metadata"]) == (True, DESCRIBED)
    assert sent["customTime"] == "2030-01-02T03:04:05.678000Z"
    proxy.heal()
    put(store, "v1/free", b"x" * size)
    assert "temporaryHold" not in described(proxy.seen[0])


@pytest.mark.parametrize("size", [5, 9 * MIB])
def test_an_upload_creates_or_fails_and_tells_its_checksum(store: ArchiveStore, proxy: StorageProxy, size: int) -> None:
    put(store, NAME, b"x" * size)
    sent, [asked] = described(proxy.seen[0]), query(proxy.seen[0])["ifGenerationMatch"]
    assert (asked, sent["name"], sent["contentType"]) == ("0", f"chats/{NAME}", "application/gzip")
    checksum = google_crc32c.Checksum(b"x" * size).digest()  # type: ignore[no-untyped-call]
    assert sent["crc32c"] == base64.b64encode(checksum).decode()
    assert put(store, NAME, b"x" * size).created  # 412, and what is there is looked at


@pytest.mark.parametrize("name", ["v1/ä/😀/x.gz", "v1/a%2Fb", 'v1/"quoted"/\\', "v1/a b+c/?#&=", "v1/" + "ß" * 400])
@pytest.mark.parametrize("content_", [b"", b"\r\n--\r\n\r\n", b"--" * 99, bytes(range(256))])
def test_names_and_content_of_every_kind_arrive_as_they_are(store: ArchiveStore, name: str, content_: bytes) -> None:
    told = {"session": name, "quoted": '"\\\r\n'}
    stored = put(store, name, content_, told)
    assert list(store.list("v1/")) == [stored]
    assert (stored.name, stored.metadata, content(store, stored)) == (name, told, content_)
    store.amend(stored, custom_time=MOMENT)
    assert [each.custom_time for each in store.list(name)] == [MOMENT]
    assert store.delete(stored)


@pytest.mark.parametrize(
    ("held", "requests_"),
    [(False, ["upload", "describe", "delete"]), (True, ["upload", "describe", "patch", "delete"])],
)
@pytest.mark.parametrize("field", ["crc32c", "size", "metadata"])
def test_what_is_not_stored_as_it_was_sent_is_taken_back(
    store: ArchiveStore, proxy: StorageProxy, field: str, *, held: bool, requests_: list[str]
) -> None:
    wrong = {"crc32c": "AAAAAA==", "size": "6", "metadata": {"session": "r"}}[field]

    def misunderstood(exchange: Exchange) -> Reply:
        reply = exchange.forward()
        if exchange.kind not in ("upload", "describe"):
            return reply
        told = json.loads(reply.body) | {field: wrong, "temporaryHold": held}
        return Reply(reply.status, reply.headers, json.dumps(told).encode())

    proxy.fail(misunderstood)
    with pytest.raises(ArchiveCorrupt, match="is not what was sent"):
        put(store, NAME, b"hello", {"session": "s"}, held=held)
    assert proxy.kinds() == requests_
    assert "ifMetagenerationMatch" in query(proxy.seen[-1])
    proxy.heal()
    assert object_names(store) == []


@pytest.mark.parametrize("field", ["crc32c", "size", "metadata", "customTime", "contentType", "temporaryHold"])
def test_a_reply_that_tells_something_else_than_is_stored_is_not_believed(
    store: ArchiveStore, proxy: StorageProxy, field: str
) -> None:
    wrong = {"size": "6", "metadata": {"session": "r"}, "temporaryHold": True, "customTime": "2031-01-01T00:00:00Z"}

    def misunderstood(exchange: Exchange) -> Reply:
        reply = exchange.forward()
        return Reply(reply.status, reply.headers, json.dumps(reply.resource | {field: wrong.get(field, "x")}).encode())

    proxy.fail(misunderstood, "upload")
    stored = put(store, NAME, b"hello", DESCRIBED, MOMENT)
    assert proxy.kinds() == ["upload", "describe"]
    assert list(store.list(NAME)) == [stored]


def test_a_put_that_may_have_rivals_makes_a_new_metageneration(store: ArchiveStore, proxy: StorageProxy) -> None:
    first = put(store, NAME, b"hello", DESCRIBED, MOMENT)
    proxy.heal()
    asked: list[str] = []
    again = put(store, NAME, b"hello", DESCRIBED, MOMENT, confirm=lambda: asked.append("asked"))
    assert (proxy.kinds(), asked) == (["upload", "describe", "patch"], ["asked"])
    assert query(proxy.seen[-1])["ifMetagenerationMatch"] == [str(first.metageneration)]
    assert again == replace(first, metageneration=first.metageneration + 1)
    assert list(store.list(NAME)) == [again]


def test_what_is_deleted_between_the_look_and_the_amendment_is_put_anew(
    store: ArchiveStore, proxy: StorageProxy
) -> None:
    first = put(store, NAME, b"hello", DESCRIBED)

    def deleted_first(exchange: Exchange) -> Reply:
        store.delete(first)
        return exchange.forward()

    for kind in ("describe", "patch"):
        proxy.fail(deleted_first, kind, times=1)
        again = put(store, NAME, b"hello", DESCRIBED, confirm=lambda: None)
        assert proxy.kinds()[-1] == "upload"
        assert again.generation > first.generation
        first = again


@pytest.mark.parametrize("kind", ["read", "upload"])
def test_a_damaged_object_that_is_deleted_meanwhile_is_put_anew(
    store: ArchiveStore, proxy: StorageProxy, kind: str
) -> None:
    packed = gzip.compress(b"words", mtime=0)
    told = {"sha256": hashlib.sha256(b"words").hexdigest()}
    damaged = put(store, NAME, b"hello", told)

    def deleted_first(exchange: Exchange) -> Reply:
        store.delete(damaged)
        return exchange.forward()

    proxy.fail(deleted_first, kind, after=1 if kind == "upload" else 0, times=1)
    stored = put(store, NAME, packed, told)
    assert list(store.list(NAME)) == [stored]
    assert content(store, stored) == packed


def test_a_custom_time_of_which_the_store_keeps_fewer_digits_is_the_same(
    store: ArchiveStore, proxy: StorageProxy
) -> None:
    moment = MOMENT.replace(microsecond=678_901)

    def rounded(exchange: Exchange) -> Reply:
        reply = exchange.forward()
        return Reply(
            reply.status, reply.headers, json.dumps(reply.resource | {"customTime": f"{MOMENT:%FT%TZ}"}).encode()
        )

    proxy.fail(rounded, "upload")
    put(store, NAME, b"hello", DESCRIBED, moment)
    assert proxy.kinds() == ["upload"]


def test_a_rival_that_comes_between_is_looked_at_again_and_asked_about(
    store: ArchiveStore, proxy: StorageProxy
) -> None:
    put(store, NAME, b"hello", DESCRIBED)
    asked: list[str] = []

    def overtaken(exchange: Exchange) -> Reply:
        proxy.heal()
        put(store, NAME, b"hello", {"session": "rival"}, confirm=lambda: None)
        return exchange.forward()

    proxy.fail(overtaken, "patch", times=1)
    put(store, NAME, b"hello", DESCRIBED, confirm=lambda: asked.append("asked"))
    assert asked == ["asked", "asked"]
    assert [each.metadata for each in store.list(NAME)] == [DESCRIBED]


@pytest.mark.parametrize("size", [5, 9 * MIB])
def test_a_damaged_object_is_replaced_only_if_nobody_has_replaced_it_since(
    store: ArchiveStore, proxy: StorageProxy, size: int
) -> None:
    packed = gzip.compress(random.Random(size).randbytes(size), 0, mtime=0)
    told = {"sha256": hashlib.sha256(gzip.decompress(packed)).hexdigest()}
    damaged = put(store, NAME, b"hello", told)
    proxy.heal()
    put(store, NAME, packed, told)
    upload = [each for each in proxy.seen if each.kind in ("upload", "initiate")][-1]
    assert query(upload)["ifGenerationMatch"] == [str(damaged.generation)]
    assert query(upload)["ifMetagenerationMatch"] == [str(damaged.metageneration)]


def test_an_upload_in_parts_that_was_damaged_is_left_to_the_next_put(store: ArchiveStore, proxy: StorageProxy) -> None:
    """The library would delete it, whoever relies on it by then."""
    packed = gzip.compress(random.Random(1).randbytes(9 * MIB), 0, mtime=0)
    told = {"sha256": hashlib.sha256(gzip.decompress(packed)).hexdigest()}

    def misunderstood(exchange: Exchange) -> Reply:
        reply = exchange.forward()
        if reply.status != 200:
            return reply
        return Reply(200, reply.headers, json.dumps(reply.resource | {"crc32c": "AAAAAA=="}).encode())

    proxy.fail(misunderstood, "chunk")
    with pytest.raises(ArchiveCorrupt):
        put(store, NAME, packed, told)
    assert set(proxy.kinds()) == {"initiate", "chunk"}
    proxy.heal()
    assert list(store.list(NAME)) == [put(store, NAME, packed, told)]


def test_a_damaged_object_that_may_not_be_replaced_is_refused(store: ArchiveStore, proxy: StorageProxy) -> None:
    packed = gzip.compress(b"words", mtime=0)
    told = {"sha256": hashlib.sha256(b"words").hexdigest()}
    put(store, NAME, b"hello", told)
    proxy.fail(answered(403), "upload", after=1)
    with pytest.raises(ArchiveRefused, match="may not be deleted"):
        put(store, NAME, packed, told)


def test_a_reply_that_is_of_another_object_deletes_nothing(store: ArchiveStore, proxy: StorageProxy) -> None:
    other = put(store, "v1/00/other", b"hello")

    def crossed(exchange: Exchange) -> Reply:
        reply = exchange.forward()
        told = json.loads(reply.body)
        told |= {"name": told["name"].replace(NAME, "v1/00/other"), "generation": str(other.generation), "size": "6"}
        return Reply(reply.status, reply.headers, json.dumps(told).encode())

    proxy.fail(crossed)
    with pytest.raises(ArchiveUnavailable, match="of another object"):
        put(store, NAME, b"hello")
    assert proxy.kinds() == ["upload"]
    proxy.heal()
    assert sorted(object_names(store)) == sorted([NAME, "v1/00/other"])


def test_a_listing_asks_for_no_more_than_it_tells(store: ArchiveStore, proxy: StorageProxy) -> None:
    put(store, NAME, b"hello")
    proxy.heal()
    assert object_names(store) == [NAME]
    [asked] = query(proxy.seen[0])["fields"]
    assert asked.startswith("nextPageToken,items(name,size,generation,")


def test_a_listing_that_gives_its_own_token_again_is_unavailable(store: ArchiveStore, proxy: StorageProxy) -> None:
    put(store, NAME, b"hello")
    again = b'{"nextPageToken": "page 2", "items": []}'
    proxy.fail(lambda _: Reply(200, {"Content-Type": "application/json"}, again), times=20)
    with pytest.raises(ArchiveUnavailable, match="the token of this page again"):
        object_names(store)


def test_a_reply_that_is_no_json_is_unavailable(store: ArchiveStore, proxy: StorageProxy) -> None:
    proxy.fail(lambda _: Reply(200, {"Content-Type": "text/html"}, b"<html>Log in to the network</html>"))
    for use in (lambda: put(store, NAME, b"hello"), lambda: object_names(store)):
        with pytest.raises(ArchiveUnavailable, match="no JSON"):
            use()


def test_a_proxy_of_the_environment_is_used(
    bucket: str, emulator: str, proxy: StorageProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator)
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "")
    store = open_archive(f"gs://{bucket}/chats")
    stored = put(store, NAME, b"hello", DESCRIBED, MOMENT)
    assert list(store.list("v1/")) == [stored]
    assert content(store, stored) == b"hello"
    assert store.delete(stored)
    assert proxy.kinds() == ["upload", "list", "read", "delete"]
    proxy.fail(answered(503), times=1)
    monkeypatch.setattr(objects_module, "_RETRY", objects_module._RETRY.with_delay(initial=0.001, maximum=0.01))
    assert object_names(store) == []
    assert proxy.kinds() == ["list", "list"]


def test_a_hold_is_set_on_an_object_of_a_bucket_that_is_there_already(store: ArchiveStore, proxy: StorageProxy) -> None:
    put(store, NAME, b"hello")
    proxy.heal()
    assert put(store, NAME, b"hello", held=True).held
    assert patches(proxy) == [{"temporaryHold": True}]
    proxy.heal()
    assert put(store, NAME, b"hello", held=True).held
    assert put(store, NAME, b"hello").held
    assert patches(proxy) == []


def test_what_cloud_storage_keeps_an_object_by_is_told(store: ArchiveStore, proxy: StorageProxy) -> None:
    put(store, NAME, b"hello")

    def told(**fields: Any) -> StoredObject:
        proxy.fail(lambda exchange: listed(exchange, fields), "list")
        [stored] = store.list("v1/")
        return stored

    def listed(exchange: Exchange, fields: dict[str, Any]) -> Reply:
        reply = exchange.forward()
        found = json.loads(reply.body)
        found["items"][0] |= fields
        return Reply(200, reply.headers, json.dumps(found).encode())

    assert not told(temporaryHold=False, eventBasedHold=False).held
    assert told(temporaryHold=True).held
    assert told(eventBasedHold=True).held
    assert told(retentionExpirationTime="2030-01-02T03:04:05.678Z").retained_until == MOMENT
    retention = {"mode": "Locked", "retainUntilTime": "2030-01-02T03:04:05.678Z"}
    assert told(retention=retention).retained_until == MOMENT
    assert told(retention=retention, retentionExpirationTime="2030-01-03T03:04:05.678Z").retained_until == LATER
    assert told(retention=retention, retentionExpirationTime="2030-01-01T03:04:05.678Z").retained_until == MOMENT
    assert not told(timeDeleted="2026-01-02T03:04:05.678Z").current


def test_the_very_generation_is_deleted_and_amended(store: ArchiveStore, proxy: StorageProxy) -> None:
    stored = put(store, NAME, b"hello")
    proxy.heal()
    store.amend(stored, custom_time=MOMENT)
    store.delete(stored)
    assert [exchange.kind for exchange in proxy.seen] == ["describe", "patch", "delete"]
    assert [query(exchange)["generation"] for exchange in proxy.seen] == [[str(stored.generation)]] * 3


def test_an_earlier_custom_time_is_never_sent(store: ArchiveStore, proxy: StorageProxy) -> None:
    stored = put(store, NAME, b"hello", at=MOMENT)
    proxy.heal()
    store.amend(stored, custom_time=EARLIER)
    store.amend(stored, custom_time=MOMENT)
    assert patches(proxy) == []
    proxy.fail(forged(customTime="2031-01-01T00:00:00Z"))  # somebody else has moved it since it was listed
    store.amend(stored, custom_time=LATER)
    assert patches(proxy) == []
    store.amend(stored, custom_time=LATER, held=True)
    assert patches(proxy) == [{"temporaryHold": True}]


def test_a_hold_is_set_and_released_where_that_changes_anything(store: ArchiveStore, proxy: StorageProxy) -> None:
    stored = put(store, NAME, b"hello")
    for fields, held, sent in (
        ({"temporaryHold": False}, True, [{"temporaryHold": True}]),
        ({"temporaryHold": False}, False, []),
        ({"temporaryHold": True}, True, []),
        ({"temporaryHold": True}, False, [{"temporaryHold": False}]),
        ({"temporaryHold": False, "eventBasedHold": True}, False, []),  # it is not Torpor's to release
        ({"temporaryHold": False, "eventBasedHold": True}, True, [{"temporaryHold": True}]),
    ):
        proxy.fail(forged(**fields))
        store.amend(stored, held=held)
        assert patches(proxy) == sent


def test_an_amendment_of_what_somebody_else_amends_reads_it_again(store: ArchiveStore, proxy: StorageProxy) -> None:
    stored = put(store, NAME, b"hello")
    proxy.fail(conflicting(2))
    store.amend(stored, custom_time=MOMENT)
    assert proxy.kinds() == ["describe", "patch"] * 3
    assert [query(exchange)["ifMetagenerationMatch"] for exchange in proxy.seen[1::2]] == [["1"], ["2"], ["3"]]
    assert [amended.custom_time for amended in store.list("v1/")] == [MOMENT]
    proxy.fail(conflicting(99))
    with pytest.raises(ArchiveUnavailable, match="412"):
        store.amend(stored, custom_time=LATER)
    assert proxy.kinds() == ["describe", "patch"] * 5


def test_an_amendment_without_the_permission_is_refused(store: ArchiveStore, proxy: StorageProxy) -> None:
    stored = put(store, NAME, b"hello")
    proxy.fail(answered(403), "patch")
    with pytest.raises(ArchiveRefused, match=r"may not amend v1/ab/s/7/.*; grant storage\.objects\.update on it"):
        store.amend(stored, held=True)


UNTIL = datetime(2999, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fields", "told", "until", "held"),
    [
        ({}, "may not be deleted: 403 DELETE", None, False),
        ({"temporaryHold": True}, "may not be deleted: a temporary hold is on it; 403", None, True),
        ({"eventBasedHold": True}, "may not be deleted: an event-based hold is on it; 403", None, True),
        (
            {"retentionExpirationTime": "2999-01-02T03:04:05Z"},
            "may not be deleted: it is retained until 2999-01-02T03:04:05+00:00; 403",
            UNTIL,
            False,
        ),
        (
            {"temporaryHold": True, "retention": {"mode": "Locked", "retainUntilTime": "2999-01-02T03:04:05Z"}},
            "a temporary hold is on it; it is retained until 2999-01-02T03:04:05+00:00; 403",
            UNTIL,
            True,
        ),
        ({"retentionExpirationTime": "2020-01-02T03:04:05Z"}, "may not be deleted: 403 DELETE", None, False),
    ],
)
def test_a_deletion_that_is_forbidden_tells_why_and_until_when(
    store: ArchiveStore,
    proxy: StorageProxy,
    fields: dict[str, Any],
    told: str,
    until: datetime | None,
    *,
    held: bool,
) -> None:
    stored = put(store, NAME, b"hello")
    proxy.fail(refused("the reason", **fields))
    with pytest.raises(ArchiveRefused, match=re.escape(told)) as caught:
        store.delete(stored)
    assert (caught.value.until, caught.value.held) == (until, held)
    assert "the reason" in str(caught.value)
    assert proxy.kinds() == ["delete", "describe"]


def test_a_refusal_that_can_not_be_looked_into_tells_what_the_listing_did(
    store: ArchiveStore, proxy: StorageProxy
) -> None:
    stored = replace(put(store, NAME, b"hello"), held=True, retained_until=UNTIL)
    proxy.fail(answered(403))
    with pytest.raises(ArchiveRefused, match="hold") as caught:
        store.delete(stored)
    assert (caught.value.until, caught.value.held) == (UNTIL, True)


def test_a_versioned_bucket_lists_every_generation_only_where_it_is_asked_to(versioned: str, emulator: str) -> None:
    archive = open_archive(f"gs://{versioned}/chats")
    first = put(archive, NAME, b"one", DESCRIBED, MOMENT)
    archive.delete(first)  # the emulator ignores the generation, so it becomes noncurrent
    second = put(archive, NAME, b"second")
    other = put(archive, "v1/b", b"other")
    assert list(archive.list("v1/")) == [second, other]
    every = list(archive.list("v1/", generations=True))
    assert sorted(every, key=lambda stored: stored.generation) == [replace(first, current=False), second, other]
    assert [stored.name for stored in every] == [NAME, NAME, "v1/b"]
    assert content(archive, every[0]) + content(archive, every[1]) in (b"onesecond", b"secondone")
    assert list(archive.list("v1/b", generations=True)) == [other]


def test_every_generation_from_before_a_floor_can_be_erased(versioned: str) -> None:
    archive = open_archive(f"gs://{versioned}/chats")

    def segment(epoch: int) -> StoredObject:
        return put(archive, names.segment_name("s", SegmentName(epoch, 0, 1, "0123abcd")), b"x")

    cleared, gone, replaced = segment(3), segment(4), segment(7)
    archive.delete(gone)
    archive.delete(replaced)
    kept = segment(7)
    put(archive, names.floor_name("s", 5), b"")
    archive.delete(put(archive, names.floor_name("s", 9), b""))  # what is not current is no floor
    found = contents.look(archive, "s", generations=True)
    assert (found.floor, [each.stored for each in found.segments]) == (5, [kept])
    assert list(found.erasable) == [cleared, replace(gone, current=False)]
    plain = contents.look(archive, "s")
    assert (plain.floor, [each.stored for each in plain.segments], list(plain.erasable)) == (5, [kept], [cleared])
