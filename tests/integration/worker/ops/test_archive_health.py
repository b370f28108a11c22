"""Workers note whether the archive works; status, doctor, the command and one event tell of it."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from support.archiving import due_chats
from support.command import Torpor
from support.compose import archived, deployment_of, image
from support.keyspace import raw
from support.observed import Points, watch
from support.servers import RedisServer
from support.storage_proxy import StorageProxy, answered
from support.waiting import wait_until
from torpor.history.protocol import Expiry
from torpor.worker.deployment import worker_name
from torpor.worker.deployment.events import follow
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveMisconfigured, ArchiveUnavailable
from torpor.worker.monitoring.presence import SweepingCommand
from torpor.worker.ops.doctor import examine
from torpor.worker.ops.finding import Ailment
from torpor.worker.ops.status import overview
from torpor.worker.ops.status_warnings import Code
from torpor.worker.sleep import breaker
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome

HEALTH = "{torpor:events}:archive"
AWAY = ArchiveUnavailable("the bucket is away")
SOON = Expiry(idle=timedelta(seconds=1))
BEGUN, ENDED = "archive.unavailable", "archive.available"


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let this process be another worker, whose breaker is closed."""

    def be(name: str) -> None:
        monkeypatch.setattr(worker_name, "_name", name)
        monkeypatch.setattr(breaker, "_open", threading.Event())

    be("one")
    return be


def drain_all(services: Services) -> dict[Outcome, int]:
    wait_until(services.sessions.due_counts)
    return dict(drain(services, list(services.sessions.due_counts())))


def drain_to_the_end(services: Services) -> None:
    while overview(services).waiting:
        drain_all(services)


def failing(services: Services, error: ArchiveUnavailable, delay: float = 0.01) -> tuple[Services, Points]:
    """The services in an outage: each upload ends in the error."""
    watched, points = watch(services, concurrency=1, retry_delay_seconds=delay)

    def fail() -> None:
        points.at("before put segment", fail)
        raise error

    points.at("before put segment", fail)
    return watched, points


def down(services: Services, error: ArchiveUnavailable = AWAY, delay: float = 0.01) -> Services:
    return failing(services, error, delay)[0]


def events_of_the_archive(services: Services) -> list[dict[str, Any]]:
    found = [fields for _, fields in follow(services, count=1_000, forever=False)]
    return [fields for fields in found if fields["kind"].startswith("archive.")]


def kinds(services: Services) -> list[str]:
    return [fields["kind"] for fields in events_of_the_archive(services)]


def unavailable_since(services: Services) -> object:
    return overview(services).archive_health.unavailable_since


def make_older(services: Services, worker: str, hours: float) -> None:
    """Let a worker's notes be so much older."""
    for field in (f"worked:{worker}", f"failed:{worker}"):
        if noted := raw(services.sessions.client, "HGET", HEALTH, field):
            raw(services.sessions.client, "HSET", HEALTH, field, int(noted) - round(hours * 3_600_000))


