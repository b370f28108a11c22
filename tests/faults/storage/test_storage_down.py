"""Cloud Storage that stays down or refuses: sessions are postponed, and the breaker keeps drains short."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from urllib.parse import parse_qs, quote, unquote, urlsplit

import google.oauth2.credentials
import pytest
import redis
import requests

from support.faulty_storage import LATER, PASSING, check_archived, content, put, random_bytes, say
from support.keyspace import dump, raw
from support.sessions import with_settings
from support.storage_proxy import (
    Exchange,
    Fault,
    Reply,
    StorageProxy,
    answered,
    reset_after,
    reset_before,
    stalled_before,
)
from support.waiting import wait_until
from torpor.history.protocol import Status
from torpor.worker.archive import names
from torpor.worker.archive.stores import ArchiveStore, google_client
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveMisconfigured, ArchiveRefused, ArchiveUnavailable
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session

OF_THE_DEPLOYMENT = (names.DEPLOYMENT, names.IDENTITIES)


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
    """The sessions for which anything was uploaded."""
    return {session for exchange in proxy.seen for session in re.findall(rb"/(chat-\d+)/", exchange.body)}


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
    assert (info.status, info.attempts, info.error) == (Status.POSTPONED, 0, str(result.error))
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
    assert (result.outcome, type(result.error)) == (Outcome.POSTPONED, ArchiveMisconfigured)
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
    """The emulator ignores the generation in a deletion, so the test looks at the requests."""
    place = f"{emulator}/storage/v1/b/{bucket}"
    requests.patch(place, json={"versioning": {"enabled": True}}, timeout=5).raise_for_status()
    for text in ("one", "two"):
        say(services, "s", text, owner="ann")
        assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    before = [each for each in services.archive.list("") if not each.name.startswith(OF_THE_DEPLOYMENT)]
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
    unused: Services, proxy: StorageProxy, monkeypatch: pytest.MonkeyPatch
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
    monkeypatch.setattr(google_client, "_credentials", lambda: credentials)
    acknowledged = say(unused, "s", "one", "two")
    proxy.fail(answered(400), "post")
    result = archive_session(unused, "s")
    assert (result.outcome, type(result.error)) == (Outcome.POSTPONED, ArchiveMisconfigured)
    assert "refuses these credentials" in str(result.error)
    assert "secret" not in str(result.error)
    assert proxy.kinds() == ["post"]
    proxy.fail(renewed, "post")
    assert archive_session(unused, "s").outcome is Outcome.ARCHIVED
    assert proxy.kinds() == ["post", "upload"]
    check_archived(unused, "s", acknowledged)


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
