"""Legal holds: what is held is archived and woken as always, and neither cleared nor purged, in Redis or the archive.

The emulator ignores temporary holds: it neither keeps nor heeds them. So for a bucket these tests let a proxy remember
the holds that were asked for, and answer as Cloud Storage does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import redis
from langchain_core.messages import HumanMessage

from support.keyspace import raw
from support.observed import watch
from support.sessions import with_settings
from support.storage_proxy import Exchange, Reply, StorageProxy
from support.waiting import wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import (
    Expiry,
    HoldOutcome,
    InvalidReason,
    Lease,
    SessionHeld,
    SessionPurged,
    SessionStore,
    Status,
)
from torpor.worker import failpoints
from torpor.worker.archive import names
from torpor.worker.archive.contents import look
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment.services import Services
from torpor.worker.erasure.orders import Order, Scope
from torpor.worker.erasure.purge import purge
from torpor.worker.erasure.receipts import PurgeState
from torpor.worker.failpoints import Failpoint
from torpor.worker.retention import legal_hold
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import read_transcript, restore_session

A, B, C = b'{"a":1}', b'{"b":2}', b'{"c":3}'
SHARDS = list(range(4))


class Killed(BaseException):
    """Stands for a process that ends here."""


@dataclass
class Holder:
    """Does for the emulator what it does not do itself: it keeps the temporary holds of objects, and heeds them."""

    held: set[tuple[str, str]] = field(default_factory=set)

    def act(self, exchange: Exchange) -> Reply:
        name = unquote(urlsplit(exchange.path).path.partition("/o/")[2])
        if exchange.method == "DELETE" and any(each == name for each, _ in self.held):
            body = json.dumps({"error": {"code": 403, "message": "under active Temporary hold"}}).encode()
            return Reply(403, {"Content-Type": "application/json"}, body)
        reply = exchange.forward()
        if reply.status != 200 or exchange.kind in ("read", "delete"):
            return reply
        answer = json.loads(reply.body)
        if exchange.kind in ("upload", "patch"):
            self._note(exchange, answer)
        for stored in answer.get("items", [answer]):
            if self._key(stored) in self.held:
                stored["temporaryHold"] = True
        return Reply(200, reply.headers, json.dumps(answer).encode())

    def _note(self, exchange: Exchange, stored: dict[str, Any]) -> None:
        body = exchange.body
        sent = json.loads(re.split(rb"\r\n\r\n|\r\n--", body)[1] if exchange.kind == "upload" else body)
        if sent.get("temporaryHold") is True:
            self.held.add(self._key(stored))
        elif sent.get("temporaryHold") is False:
            self.held.discard(self._key(stored))

    @staticmethod
    def _key(stored: dict[str, Any]) -> tuple[str, str]:
        return str(stored.get("name")), str(stored.get("generation"))


@pytest.fixture
def archive_url(request: pytest.FixtureRequest, archive_url: str) -> str:
    """An empty archive that heeds holds."""
    if archive_url.startswith("gs://"):
        proxy: StorageProxy = request.getfixturevalue("proxy")
        proxy.fail(Holder().act)
    return archive_url


@pytest.fixture
def sessions(client: redis.Redis) -> SessionStore:
    return SessionStore(client, shards=4)


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.arm()


def chat(services: Services, session_id: str = "s", owner: str | None = "ann") -> MemorystoreChatMessageHistory:
    return MemorystoreChatMessageHistory(services.sessions.client, session_id, 3600, owner=owner, shards=4)


def say(services: Services, session_id: str, *elements: bytes, owner: str | None = "ann") -> None:
    services.sessions.append(session_id, list(elements) or [A], expiry=Expiry(idle=timedelta(seconds=60)), owner=owner)


def sleep(services: Services, session_id: str, *elements: bytes, owner: str | None = "ann") -> None:
    say(services, session_id, *elements, owner=owner)
    assert archive_session(services, session_id).outcome is Outcome.ARCHIVED


def held(services: Services, session_id: str) -> list[bool]:
    """Of each segment of a session: is it held?"""
    return [segment.stored.held for segment in look(services.archive, session_id).segments]


def objects(services: Services, session_id: str) -> list[str]:
    """The names of a session's objects but for floor markers."""
    prefix = names.session_prefix(session_id)
    return [each.name for each in services.archive.list(prefix, generations=True) if not each.name.endswith("/floor")]


