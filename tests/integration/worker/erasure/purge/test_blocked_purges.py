"""Purges of what is under a legal hold, or of objects that the archive may not delete."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from support.observed import watch
from support.purging import SHARDS, A, B, end_tombstones, markers, of_sessions, say, sleep
from support.sessions import with_settings
from support.transcripts import read_transcript
from support.waiting import wait_until
from torpor.history.protocol import (
    SessionHeld,
)
from torpor.worker import failpoints
from torpor.worker.archive import names
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import receipts
from torpor.worker.erasure.inventory import Tally
from torpor.worker.erasure.order import Order
from torpor.worker.erasure.purge import carry_out, preview, purge
from torpor.worker.erasure.receipt import PurgeState
from torpor.worker.errors import ArchiveRefused, ArchiveUnavailable
from torpor.worker.failpoints import Failpoint
from torpor.worker.retention import legal_hold
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session


def test_a_session_under_a_legal_hold_is_neither_purged_nor_cleared(services: Services) -> None:
    sleep(services, "kept", A)
    sleep(services, "free", A)
    legal_hold.hold_session(services, "kept", "case 12")

    [dry] = preview(services, Order.of(session="kept"))
    assert [hold.reason for hold in dry.holds] == ["case 12"]
    standing = purge(services, Order.of(owner="ann", requested_by="dpo"))

    assert standing.state is PurgeState.BLOCKED
    assert standing.receipt
    assert (standing.receipt.found.sessions, standing.receipt.removed.sessions) == (2, 1)  # docs/erasure.md says so
    assert standing.receipt.kept.fields()["named"] == [
        {"session": "kept", "object": None, "why": "legal hold: case 12", "until": None}
    ]
    with pytest.raises(SessionHeld, match="case 12"):
        services.sessions.clear("kept")
    assert read_transcript(services, "kept") == [A]

    legal_hold.hold_session(services, "kept", None)
    assert purge(services, Order.of(owner="ann")).state is PurgeState.COMPLETE
    assert [name for name in of_sessions(services) if not name.endswith("/floor")] == []


def test_a_hold_that_comes_after_the_list_is_heeded(services: Services) -> None:
    sleep(services, "s", A)

    def keep(at: Failpoint) -> None:
        if at is Failpoint.PURGE_LISTED:
            legal_hold.hold_session(services, "s", "just in time")

    failpoints.arm(keep)
    standing = purge(services, Order.of(owner="ann"))

    assert standing.state is PurgeState.BLOCKED
    assert standing.receipt
    assert standing.receipt.removed == Tally()
    assert read_transcript(services, "s") == [A]


def test_what_the_archive_refuses_to_delete_blocks_the_purge_and_is_named(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep(services, "s", A)
    [segment] = [name for name in markers(services, "s") if name.endswith(".gz")]
    delete = type(services.archive).delete

    def refuse(archive: Any, stored: Any) -> bool:
        if stored.name == segment:
            raise ArchiveRefused("a retention policy keeps it")
        return delete(archive, stored)

    monkeypatch.setattr(type(services.archive), "delete", refuse)
    standing = purge(services, Order.of(session="s"))

    assert standing.state is PurgeState.BLOCKED
    assert standing.receipt
    [named] = standing.receipt.kept.named
    assert (named.object, named.why) == (segment, "a retention policy keeps it")
    assert standing.receipt.removed.objects == standing.found.objects - 1
    assert standing.receipt.removed == Tally()
    again = purge(services, Order.of(owner="ann"))  # the owner's marker is there still
    assert (again.state, again.found.sessions) == (PurgeState.BLOCKED, 1)
    monkeypatch.undo()
    assert purge(services, Order.of(owner="ann")).state is PurgeState.COMPLETE
    assert [name for name in of_sessions(services) if not name.endswith("/floor")] == []


def test_the_marker_of_an_old_clear_goes_with_a_purge(services: Services) -> None:
    services = with_settings(services, tombstone_seconds=1)
    sleep(services, "s", A)
    services.sessions.clear("s")
    archive_session(services, "s")
    assert services.sessions.info("s") is None
    assert len(of_sessions(services)) == 1

    assert purge(services, Order.of(session="s")).found.objects == 1

    end_tombstones(services)
    assert of_sessions(services) == []


def test_a_hold_that_was_released_is_not_in_the_way_of_an_erasure(services: Services) -> None:
    for session in ("purged", "cleared"):
        sleep(services, session, A)
        legal_hold.hold_session(services, session, "case 12")
        services.sessions.release_hold(session)  # the objects still have their temporary holds

    assert purge(services, Order.of(session="purged")).state is PurgeState.COMPLETE
    services.sessions.clear("cleared")
    assert archive_session(services, "cleared").outcome is Outcome.ARCHIVED
    assert [name for name in of_sessions(services) if not name.endswith("/floor")] == []


def test_a_held_session_is_in_the_receipt_though_the_purge_had_to_wait(services: Services) -> None:
    services = with_settings(services, lease_seconds=1)
    watched, points = watch(services)
    sleep(services, "held", A)
    legal_hold.hold_session(services, "held", "case 12")
    say(services, "leased", B)
    order = Order.of(owner="ann")
    points.at("after put segment", lambda: purge(services, order))
    archive_session(watched, "leased")
    assert receipts.standing(services, order.id).state is PurgeState.RUNNING

    standing = wait_until(lambda: (done := carry_out(services, order.id)).receipt and done)

    assert standing.state is PurgeState.BLOCKED
    assert [each.session for each in standing.receipt.kept.named] == ["held"]
    assert (standing.receipt.found.sessions, standing.receipt.removed.sessions) == (2, 1)
    assert read_transcript(services, "held") == [A]


@pytest.mark.parametrize("step", ["after begin_restore", "before finish_restore"])
def test_a_hold_that_comes_during_a_restore_that_fails_is_seen_to(services: Services, step: str) -> None:
    sleep(services, "s", A)
    watched, points = watch(services)

    def hold_and_fail() -> None:
        services.sessions.hold("s", "case 12")
        raise ArchiveUnavailable("the bucket is down")

    points.at(step, hold_and_fail)
    with pytest.raises(ArchiveUnavailable):
        restore_session(watched, "s")
    drain(services, SHARDS)
    [segment] = list(services.archive.list(names.session_prefix("s")))
    assert segment.held or services.archive.url.startswith("gs:")  # the emulator does not show holds


@pytest.mark.parametrize("archive_url", ["gcs"], indirect=True)
@pytest.mark.parametrize("named", [{"session": "s"}, {"owner": "ann"}])
def test_old_generations_of_another_owner_do_not_keep_a_session(
    services: Services, bucket: str, emulator: str, named: dict[str, str]
) -> None:
    changed = {"versioning": {"enabled": True}}
    requests.patch(f"{emulator}/storage/v1/b/{bucket}", json=changed, timeout=5).raise_for_status()
    sleep(services, "s", A, owner="bob")
    for stored in list(services.archive.list(names.session_prefix("s"))):
        services.archive.delete(stored)  # as torpor separate does
    sleep(services, "s", A, B, owner="ann")

    [dry] = preview(services, Order.of(**named))  # type: ignore[arg-type] # mypy takes the values for any argument's
    assert dry.found.owners == ["ann", "bob"]
    assert dry.kept is None