def test_status_tells_when_the_archive_has_worked_and_failed_and_why(
    services: Services, named: Callable[[str], None], torpor: Torpor
) -> None:
    SweepingCommand(services, None).note()  # so that somebody works
    assert overview(services).archive_health.workers == []
    assert torpor("status").out.startswith("archive health        no worker has used the archive")
    due_chats(services, 1)
    drain_all(services)
    [note] = overview(services).archive_health.workers
    assert (note.worker, note.is_failing, note.last_failure, note.error) == ("one", False, None, None)
    assert note.last_success
    assert torpor("status").out.startswith("archive health        available\n")
    due_chats(services, 3)
    drain_all(down(services, ArchiveMisconfigured("billing: it is disabled\nsince today")))
    seen = overview(services)
    [note] = seen.archive_health.workers
    assert note.is_failing
    assert note.last_success
    assert note.last_failure
    assert note.last_failure > note.last_success
    assert note.error == "billing: it is disabled\nsince today"
    assert seen.archive_health.unavailable_since
    assert (seen.waiting, seen.quarantined) == (3, 0)
    [warning] = seen.warnings
    assert warning.code is Code.ARCHIVE_UNAVAILABLE
    assert "the archive is unavailable" in warning.text
    assert "billing" in warning.text
    assert [finding.ailment for finding in examine(services, messages=False)] == [
        Ailment.ARCHIVE_UNAVAILABLE,
        Ailment.UNEXAMINED,
    ]

    assert torpor("doctor", "--no-messages").code == 1
    shown = torpor("status")
    assert shown.out.startswith("archive health        unavailable for ")
    assert shown.err.startswith("warning: the archive is unavailable since")
    assert len(shown.err.splitlines()) == 1
    assert "archive for one" in shown.out
    told = torpor("status", "--json").json
    assert told["waiting"] == 3
    assert told["archive_health"]["unavailable_since"]
    assert told["archive_health"]["workers"][0]["error"] == note.error

    drain_to_the_end(services)
    assert unavailable_since(services) is None
    [note] = overview(services).archive_health.workers
    assert not note.is_failing
    assert note.error == "billing: it is disabled\nsince today"  # when and why it failed last
    assert list(examine(services, messages=False)) == []
    assert torpor("doctor", "--no-messages").code == 0
    assert torpor("status").err == ""


def test_one_event_tells_of_an_outage_and_one_of_its_end(
    services: Services, named: Callable[[str], None], torpor: Torpor
) -> None:
    due_chats(services, 4)
    for worker in ("one", "two", "one"):
        named(worker)
        for _ in range(3):
            drain_all(down(services))
    [event] = events_of_the_archive(services)
    assert event == {"kind": BEGUN, "error": "the bucket is away", "worker": "one"}
    printed = [json.loads(line) for line in torpor("events", "--json").out.splitlines()]
    assert [each["kind"] for each in printed] == [BEGUN]
    assert BEGUN in torpor("events").out

    named("two")
    drain_to_the_end(services)
    assert unavailable_since(services)  # for worker one
    assert kinds(services) == [BEGUN]
    named("one")
    due_chats(services, 1)
    drain_all(services)
    [_, event] = events_of_the_archive(services)
    assert event == {"kind": ENDED, "worker": "one"}


def test_sessions_that_end_well_in_a_drain_in_which_another_has_failed_do_not_end_the_outage(
    services: Services, named: Callable[[str], None]
) -> None:
    watched, points = watch(services, concurrency=4, retry_delay_seconds=600.0)
    due_chats(services, 8)

    def fail() -> None:
        raise AWAY

    points.at("before put segment", fail)  # one upload fails; three are in work meanwhile
    outcomes = drain_all(watched)
    assert outcomes[Outcome.POSTPONED] >= 1
    assert kinds(services) == [BEGUN]


def test_the_event_of_an_outage_is_recorded_by_the_script_that_notes_it(
    services: Services, named: Callable[[str], None]
) -> None:
    """A worker that dies after the note has told of the outage; no other one would."""
    watched, points = failing(services, AWAY)

    def die() -> None:
        raise KeyboardInterrupt

    due_chats(services, 2)
    points.at("after add_events", die)
    with pytest.raises(KeyboardInterrupt):
        drain_all(watched)
    assert kinds(services) == [BEGUN]
    named("two")
    drain_all(down(services))
    assert kinds(services) == [BEGUN]


@pytest.mark.parametrize("lost", ["before", "after"])
def test_a_note_that_is_lost_is_made_up_for_by_the_next(
    services: Services, named: Callable[[str], None], lost: str
) -> None:
    watched, points = failing(services, AWAY)

    def cut() -> None:
        raise ArchiveUnavailable("as an error of Redis does")  # any TorporError

    due_chats(services, 2)
    points.at(f"{lost} add_events", cut)
    drain_all(watched)
    drain_all(watched)
    assert kinds(services) == [BEGUN]
    drain_to_the_end(services)
    assert kinds(services) == [BEGUN, ENDED]