def settle(services: Services) -> None:
    """What the worker does by itself, until nothing is due."""
    wait_until(lambda: not drain(services, SHARDS))


def in_redis(services: Services) -> int:
    return sum(shard.live for shard in services.sessions.overview())


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
    points.at("after segment put", lambda: seen.append(held(services, "s")))

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
        for order in (Order(session="s", scope=scope), Order(owner="ann", scope=scope)):
            state = purge(services, order).state
            elsewhere = scope is (Scope.LIVE if asleep else Scope.ARCHIVE)
            assert state is (PurgeState.COMPLETE if elsewhere else PurgeState.BLOCKED)

    settle(services)
    assert read_transcript(services, "s") == [A, B]
    history.release_hold()
    settle(services)
    assert purge(services, Order(session="s")).state is PurgeState.COMPLETE
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


def test_a_quarantined_session_is_protected_at_once_and_its_objects_are_seen_to_when_it_is_requeued(
    client: redis.Redis, services: Services
) -> None:
    sleep(services, "s", A)
    restore_session(services, "s")
    say(services, "s", B)
    services = with_settings(services, max_attempts=2, retry_delay_seconds=0.1)
    lease = services.sessions.claim_one("s", services.settings.lease)
    assert isinstance(lease, Lease)
    services.sessions.snapshots([lease])
    assert services.sessions.quarantine(lease, "it is broken")

    chat(services).hold("case 12")

    info = chat(services).info()
    assert info
    assert (info.status, info.hold is not None) == (Status.QUARANTINED, True)
    assert not drain(services, SHARDS)
    with pytest.raises(SessionHeld):
        chat(services).clear()
    assert purge(services, Order(session="s")).state is PurgeState.BLOCKED
    info = chat(services).info()
    assert info
    assert info.status is Status.QUARANTINED
    services.sessions.requeue("s")
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert held(services, "s") == [True, True]


def test_whoever_holds_by_the_command_sees_to_the_objects_at_once(services: Services) -> None:
    sleep(services, "s", A)
    for changed in (2, 0):
        assert legal_hold.hold_session(services, "s", "case 12") == legal_hold.Held(1, changed)
        assert held(services, "s") == [True]
    settle(services)
    assert held(services, "s") == [True]
    assert legal_hold.hold_session(services, "s", None) == legal_hold.Held(1, 2)
    assert legal_hold.hold_session(services, "s", None) is None
    assert legal_hold.hold_session(services, "nobody", None) is None
    assert held(services, "s") == [False]
    settle(services)
    assert in_redis(services) == 0


