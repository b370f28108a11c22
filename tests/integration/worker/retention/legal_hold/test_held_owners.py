"""An owner's legal hold: the owner's sessions now and those that come."""

from __future__ import annotations

import json
from urllib.parse import unquote

import pytest

from support.held import A, Killed, chat, held, in_redis, say, settle, sleep
from support.observed import watch
from support.storage_proxy import StorageProxy
from support.transcripts import read_transcript
from torpor.history.protocol import (
    SessionHeld,
)
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment.services import Services
from torpor.worker.erasure.order import Order
from torpor.worker.erasure.purge import purge
from torpor.worker.erasure.receipt import PurgeState
from torpor.worker.retention import legal_hold
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.wake.restore import restore_session

# An owner's hold


def test_an_owners_hold_is_of_the_sessions_there_are_and_of_those_that_come(services: Services) -> None:
    say(services, "live", A)
    sleep(services, "asleep", A)
    sleep(services, "awake", A)
    restore_session(services, "awake")
    sleep(services, "bobs", A, owner="bob")
    told: list[legal_hold.HoldResult] = []

    done = legal_hold.hold_owner(services, "ann", "case 12", told.append)

    assert done == told[-1] == legal_hold.HoldResult(3, 4)
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
    standing = purge(services, Order.of(owner="ann"))
    assert standing.receipt
    assert (standing.state, standing.receipt.kept.sessions) == (PurgeState.BLOCKED, 4)
    assert purge(services, Order.of(owner="bob")).state is PurgeState.COMPLETE

    assert legal_hold.hold_owner(services, "ann", None) == legal_hold.HoldResult(4, 8)
    assert legal_hold.hold_owner(services, "ann", None) is None
    assert legal_hold.hold_owner(services, "nobody", None) is None
    for session_id in ("live", "asleep", "awake", "later"):
        assert held(services, session_id) == [False], session_id
    assert purge(services, Order.of(owner="ann")).state is PurgeState.COMPLETE
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

    assert legal_hold.hold_owner(services, "ann", None) == legal_hold.HoldResult(2, 2)
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

    def die(_: legal_hold.HoldResult) -> None:
        raise Killed

    monkeypatch.setattr(legal_hold, "_BATCH", 2)
    with pytest.raises(Killed):
        legal_hold.hold_owner(services, "ann", reason, die)
    seen_to = [held(services, f"s{number}") for number in range(5)]
    assert seen_to.count([not release]) == 2

    assert legal_hold.hold_owner(services, "ann", reason) == legal_hold.HoldResult(5, 6)
    settle(services)

    assert [held(services, f"s{number}") for number in range(5)] == [[not release]] * 5
    assert in_redis(services) == 0
    assert purge(services, Order.of(owner="ann")).state is (PurgeState.COMPLETE if release else PurgeState.BLOCKED)


def test_what_goes_to_sleep_while_its_owner_is_held_is_found(services: Services) -> None:
    for number in range(4):
        say(services, f"s{number}", A)
    asleep = iter(range(4))

    def sleep_meanwhile(_: legal_hold.HoldResult) -> None:
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
        hold = services.sessions.find_holds([("t", [])])[0]
        assert hold
        noted = {"session_hold": hold.value.decode().split(":")[0], "owner_hold": None}
        asked_for = {"temporaryHold": True, "metadata": noted}
        assert [json.loads(each.body) for each in patches] == [asked_for] * 2  # segment and marker
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
