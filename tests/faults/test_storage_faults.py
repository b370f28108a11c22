"""Cloud Storage as it fails: the real client and the emulator, and a proxy between them that makes requests fail."""

from __future__ import annotations

import base64
import functools
import gc
import io
import random
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from urllib.parse import parse_qs, quote, unquote, urlsplit

import google.cloud.storage.blob as blob_module
import google.oauth2.credentials
import pytest
import redis
import requests
from google.cloud import storage
from langchain_core.messages import HumanMessage

from support.keyspace import dump, raw
from support.sessions import with_settings
from support.storage_proxy import (
    Exchange,
    Fault,
    Reply,
    StorageProxy,
    answered,
    answered_after,
    corrupted_down,
    corrupted_up,
    cut_down,
    reset_after,
    reset_before,
    stalled_after,
    stalled_before,
)
from support.waiting import wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import Status, TorporError
from torpor.worker.archive import contents
from torpor.worker.archive.stores import ArchiveStore, StoredObject
from torpor.worker.archive.stores import gcs as gcs_module
from torpor.worker.archive.stores import objects as objects_module
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveConflict, ArchiveCorrupt, ArchiveRefused, ArchiveUnavailable, SegmentDamaged
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import RestoreOutcome, read_transcript, restore_session

MIB = 1024 * 1024
NAME = "v1/ab/s/7/0-1-0123abcd.jsonl.gz"
LATER = datetime(2030, 1, 1, tzinfo=UTC)

STATUSES = (408, 429, 500, 502, 503, 504)
PASSING: dict[str, Fault] = {
    **{f"{status}": answered(status) for status in STATUSES},
    "503, but it was done": answered_after(503),
    "reset before it arrived": reset_before,
    "reset before the reply": reset_after,
    "stalled before it arrived": stalled_before,
    "stalled before the reply": stalled_after,
}
passing = pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())


