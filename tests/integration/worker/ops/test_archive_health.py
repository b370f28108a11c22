"""Workers note whether the archive works; status, doctor, the command and one event tell of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from support.archiving import due_chats
from support.command import Torpor
from support.keyspace import raw
from support.observed import watch
from support.waiting import wait_until
from torpor.worker.deployment.events import follow
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveMisconfigured, ArchiveUnavailable
from torpor.worker.ops.doctor import Ailment, examine
from torpor.worker.ops.status import overview
from torpor.worker.sleep import breaker
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let this process be the worker of another host, which has noted nothing yet."""

    def be(host: str) -> None:
        monkeypatch.setattr("socket.gethostname", lambda: host)
        monkeypatch.setattr(breaker, "BREAKER", breaker.Breaker())

    be("one")
    return be


def drain_all(services: Services) -> dict[Outcome, int]:
    wait_until(services.sessions.due_counts)
    return dict(drain(services, list(services.sessions.due_counts())))


def down(services: Services, error: ArchiveUnavailable, delay: float = 0.01) -> Services:
    watched, points = watch(services, concurrency=1, retry_delay_seconds=delay)

    def fail() -> None:
        points.at("before put segment", fail)
        raise error

    points.at("before put segment", fail)
    return watched


def events_of_the_archive(services: Services) -> list[dict[str, Any]]:
    found = [fields for _, fields in follow(services, count=1_000, forever=False)]
    return [fields for fields in found if fields["kind"].startswith("archive.")]


def test_status_tells_when_the_archive_has_worked_and_failed_and_why(
    services: Services, named: Callable[[str], None], torpor: Torpor
) -> None:
    assert overview(services).archive_health.workers == []
    due_chats(services, 1)
    drain_all(services)
    [note] = overview(services).archive_health.workers
    assert (note.worker, note.last_failure, note.error) == ("one", None, None)
    assert note.last_success
    due_chats(services, 3)
    drain_all(down(services, ArchiveMisconfigured("billing: it is disabled\nsince today")))
    seen = overview(services)
    [note] = seen.archive_health.workers
    assert note.last_success
    assert note.last_failure
    assert note.last_failure > note.last_success
    assert note.error == "billing: it is disabled\nsince today"
    assert seen.archive_health.unavailable_since
    assert (seen.waiting, seen.quarantined) == (3, 0)
    assert any("the archive is unavailable" in warning and "billing" in warning for warning in seen.warnings)
    assert [finding.ailment for finding in examine(services, messages=False)] == [Ailment.ARCHIVE_UNAVAILABLE]

    assert torpor("doctor", "--no-messages").code == 1
    shown = torpor("status")
    assert "warning: the archive is unavailable since" in shown.err
    assert "archive for one" in shown.out
    told = torpor("status", "--json").json
    assert told["waiting"] == 3
    assert told["archive_health"]["workers"][0]["error"] == note.error

    while services.sessions.due_counts() or overview(services).postponed:
        drain_all(services)
    assert overview(services).archive_health.unavailable_since is None
    assert list(examine(services, messages=False)) == []
    assert torpor("doctor", "--no-messages").code == 0


def test_one_event_tells_of_an_outage_and_one_of_its_end(
    services: Services, named: Callable[[str], None], torpor: Torpor
) -> None:
    due_chats(services, 4)
    for host in ("one", "two", "one"):
        named(host)
        for _ in range(3):
            drain_all(down(services, ArchiveUnavailable("the bucket is away")))
    [event] = events_of_the_archive(services)
    assert event == {"kind": "archive.unavailable", "error": "the bucket is away", "worker": "one"}
    printed = [json.loads(line) for line in torpor("events", "--json").out.splitlines()]
    assert [each["kind"] for each in printed] == ["archive.unavailable"]
    assert "archive.unavailable" in torpor("events").out

    named("two")
    drain_all(services)
    assert overview(services).archive_health.unavailable_since  # for the worker of host one
    named("one")
    due_chats(services, 1)
    drain_all(services)
    assert [each["kind"] for each in events_of_the_archive(services)] == ["archive.unavailable", "archive.available"]


def test_a_worker_that_has_gone_in_an_outage_does_not_prolong_it(
    services: Services, named: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    due_chats(services, 1)
    drain_all(down(services, ArchiveUnavailable("the bucket is away")))
    note = raw(services.sessions.client, "HGET", "torpor:archive", "wone")
    worked, failed, error = note.split(b":", 2)
    hour_ago = b"%d" % (int(failed) - 3_600_000)
    raw(services.sessions.client, "HSET", "torpor:archive", "wone", b":".join((worked, hour_ago, error)))
    day_ago = b"%d" % (int(failed) - 90_000_000)
    raw(services.sessions.client, "HSET", "torpor:archive", "wold", b":".join((day_ago, day_ago, error)))
    named("two")
    drain_all(services)
    health = overview(services).archive_health
    assert health.unavailable_since is None
    assert [each.worker for each in health.workers] == ["one", "two"]


def test_a_worker_that_archives_all_the_time_notes_it_once_in_a_while(
    services: Services, named: Callable[[str], None]
) -> None:
    watched, points = watch(services, concurrency=2)
    for _ in range(3):
        due_chats(services, 8)
        drain_all(watched)
    assert points.calls.count("note_archive") == 1


def test_a_session_for_which_nobody_asks_the_archive_tells_nothing_of_it(
    services: Services, named: Callable[[str], None]
) -> None:
    due_chats(services, 1)
    drain_all(down(services, ArchiveUnavailable("the bucket is away"), delay=600.0))
    services.sessions.append("empty", [], only_new=True)
    services.sessions.close("empty")
    assert drain_all(services) == {Outcome.ARCHIVED: 1}
    assert overview(services).archive_health.unavailable_since
    assert breaker.archive_is_down()
