"""Acknowledgements that are lost, and bytes that change on the way."""

from __future__ import annotations

import re

import pytest
import redis

from support.faulty_storage import MIB, check_archived, content, long_text, put, random_bytes, requests_of, say
from support.keyspace import dump
from support.storage_proxy import (
    Exchange,
    Fault,
    Reply,
    StorageProxy,
    answered,
    answered_after,
    corrupted_down,
    corrupted_up,
    reset_after,
    stalled_after,
)
from support.transcripts import read_transcript
from torpor.history.protocol import TorporError
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveCorrupt, SegmentDamaged
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import RestoreOutcome, restore_session

# The acknowledgement is lost


@pytest.mark.parametrize("lost", [reset_after, stalled_after, answered_after(503)], ids=["reset", "stalled", "503"])
def test_an_upload_whose_acknowledgement_was_lost_is_found_done(
    services: Services, proxy: StorageProxy, lost: Fault
) -> None:
    acknowledged = say(services, "s", "one", "two")
    proxy.fail(lost, "upload", times=1)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert proxy.kinds() == ["upload", "upload", "describe", "patch"]  # the second is told 412, looks, and relies on it
    check_archived(services, "s", acknowledged)


def test_an_upload_that_was_corrupted_and_whose_reply_was_lost_is_sent_again(
    services: Services, proxy: StorageProxy
) -> None:
    def corrupted_and_lost(exchange: Exchange) -> Reply:
        assert corrupted_up(exchange).status == 400
        return exchange.reset()

    acknowledged = say(services, "s", "one", "two")
    proxy.fail(corrupted_and_lost, "upload", times=1)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert proxy.kinds() == ["upload", "upload"]
    check_archived(services, "s", acknowledged)


# Bytes change on the way


@pytest.mark.parametrize(("kind", "size"), [("upload", 1_000), ("upload", MIB), ("chunk", 9 * MIB)])
def test_a_body_that_was_corrupted_on_its_way_up_is_refused_and_not_in_the_way_of_the_next(
    archive: ArchiveStore, proxy: StorageProxy, kind: str, size: int
) -> None:
    data = random_bytes(size)
    proxy.fail(corrupted_up, kind, times=1)
    with pytest.raises(ArchiveCorrupt):
        put(archive, data)
    assert "delete" not in proxy.kinds()  # Cloud Storage compares before it stores
    assert list(archive.list("")) == []
    stored = put(archive, data)
    assert content(archive, stored) == data


@pytest.mark.usefixtures("small_parts")
@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(("kind", "size"), [("upload", 1_000), ("initiate", 100_000)])
def test_metadata_that_was_corrupted_on_its_way_up_is_refused_and_not_in_the_way_of_the_next(
    archive: ArchiveStore, proxy: StorageProxy, kind: str, size: int
) -> None:
    proxy.fail(lambda exchange: exchange.forward(re.sub(rb'("session": ?)"s"', rb'\1"r"', exchange.body)), kind)
    with pytest.raises(ArchiveCorrupt):
        put(archive, random_bytes(size))
    proxy.heal()
    assert list(archive.list("")) == []
    assert put(archive, random_bytes(size)).metadata == {"session": "s"}


def test_every_upload_tells_the_store_its_checksum_before_the_content(
    archive: ArchiveStore, proxy: StorageProxy
) -> None:
    put(archive, b"hello")
    put(archive, random_bytes(100_000), "v1/large")
    assert [
        bool(re.search(rb'"crc32c": ?"', exchange.body)) for exchange in proxy.seen if exchange.method == "POST"
    ] == [True, True]


@pytest.mark.parametrize("kind", ["upload", "chunk"])
@pytest.mark.usefixtures("small_parts")
def test_an_upload_that_the_store_refuses_for_its_checksum_is_counted_and_tried_again(
    services: Services, proxy: StorageProxy, kind: str
) -> None:
    acknowledged = say(services, "s", long_text(200_000) if kind == "chunk" else "hello")
    proxy.fail(answered(400), kind, times=1)
    result = archive_session(services, "s")
    assert (result.outcome, type(result.error)) == (Outcome.FAILED, ArchiveCorrupt)
    info = services.sessions.info("s")
    assert info
    assert info.attempts == 1
    assert services.sessions.messages("s", touch=False) == acknowledged
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    check_archived(services, "s", acknowledged)


@pytest.mark.parametrize("text", ["hello", long_text(200_000)], ids=["small", "large"])
@pytest.mark.usefixtures("small_parts")
def test_a_session_that_was_corrupted_on_its_way_up_stays_in_redis(
    services: Services, proxy: StorageProxy, text: str
) -> None:
    acknowledged = say(services, "s", text)
    proxy.fail(corrupted_up, "chunk" if len(text) > 10 else "upload", times=1)
    result = archive_session(services, "s")
    assert (result.outcome, type(result.error)) == (Outcome.FAILED, ArchiveCorrupt)
    assert services.sessions.messages("s", touch=False) == acknowledged
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    check_archived(services, "s", acknowledged)


@pytest.mark.parametrize(
    ("size", "error"), [(5, ArchiveCorrupt), (200_000, SegmentDamaged)], ids=["in one request", "in chunks"]
)
@pytest.mark.usefixtures("small_parts")
def test_a_segment_that_was_corrupted_on_its_way_down_changes_nothing_in_redis(
    services: Services,
    client: redis.Redis,
    proxy: StorageProxy,
    size: int,
    error: type[TorporError],
) -> None:
    acknowledged = say(services, "s", "before", long_text(size), "after")
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    before = dump(client)
    requests_of(proxy, lambda: read_transcript(services, "s"))
    # The last read in chunks is told that there is no more.
    reads = sum(1 for each in proxy.seen if each.kind == "read" and each.answer and each.answer.status < 300)
    for after in range(reads):
        proxy.fail(corrupted_down, "read", after=after, times=1)
        with pytest.raises(error):
            restore_session(services, "s")
        assert dump(client) == before
    proxy.heal()
    assert restore_session(services, "s").outcome is RestoreOutcome.RESTORED
    assert services.sessions.messages("s", touch=False) == acknowledged