# The library leaves the connection of a download that failed to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(scope="module", autouse=True)
def _collected() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def archive_url(bucket: str, proxy: StorageProxy) -> str:
    return f"gs://{bucket}/chats"


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come after milliseconds, and a reply that a test lets stall is waited for a quarter of a second."""
    monkeypatch.setattr(objects_module, "_RETRY", objects_module._RETRY.with_delay(initial=0.001, maximum=0.01))
    if "stalled" in request.node.name or "never_answers" in request.node.name:
        monkeypatch.setattr(objects_module, "_TIMEOUT", (5.0, 0.25))


@pytest.fixture
def impatient(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails is tried again for 20 milliseconds, not for a minute."""
    monkeypatch.setattr(objects_module, "_RETRY", objects_module._RETRY.with_timeout(0.02))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads are resumable, and downloads come in chunks, from sizes on that a test can afford."""
    monkeypatch.setattr(gcs_module, "_CHUNK", 32 * 1024)
    monkeypatch.setattr(gcs_module, "_SENT_AT_ONCE", 64 * 1024)
    monkeypatch.setattr(gcs_module, "_PART", 256 * 1024)
    monkeypatch.setattr(gcs_module, "_READ_AT_ONCE", 64 * 1024)
    monkeypatch.setattr(blob_module, "_MAX_MULTIPART_SIZE", 64 * 1024)
    monkeypatch.setattr("isal.igzip.READ_BUFFER_SIZE", 32 * 1024)  # a chunk is at least what is asked for


def put(archive: ArchiveStore, data: bytes, name: str = NAME) -> StoredObject:
    return archive.put(name, io.BytesIO(data), len(data), metadata={"session": "s"})


def content(archive: ArchiveStore, stored: StoredObject) -> bytes:
    with archive.open(stored) as body:
        return body.read()


def random_bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def say(services: Services, session_id: str, *texts: str, **options: str) -> list[bytes]:
    """Add messages; returns all that Redis has acknowledged of the session and holds."""
    chat = MemorystoreChatMessageHistory(services.sessions.client, session_id, **options)  # type: ignore[arg-type]
    chat.add_messages([HumanMessage(text) for text in texts])
    return services.sessions.messages(session_id, touch=False)


def long_text(size: int) -> str:
    """A text that gzip makes no shorter than three quarters of `size`."""
    return base64.b64encode(random_bytes(size * 3 // 4)).decode()


def due_sessions(services: Services, count: int) -> dict[str, list[bytes]]:
    """Sessions that are due now, and their messages."""
    said = {f"chat-{number}": say(services, f"chat-{number}", f"hello {number}") for number in range(count)}
    assert all(services.sessions.close(session_id) for session_id in said)
    return said


def drain_all(services: Services) -> dict[Outcome, int]:
    return dict(drain(services, list(services.sessions.due_counts())))


def due_now(services: Services) -> int:
    return sum(services.sessions.due_counts().values())


def tried(proxy: StorageProxy) -> set[bytes]:
    """The sessions that anything was uploaded for."""
    return {session for exchange in proxy.seen for session in re.findall(rb"/(chat-\d+)/", exchange.body)}


def check_archived(services: Services, session_id: str, acknowledged: list[bytes], segments: int = 1) -> None:
    """It is gone from Redis, and each of its segments is one object; restored, it is what was acknowledged."""
    assert services.sessions.info(session_id) is None
    assert len(contents.look(services.archive, session_id).segments) == segments
    assert read_transcript(services, session_id) == acknowledged


# What passes


@passing
@pytest.mark.parametrize(
    ("kind", "size"), [("upload", 0), ("upload", 1_000), ("initiate", 600_000), ("chunk", 600_000)]
)
@pytest.mark.usefixtures("small_parts")
def test_an_upload_survives_a_fault_that_passes(
    archive: ArchiveStore, proxy: StorageProxy, fault: Fault, kind: str, size: int
) -> None:
    data = random_bytes(size)
    for times in (1, 2):
        proxy.fail(fault, kind, times=times)
        stored = put(archive, data)
        assert proxy.kinds().count(kind) >= times + 1
        assert list(archive.list("")) == [stored]
        assert (stored.size, content(archive, stored)) == (size, data)
        archive.delete(stored)


@passing
@pytest.mark.usefixtures("small_parts")
def test_reading_listing_amending_and_deleting_survive_a_fault_that_passes(
    archive: ArchiveStore, proxy: StorageProxy, fault: Fault
) -> None:
    for size in (1_000, 200_000):
        data = random_bytes(size)
        stored = put(archive, data)
        proxy.fail(fault, "list", times=1)
        assert list(archive.list("v1/")) == [stored]
        proxy.fail(fault, "read", times=2)
        assert content(archive, stored) == data
        proxy.fail(fault, "patch", times=1)
        archive.amend(stored, custom_time=LATER)
        assert proxy.kinds() == ["describe", "patch", "patch"]
        assert [amended.custom_time for amended in archive.list("v1/")] == [LATER]
        proxy.fail(fault, "delete", times=1)
        archive.delete(stored)  # where its reply was lost, it finds nothing the second time
        assert list(archive.list("v1/")) == []


@pytest.mark.parametrize("size", [1_000, 200_000])
@pytest.mark.usefixtures("small_parts")
def test_a_download_that_is_cut_goes_on_where_it_stopped(archive: ArchiveStore, proxy: StorageProxy, size: int) -> None:
    data = random_bytes(size)
    stored = put(archive, data)
    proxy.fail(cut_down, "read", after=0, times=2)
    assert content(archive, stored) == data


def test_uploads_ask_for_nothing_but_what_they_need(archive: ArchiveStore, proxy: StorageProxy) -> None:
    put(archive, random_bytes(1_000), "v1/small")
    put(archive, random_bytes(9 * MIB), "v1/large")
    assert proxy.kinds() == ["upload", "initiate", "chunk", "chunk", "chunk"]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("kind", "use"), [("upload", lambda a: put(a, b"hello")), ("list", lambda a: list(a.list("")))]
)
def test_retry_after_is_waited_for(
    archive: ArchiveStore, proxy: StorageProxy, status: int, kind: str, use: Callable[[ArchiveStore], object]
) -> None:
    proxy.fail(answered(status, Retry_After="1"), kind, times=1)
    use(archive)
    first, second = (exchange.arrived for exchange in proxy.seen)
    assert second - first >= 1


def test_retry_after_of_an_hour_gives_up_at_once(archive: ArchiveStore, proxy: StorageProxy) -> None:
    proxy.fail(answered(429, Retry_After="3600"), times=1)
    with pytest.raises(ArchiveUnavailable, match="429"):
        put(archive, b"hello")
    assert proxy.kinds() == ["upload"]


@pytest.mark.parametrize("told", ["soon", "-1", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT", ""])
def test_retry_after_that_is_no_number_of_seconds_is_left_to_the_backoff(
    archive: ArchiveStore, proxy: StorageProxy, told: str
) -> None:
    proxy.fail(answered(429, Retry_After=told), times=2)
    put(archive, b"hello")
    assert proxy.kinds() == ["upload"] * 3


# What does not pass

DOWN: dict[str, Fault] = {name: fault for name, fault in PASSING.items() if "stalled" not in name}
down = pytest.mark.parametrize("fault", DOWN.values(), ids=DOWN.keys())


@down
@pytest.mark.usefixtures("small_parts", "impatient")
def test_a_store_that_stays_down_is_unavailable_for_every_use(
    archive: ArchiveStore, proxy: StorageProxy, fault: Fault
) -> None:
    small, large = put(archive, b"hello"), put(archive, random_bytes(100_000), "v1/large")
    proxy.fail(fault)
    for use in (
        archive.check,
        lambda: put(archive, b"new", "v1/new"),
        lambda: put(archive, random_bytes(100_000), "v1/new-large"),
        lambda: list(archive.list("v1/")),
        lambda: content(archive, small),
        lambda: content(archive, large),
        lambda: archive.delete(small),
        lambda: archive.amend(small, custom_time=LATER),
        archive.safeguards,
        archive.apply_lifecycle,
    ):
        with pytest.raises(ArchiveUnavailable, match="can't be reached or can't serve now"):
            use()


@pytest.mark.usefixtures("impatient")
def test_a_store_that_never_answers_is_unavailable(archive: ArchiveStore, proxy: StorageProxy) -> None:
    proxy.fail(stalled_before)
    with pytest.raises(ArchiveUnavailable, match="timed out"):
        put(archive, b"hello")
    proxy.heal()
    assert list(archive.list("")) == []


@down
@pytest.mark.usefixtures("impatient")
def test_a_session_whose_store_stays_down_is_kept_uncounted_and_tried_again_later(
    services: Services, client: redis.Redis, proxy: StorageProxy, fault: Fault
) -> None:
    acknowledged = say(services, "s", "one", "two")
    proxy.fail(fault)
    result = archive_session(services, "s")
    assert (result.outcome, type(result.error)) == (Outcome.POSTPONED, ArchiveUnavailable)
    info = services.sessions.info("s")
    assert info
    assert (info.status, info.attempts, info.error) == (Status.LIVE, 0, str(result.error))
    assert services.sessions.messages("s", touch=False) == acknowledged
    proxy.heal()
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    check_archived(services, "s", acknowledged)


@pytest.mark.usefixtures("impatient")
def test_sessions_are_tried_again_after_a_delay_with_jitter(services: Services, proxy: StorageProxy) -> None:
    proxy.fail(answered(503))
    delays = []
    for number in range(8):
        say(services, f"s{number}", "hello")
        archive_session(services, f"s{number}")
        info = services.sessions.info(f"s{number}")
        assert info
        assert info.due_at
        delays.append(round((info.due_at - datetime.now(UTC)).total_seconds()))
    assert all(14 <= delay <= 45 for delay in delays)  # 30 seconds and half of it, less what the test takes
    assert len(set(delays)) > 1


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_no_sessions_fault(
    services: Services, client: redis.Redis, proxy: StorageProxy, status: int
) -> None:
    acknowledged = say(services, "s", "one", "two")
    proxy.fail(answered(status))
    result = archive_session(services, "s")
    assert (result.outcome, type(result.error)) == (Outcome.POSTPONED, ArchiveUnavailable)
    assert "refuses these credentials" in str(result.error)
    assert proxy.kinds() == ["upload"]  # no use in asking again
    proxy.heal()
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    proxy.fail(answered(status))
    before = dump(client)
    with pytest.raises(ArchiveUnavailable, match="refuses these credentials"):
        restore_session(services, "s")
    assert dump(client) == before
    proxy.heal()
    check_archived(services, "s", acknowledged)


def test_an_erasure_that_the_bucket_forbids_is_counted_and_keeps_nobody_else_from_sleeping(
    services: Services, proxy: StorageProxy
) -> None:
    say(services, "s", "one")
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    services.sessions.clear("s")
    proxy.fail(lambda exchange: answered(403)(exchange) if exchange.method == "DELETE" else exchange.forward())
    result = archive_session(services, "s")
    assert (result.outcome, type(result.error)) == (Outcome.FAILED, ArchiveRefused)
    assert "may not be deleted" in str(result.error)
    said = due_sessions(services, 5)
    assert drain_all(services)[Outcome.ARCHIVED] == 5
    proxy.heal()
    for session_id, messages in said.items():
        check_archived(services, session_id, messages)


def test_an_erasure_asks_a_versioned_bucket_to_delete_every_generation(
    services: Services, proxy: StorageProxy, emulator: str, bucket: str
) -> None:
    """The emulator ignores which generation is to be deleted, so the requests are looked at."""
    place = f"{emulator}/storage/v1/b/{bucket}"
    requests.patch(place, json={"versioning": {"enabled": True}}, timeout=5).raise_for_status()
    for text in ("one", "two"):
        say(services, "s", text, owner="ann")
        assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    before = list(services.archive.list(""))
    for stored in before[:-1]:  # by somebody who thinks that they are gone then
        requests.delete(f"{place}/o/{quote('chats/' + stored.name, safe='')}", timeout=5).raise_for_status()
    services.sessions.clear("s")
    proxy.heal()
    assert archive_session(services, "s").error is None
    asked = {
        (unquote(place.path).partition("/o/chats/")[2], parse_qs(place.query)["generation"][0])
        for place in (urlsplit(exchange.path) for exchange in proxy.seen if exchange.method == "DELETE")
    }
    assert asked == {(stored.name, str(stored.generation)) for stored in before}


def test_credentials_that_expire_and_can_not_be_renewed_postpone(
    services: Services, proxy: StorageProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def renewed(exchange: Exchange) -> Reply:
        return Reply(200, {"Content-Type": "application/json"}, b'{"access_token": "fresh", "expires_in": 3600}')

    credentials = google.oauth2.credentials.Credentials(  # type: ignore[no-untyped-call]
        "stale",
        refresh_token="secret-refresh-token",
        token_uri=f"{proxy.url}/token",
        client_id="torpor",
        client_secret="secret",
        expiry=datetime(2020, 1, 1),  # noqa: DTZ001 - as google-auth wants it
    )
    monkeypatch.setattr(storage, "Client", functools.partial(storage.Client, "project", credentials))
    acknowledged = say(services, "s", "one", "two")
    proxy.fail(answered(400), "post")
    result = archive_session(services, "s")
    assert (result.outcome, type(result.error)) == (Outcome.POSTPONED, ArchiveUnavailable)
    assert "refuses these credentials" in str(result.error)
    assert "secret" not in str(result.error)
    assert proxy.kinds() == ["post"]
    proxy.fail(renewed, "post")
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert proxy.kinds() == ["post", "upload"]
    check_archived(services, "s", acknowledged)


def test_a_bucket_that_disappears_in_the_middle_of_a_drain_keeps_the_other_sessions(
    services: Services, proxy: StorageProxy, emulator: str, bucket: str
) -> None:
    services = with_settings(services, concurrency=1, batch=10_000, retry_delay_seconds=0.01)
    said = due_sessions(services, 10)

    def vanish(exchange: Exchange) -> Reply:
        place = f"{emulator}/storage/v1/b/{bucket}"
        for item in requests.get(f"{place}/o", timeout=5).json()["items"]:
            name = quote(item["name"], safe="")
            requests.delete(f"{place}/o/{name}", timeout=5).raise_for_status()
        requests.delete(place, timeout=5).raise_for_status()
        return exchange.forward()

    proxy.fail(vanish, "upload", after=4, times=1)
    assert drain_all(services) == {Outcome.ARCHIVED: 4, Outcome.POSTPONED: 6}
    assert len(tried(proxy)) == 5
    infos = [info for session_id in said if (info := services.sessions.info(session_id))]
    assert [info.error for info in infos if info.error] == [f"bucket {bucket!r} does not exist; create it first"]
    assert [info.attempts for info in infos] == [0] * 6
    for info in infos:
        assert services.sessions.messages(info.session_id, touch=False) == said[info.session_id]

    requests.post(f"{emulator}/storage/v1/b", json={"name": bucket}, timeout=5).raise_for_status()
    wait_until(lambda: due_now(services) == 6)
    assert drain_all(services) == {Outcome.ARCHIVED: 6}
    for info in infos:
        check_archived(services, info.session_id, said[info.session_id])


@pytest.mark.parametrize(
    ("fault", "kind"), [(answered(503), "chunk"), (reset_before, "chunk"), (answered(404), "chunk")]
)
@pytest.mark.usefixtures("small_parts", "impatient")
def test_no_error_tells_where_an_upload_goes_on(
    archive: ArchiveStore, proxy: StorageProxy, fault: Fault, kind: str
) -> None:
    proxy.fail(fault, kind)
    with pytest.raises(ArchiveUnavailable) as caught:
        put(archive, random_bytes(100_000))
    [upload_id] = {found for exchange in proxy.seen for found in re.findall(r"upload_id=([^&]+)", exchange.path)}
    assert upload_id not in str(caught.value)


# The breaker


@pytest.mark.parametrize("fault", [answered(503), answered(403), reset_after], ids=["503", "403", "reset"])
@pytest.mark.usefixtures("impatient")
def test_a_store_that_is_down_costs_each_drain_one_session(
    services: Services, proxy: StorageProxy, fault: Fault
) -> None:
    services = with_settings(services, concurrency=4, batch=10_000)
    said = due_sessions(services, 40)
    proxy.fail(fault)
    assert drain_all(services) == {Outcome.POSTPONED: 40}
    first = len(tried(proxy))
    assert 1 <= first <= 4
    assert due_now(services) == 40 - first  # given back at once, not when the lease of 30 seconds ends
    for number in range(1, 4):
        proxy.fail(fault)
        assert drain_all(services) == {Outcome.POSTPONED: 1}
        assert len(tried(proxy)) == 1
        assert due_now(services) == 40 - first - number
    assert all(services.sessions.messages(session_id, touch=False) == said[session_id] for session_id in said)

    # An index entry without a session says nothing about the store.
    raw(services.sessions.client, "ZADD", services.sessions.deployment.keyspace.of(b"ghost").due, 1, "ghost")
    drain_all(services)
    proxy.fail(fault)
    drain_all(services)
    assert len(tried(proxy)) <= 2

    proxy.heal()
    while Outcome.ARCHIVED in drain_all(services):
        pass
    for session_id in said:
        archive_session(services, session_id)
        check_archived(services, session_id, said[session_id])


@pytest.mark.usefixtures("impatient")
def test_a_store_that_never_answers_is_waited_for_once_in_each_drain(services: Services, proxy: StorageProxy) -> None:
    services = with_settings(services, concurrency=4, batch=10_000)
    due_sessions(services, 12)
    proxy.fail(stalled_before)
    for most in (4, 1, 1):
        proxy.fail(stalled_before)
        drain_all(services)
        assert 1 <= len(tried(proxy)) <= most


@pytest.mark.usefixtures("impatient")
def test_a_shard_with_nothing_due_hides_no_other_from_the_probe(services: Services, proxy: StorageProxy) -> None:
    services = with_settings(services, retry_delay_seconds=0.01)
    acknowledged = due_sessions(services, 1)["chat-0"]
    proxy.fail(answered(503))
    every_shard = range(256)
    assert drain(services, every_shard) == {Outcome.POSTPONED: 1}
    wait_until(lambda: due_now(services) == 1)
    proxy.heal()
    assert drain(services, every_shard) == {Outcome.ARCHIVED: 1}
    check_archived(services, "chat-0", acknowledged)


# The acknowledgement is lost


@pytest.mark.parametrize("lost", [reset_after, stalled_after, answered_after(503)], ids=["reset", "stalled", "503"])
def test_an_upload_whose_acknowledgement_was_lost_is_found_done(
    services: Services, proxy: StorageProxy, lost: Fault
) -> None:
    acknowledged = say(services, "s", "one", "two")
    proxy.fail(lost, "upload", times=1)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert proxy.kinds() == ["upload", "upload", "describe"]  # the second is told 412, and looks
    check_archived(services, "s", acknowledged)


def test_an_upload_whose_acknowledgement_was_lost_and_whose_content_differs_is_a_conflict(
    services: Services, proxy: StorageProxy
) -> None:
    def corrupted_and_lost(exchange: Exchange) -> Reply:
        corrupted_up(exchange)
        return exchange.reset()

    acknowledged = say(services, "s", "one", "two")
    proxy.fail(corrupted_and_lost, "upload", times=1)
    result = archive_session(services, "s")
    assert (result.outcome, type(result.error)) == (Outcome.FAILED, ArchiveConflict)
    info = services.sessions.info("s")
    assert info
    assert info.attempts == 1
    assert services.sessions.messages("s", touch=False) == acknowledged


# Bytes change on the way


@pytest.mark.parametrize(("kind", "size"), [("upload", 1_000), ("upload", MIB), ("chunk", 9 * MIB)])
def test_a_body_that_was_corrupted_on_its_way_up_is_refused_and_not_in_the_way_of_the_next(
    archive: ArchiveStore, proxy: StorageProxy, kind: str, size: int
) -> None:
    data = random_bytes(size)
    proxy.fail(corrupted_up, kind, times=1)
    with pytest.raises(ArchiveCorrupt):
        put(archive, data)
    assert proxy.kinds()[-1] == "delete"  # the emulator has stored it; Cloud Storage compares before it does
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


# Page by page, request by request


@pytest.mark.usefixtures("impatient")
def test_a_listing_whose_second_page_fails_is_whole_or_an_error(
    archive: ArchiveStore, proxy: StorageProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"v1/{number}" for number in range(5)]
    for name in names:
        put(archive, b"hello", name)
    monkeypatch.setattr(objects_module, "_PAGE", 2)
    proxy.heal()
    assert [stored.name for stored in archive.list("v1/")] == names
    assert proxy.kinds() == ["list"] * 3
    for fault in (reset_after, cut_down, answered(503)):
        proxy.fail(fault, "list", after=1, times=1)
        assert [stored.name for stored in archive.list("v1/")] == names
        proxy.fail(fault, "list", after=1)
        with pytest.raises(ArchiveUnavailable):
            list(archive.list("v1/"))


EVERY = {"503": answered(503), "reset before": reset_before, "reset after": reset_after, "cut": cut_down}
every = pytest.mark.parametrize("fault", EVERY.values(), ids=EVERY.keys())


def new(services: Services, session_id: str) -> list[bytes]:
    """A session that was never archived: a marker and a segment."""
    return say(services, session_id, "one", "two", owner="ann")


def grown(services: Services, session_id: str) -> list[bytes]:
    """A session that has come back and grown by much: a resumable upload and a listing."""
    new(services, session_id)
    archive_session(services, session_id)
    restore_session(services, session_id)
    return say(services, session_id, *(long_text(150_000) for _ in range(4)))


Prepare = Callable[[Services, str], list[bytes]]
prepared = pytest.mark.parametrize(("prepare", "segments"), [(new, 1), (grown, 2)], ids=["new", "grown"])


def requests_of(proxy: StorageProxy, work: Callable[[], object]) -> int:
    """How many requests a piece of work takes where none fails."""
    proxy.heal()
    work()
    return len(proxy.seen)


@every
@prepared
@pytest.mark.usefixtures("small_parts")
def test_an_archive_survives_a_fault_of_any_one_request(
    services: Services, proxy: StorageProxy, fault: Fault, prepare: Prepare, segments: int
) -> None:
    prepare(services, "clean")
    for after in range(requests_of(proxy, lambda: archive_session(services, "clean"))):
        proxy.heal()
        acknowledged = prepare(services, f"s{after}")
        proxy.fail(fault, after=after, times=1)
        assert archive_session(services, f"s{after}").outcome is Outcome.ARCHIVED
        proxy.heal()
        check_archived(services, f"s{after}", acknowledged, segments)


@every
@prepared
@pytest.mark.usefixtures("small_parts", "impatient")
def test_an_archive_that_stops_at_any_request_is_finished_by_the_next(
    services: Services,
    proxy: StorageProxy,
    fault: Fault,
    prepare: Prepare,
    segments: int,
) -> None:
    prepare(services, "clean")
    for after in range(requests_of(proxy, lambda: archive_session(services, "clean"))):
        session_id = f"s{after}"
        proxy.heal()
        acknowledged = prepare(services, session_id)
        proxy.fail(fault, after=after)
        assert archive_session(services, session_id).outcome is Outcome.POSTPONED
        info = services.sessions.info(session_id)
        assert info
        assert info.attempts == 0
        assert services.sessions.messages(session_id, touch=False) == acknowledged
        proxy.heal()
        assert archive_session(services, session_id).outcome is Outcome.ARCHIVED
        check_archived(services, session_id, acknowledged, segments)


@every
@pytest.mark.usefixtures("small_parts")
def test_a_restore_survives_a_fault_of_any_one_request(services: Services, proxy: StorageProxy, fault: Fault) -> None:
    acknowledged = grown(services, "s")
    archive_session(services, "s")
    for after in range(requests_of(proxy, lambda: read_transcript(services, "s"))):
        proxy.fail(fault, after=after, times=1)
        assert restore_session(services, "s").outcome is RestoreOutcome.RESTORED
        assert services.sessions.messages("s", touch=False) == acknowledged
        proxy.heal()
        assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    check_archived(services, "s", acknowledged, segments=2)


@every
@pytest.mark.usefixtures("small_parts", "impatient")
def test_a_restore_that_fails_at_any_request_changes_nothing_and_succeeds_afterwards(
    services: Services, client: redis.Redis, proxy: StorageProxy, fault: Fault
) -> None:
    acknowledged = grown(services, "s")
    archive_session(services, "s")
    count = requests_of(proxy, lambda: read_transcript(services, "s"))
    assert count > 10
    before = dump(client)
    for after in range(count):
        proxy.fail(fault, after=after)
        with pytest.raises(ArchiveUnavailable):
            restore_session(services, "s")
        assert dump(client) == before
    proxy.heal()
    assert restore_session(services, "s").outcome is RestoreOutcome.RESTORED
    assert services.sessions.messages("s", touch=False) == acknowledged
