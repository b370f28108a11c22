"""Legal holds and erasures that were accepted before, or come right after."""

from __future__ import annotations

import pytest

from support.held import SHARDS, A, B, chat, held, objects, say, settle, sleep
from support.observed import watch
from support.transcripts import read_transcript
from torpor.history.protocol import (
    HoldOutcome,
    SessionHeld,
    SessionPurged,
)
from torpor.worker.deployment.services import Services
from torpor.worker.erasure.order import Order, Scope
from torpor.worker.erasure.purge import purge
from torpor.worker.erasure.receipt import PurgeState
from torpor.worker.retention import legal_hold
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session

# Holds and erasures that were accepted before, or come right after


def test_a_purged_session_can_not_be_held(services: Services) -> None:
    sleep(services, "s", A)
    purge(services, Order.of(session="s"))
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
    standing = purge(services, Order.of(session="s", scope=scope))

    assert standing.state is PurgeState.COMPLETE
    assert objects(services, "s") == []


def test_a_live_purge_right_after_the_release_leaves_free_objects(services: Services) -> None:
    say(services, "s", A)
    chat(services).hold("case 12")
    archive_session(services, "s")
    restore_session(services, "s")

    assert chat(services).release_hold()
    assert purge(services, Order.of(session="s", scope=Scope.LIVE)).state is PurgeState.COMPLETE
    settle(services)

    assert held(services, "s") == [False]


@pytest.mark.parametrize("point", ["before put segment", "after put segment", "before commit batch"])
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