def test_a_worker_that_has_gone_in_an_outage_does_not_prolong_it(
    services: Services, named: Callable[[str], None]
) -> None:
    due_chats(services, 1)
    drain_all(down(services))
    named("old")
    due_chats(services, 1)
    drain_all(down(services))
    make_older(services, "one", 1)
    make_older(services, "old", 25)
    named("two")
    drain_to_the_end(services)
    health = overview(services).archive_health
    assert health.unavailable_since is None
    assert [each.worker for each in health.workers] == ["one", "two"]
    assert kinds(services) == [BEGUN, ENDED]


def test_the_workers_of_yesterday_are_forgotten_when_a_new_one_comes(
    services: Services, named: Callable[[str], None]
) -> None:
    """Pods have new names each day, so the notes would grow for ever."""
    for worker in ("one", "two"):
        named(worker)
        due_chats(services, 1)
        drain_all(services)
        make_older(services, worker, 25)
    assert [each.worker for each in overview(services).archive_health.workers] == ["two"]
    assert raw(services.sessions.client, "HLEN", HEALTH) == 1


def test_an_outage_after_which_nothing_is_due_ends_when_a_worker_looks_again(
    services: Services, named: Callable[[str], None]
) -> None:
    due_chats(services, 1)
    drain_all(down(services, delay=600.0))
    watched, points = watch(services)

    def fail() -> None:
        raise AWAY

    points.at("before put marker", fail)
    breaker.look_again(watched)
    assert points.calls == ["archive_health", "put marker", "add_events"]
    assert kinds(services) == [BEGUN]
    breaker.look_again(services)
    assert kinds(services) == [BEGUN, ENDED]
    watched, points = watch(services)
    breaker.look_again(watched)
    assert points.calls == ["archive_health"]


def test_a_note_costs_no_call_of_its_own_while_the_archive_works(
    services: Services, named: Callable[[str], None]
) -> None:
    watched, points = watch(services, concurrency=1)
    due_chats(services, 1)
    drain_all(watched)
    assert points.calls.count("add_events") == 1
    assert "archive_health" not in points.calls
    assert overview(services).archive_health.workers


def test_a_session_for_which_nobody_asks_the_archive_tells_nothing_of_it(
    services: Services, named: Callable[[str], None]
) -> None:
    due_chats(services, 1)
    drain_all(down(services, delay=600.0))
    services.sessions.append("empty", [], only_new=True)
    services.sessions.close("empty")
    assert drain_all(services) == {Outcome.ARCHIVED: 1}
    assert unavailable_since(services)
    assert breaker.archive_is_down()


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.single_node(reason="Celery has no Cluster as its broker, and the processes are the same")
@pytest.mark.parametrize("archive_url", ["gcs"], indirect=True)
def test_workers_tell_of_an_outage_that_began_before_them_and_of_its_end(
    services: Services, redis_server: RedisServer, proxy: StorageProxy, tmp_path: Path
) -> None:
    deployment = deployment_of(redis_server, services.archive.url, retry_delay_seconds=0.5)
    deployment.sessions.append("s", [b"{}"], expiry=SOON)
    proxy.fail(answered(403))
    with image("beat", deployment, tmp_path):
        with image("worker", deployment, tmp_path, may_die=True) as process:
            wait_until(lambda: unavailable_since(deployment), 60, "the outage is told of")
            os.kill(process.pid, signal.SIGKILL)
        proxy.heal()
        with image("worker", deployment, tmp_path):
            wait_until(lambda: archived(deployment) == 1, 60, "the session sleeps")
            wait_until(lambda: unavailable_since(deployment) is None, 60, "the end is told of")
            proxy.fail(answered(403))
            deployment.sessions.append("t", [b"{}"], expiry=SOON)
            wait_until(lambda: unavailable_since(deployment), 60, "the next outage is told of")
            deployment.sessions.clear("t")  # from now on nothing is due
            proxy.heal()
            wait_until(lambda: unavailable_since(deployment) is None, 60, "the end is told of, though nothing is due")
    assert kinds(deployment) == [BEGUN, ENDED, BEGUN, ENDED]
    [health] = overview(deployment).archive_health.workers
    assert health.worker.startswith("celery@")