@pytest.mark.parametrize(
    "point", ["after snapshot", "before segment put", "after segment put", "before commit", "after commit"]
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


@pytest.mark.parametrize("point", ["after snapshot", "before segment put", "after segment put", "before commit"])
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
    assert purge(services, Order(session="s")).state is PurgeState.COMPLETE


def test_a_hold_that_is_changed_while_the_worker_sees_to_the_objects_is_seen_to_again(services: Services) -> None:
    watched, points = watch(services)
    sleep(services, "s", A)
    chat(services).hold("case 12")
    points.at("after amend", lambda: chat(services).release_hold())

    assert archive_session(watched, "s").outcome is Outcome.SUPERSEDED
    assert held(services, "s") == [False]  # by whoever saw to them, who looks again
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
        if at is Failpoint.HOLD_SEEN_TO:
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


# Holds and erasures that were accepted before, or come right after


def test_a_purged_session_can_not_be_held(services: Services) -> None:
    sleep(services, "s", A)
    purge(services, Order(session="s"))
    with pytest.raises(SessionPurged, match="was purged"):
        chat(services).hold("too late")
    for reason in ("too late", None):
        with pytest.raises(SessionPurged, match="was purged"):
            legal_hold.hold_session(services, "s", reason)
    assert services.sessions.hold("s", "too late") is HoldOutcome.PURGED
    assert services.sessions.find_holds([("s", [])]) == [None]


@pytest.mark.parametrize("by_command", [False, True])
@pytest.mark.parametrize("of_owner", [False, True])
def test_a_hold_after_an_accepted_clear_does_not_stop_the_erasure(
    services: Services, *, by_command: bool, of_owner: bool
) -> None:
    sleep(services, "s", A)
    restore_session(services, "s")
    chat(services).clear()
    say(services, "s", B)

    if of_owner:
        legal_hold.hold_owner(services, "ann", "case 12")
    elif by_command:
        legal_hold.hold_session(services, "s", "case 12")
    else:
        chat(services).hold("case 12")
    settle(services)

    assert objects(services, "s") == []
    assert read_transcript(services, "s") == [B]
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert held(services, "s") == [True]
    with pytest.raises(SessionHeld):
        chat(services).clear()


@pytest.mark.parametrize("archived_since", [False, True])
def test_a_clear_right_after_the_release_erases_what_was_held(services: Services, *, archived_since: bool) -> None:
    say(services, "s", A)
    chat(services).hold("case 12")
    archive_session(services, "s")
    if archived_since:
        restore_session(services, "s")
        say(services, "s", B)

    assert chat(services).release_hold()
    chat(services).clear()
    settle(services)

    assert objects(services, "s") == []
    assert read_or_none(services, "s") == []


def read_or_none(services: Services, session_id: str) -> list[bytes]:
    return read_transcript(services, session_id) if services.sessions.info(session_id) else []


@pytest.mark.parametrize("scope", [Scope.EVERYWHERE, Scope.ARCHIVE])
def test_a_purge_right_after_the_release_erases_what_was_held(services: Services, scope: Scope) -> None:
    say(services, "s", A)
    chat(services).hold("case 12")
    archive_session(services, "s")
    restore_session(services, "s")

    assert chat(services).release_hold()
    standing = purge(services, Order(session="s", scope=scope))

    assert standing.state is PurgeState.COMPLETE
    assert objects(services, "s") == []


def test_a_live_purge_right_after_the_release_leaves_free_objects(services: Services) -> None:
    say(services, "s", A)
    chat(services).hold("case 12")
    archive_session(services, "s")
    restore_session(services, "s")

    assert chat(services).release_hold()
    assert purge(services, Order(session="s", scope=Scope.LIVE)).state is PurgeState.COMPLETE
    settle(services)

    assert held(services, "s") == [False]


@pytest.mark.parametrize("point", ["before segment put", "after segment put", "before commit"])
def test_what_was_uploaded_with_a_hold_that_was_released_and_cleared_meanwhile_is_taken_back(
    services: Services, point: str
) -> None:
    watched, points = watch(services)
    say(services, "s", A)
    chat(services).hold("case 12")
    settle(services)

    def release_and_clear() -> None:
        chat(services).release_hold()
        chat(services).clear()
        drain(services, SHARDS)

    points.at(point, release_and_clear)
    archive_session(watched, "s")
    assert points.pending == []
    settle(services)
    assert objects(services, "s") == []


# An owner's hold


def test_an_owners_hold_is_of_the_sessions_there_are_and_of_those_that_come(services: Services) -> None:
    say(services, "live", A)
    sleep(services, "asleep", A)
    sleep(services, "awake", A)
    restore_session(services, "awake")
    sleep(services, "bobs", A, owner="bob")
    told: list[legal_hold.Held] = []

    done = legal_hold.hold_owner(services, "ann", "case 12", told.append)

    assert done == told[-1] == legal_hold.Held(3, 4)
    say(services, "later", A)
    settle(services)
    for session_id in ("live", "awake", "later"):
        info = services.sessions.info(session_id)
        assert info
        assert info.hold
        assert info.hold.reason == "case 12"
        assert not info.hold_pending
        with pytest.raises(SessionHeld, match="case 12"):
            chat(services, session_id).clear()
        archive_session(services, session_id)
    for session_id in ("live", "asleep", "awake", "later"):
        assert held(services, session_id) == [True], session_id
    assert held(services, "bobs") == [False]
    standing = purge(services, Order(owner="ann"))
    assert standing.receipt
    assert (standing.state, standing.receipt["kept"]["sessions"]) == (PurgeState.BLOCKED, 4)
    assert purge(services, Order(owner="bob")).state is PurgeState.COMPLETE

    assert legal_hold.hold_owner(services, "ann", None) == legal_hold.Held(4, 8)
    assert legal_hold.hold_owner(services, "ann", None) is None
    assert legal_hold.hold_owner(services, "nobody", None) is None
    for session_id in ("live", "asleep", "awake", "later"):
        assert held(services, session_id) == [False], session_id
    assert purge(services, Order(owner="ann")).state is PurgeState.COMPLETE
    settle(services)
    assert in_redis(services) == 0


def test_a_sleeping_session_of_a_held_owner_is_not_cleared(services: Services) -> None:
    sleep(services, "s", A)
    legal_hold.hold_owner(services, "ann", "case 12")
    settle(services)
    assert in_redis(services) == 0

    with pytest.raises(SessionHeld, match="case 12"):
        chat(services).clear()
    settle(services)

    assert read_transcript(services, "s") == [A]


def test_the_release_of_an_owner_leaves_a_sessions_own_hold(services: Services) -> None:
    sleep(services, "both", A)
    sleep(services, "owners", A)
    chat(services, "both").hold("case 12")
    legal_hold.hold_owner(services, "ann", "case 13")
    settle(services)

    assert legal_hold.hold_owner(services, "ann", None) == legal_hold.Held(2, 2)
    settle(services)

    assert (held(services, "both"), held(services, "owners")) == ([True], [False])
    with pytest.raises(SessionHeld, match="case 12"):
        chat(services, "both").clear()
    legal_hold.hold_owner(services, "ann", "case 14")
    assert chat(services, "both").release_hold()
    settle(services)
    assert held(services, "both") == [True]
    with pytest.raises(SessionHeld, match="case 14"):
        chat(services, "both").clear()


@pytest.mark.parametrize("release", [False, True])
def test_an_owners_hold_that_is_interrupted_is_finished_when_it_is_run_again(
    services: Services, monkeypatch: pytest.MonkeyPatch, *, release: bool
) -> None:
    for number in range(5):
        sleep(services, f"s{number}", A)
    if release:
        legal_hold.hold_owner(services, "ann", "case 12")
        settle(services)
    reason = None if release else "case 12"

    def die(_: legal_hold.Held) -> None:
        raise Killed

    monkeypatch.setattr(legal_hold, "_BATCH", 2)
    with pytest.raises(Killed):
        legal_hold.hold_owner(services, "ann", reason, die)
    seen_to = [held(services, f"s{number}") for number in range(5)]
    assert seen_to.count([not release]) == 2

    assert legal_hold.hold_owner(services, "ann", reason) == legal_hold.Held(5, 6)
    settle(services)

    assert [held(services, f"s{number}") for number in range(5)] == [[not release]] * 5
    assert in_redis(services) == 0
    assert purge(services, Order(owner="ann")).state is (PurgeState.COMPLETE if release else PurgeState.BLOCKED)


def test_what_goes_to_sleep_while_its_owner_is_held_is_found(services: Services) -> None:
    for number in range(4):
        say(services, f"s{number}", A)
    asleep = iter(range(4))

    def sleep_meanwhile(_: legal_hold.Held) -> None:
        for number in asleep:
            archive_session(services, f"s{number}")

    legal_hold.hold_owner(services, "ann", "case 12", sleep_meanwhile)
    settle(services)
    for number in range(4):
        services.sessions.close(f"s{number}")
    settle(services)
    assert [held(services, f"s{number}") for number in range(4)] == [[True]] * 4


@pytest.mark.parametrize("archive_url", ["gcs"], indirect=True)
def test_a_bucket_is_asked_for_temporary_holds_in_the_very_requests(
    services: Services, bucket: str, emulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StorageProxy(emulator).running() as seen:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", seen.url)
        asked = Services(services.settings, services.sessions, open_archive(f"gs://{bucket}/chats"))
        say(asked, "s", A)
        chat(asked).hold("case 12")
        archive_session(asked, "s")
        uploads = [each.body for each in seen.seen if each.kind == "upload" and b".jsonl.gz" in each.body]
        assert [b'"temporaryHold":true' in body for body in uploads] == [True]
        sleep(asked, "t", A)
        seen.heal()
        chat(asked, "t").hold("case 12")
        settle(asked)
        patches = [each for each in seen.seen if each.method == "PATCH"]
        assert [json.loads(each.body) for each in patches] == [{"temporaryHold": True}] * 2  # segment and marker
        assert all("/t/" in unquote(each.path) for each in patches)


def test_a_hold_that_is_set_while_another_is_released_stays_on_the_objects(services: Services) -> None:
    sleep(services, "s", A)
    legal_hold.hold_session(services, "s", "case 12")
    watched, points = watch(services)

    def hold_again() -> None:
        services.sessions.hold("s", "case 13")

    points.at("before amend", hold_again)
    legal_hold.hold_session(watched, "s", None)

    assert points.pending == []
    assert held(services, "s") == [True]
