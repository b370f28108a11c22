"""Status tells who works, and warns in words, with a code, when nobody does: with real workers, beat and sweeps."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Sequence
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
import redis

from support.archiving import due_chats
from support.command import Torpor
from support.compose import archived, deployment_of, image
from support.keyspace import raw
from support.servers import RedisServer
from support.storage_proxy import StorageProxy, stalled_before
from support.waiting import wait_until
from torpor.history.protocol import Expiry
from torpor.worker.deployment import memory
from torpor.worker.deployment.services import Services
from torpor.worker.monitoring.exposition import Exposition
from torpor.worker.monitoring.presence import SweepingCommand
from torpor.worker.ops.status import overview
from torpor.worker.ops.status_warnings import Code, StatusWarning

SEEN = "{torpor:events}:seen"
SOON = Expiry(idle=timedelta(seconds=1))


def later(client: redis.Redis, minutes: float, *left: str) -> None:
    """Let so many minutes pass since all that was noted, except for the moments that are `left`."""
    ms = round(minutes * 60_000)
    for name, value in raw(client, "HGETALL", SEEN).items():
        if name.startswith(b"seen:") and name.decode() not in left:
            raw(client, "HSET", SEEN, name, int(value) - ms)
        elif name.startswith(b"worker:"):
            said = json.loads(value)
            said["since"] = (datetime.fromisoformat(said["since"]) - timedelta(minutes=minutes)).isoformat()
            raw(client, "HSET", SEEN, name, json.dumps(said))


def warned(services: Services) -> Sequence[StatusWarning]:
    return overview(services).warnings


def codes(services: Services) -> list[Code]:
    return [warning.code for warning in warned(services)]


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.single_node(reason="Celery has no Cluster as its broker, and the notes are the same")
@pytest.mark.parametrize("archive_url", ["gcs"], indirect=True)
def test_status_shows_each_worker_with_its_host_version_start_and_work(
    services: Services, redis_server: RedisServer, proxy: StorageProxy, torpor: Torpor, tmp_path: Path
) -> None:
    deployment = deployment_of(redis_server, services.archive.url)
    assert codes(deployment) == [Code.NO_WORKER]
    began = overview(deployment).now
    with image("worker", deployment, tmp_path), image("beat", deployment, tmp_path):
        wait_until(lambda: overview(deployment).workers and overview(deployment).sweep, 60, "a worker sweeps")
        wait_until(lambda: overview(deployment).beat, 60, "beat was seen")
        [worker] = overview(deployment).workers
        assert (worker.host, worker.version) == (socket.gethostname(), version("torpor"))
        assert worker.name.startswith("celery@")
        assert worker.since
        assert began - timedelta(seconds=5) < worker.since < worker.last_seen
        assert warned(deployment) == []
        sweep = overview(deployment).sweep
        assert sweep
        assert (sweep.host, sweep.by_command, sweep.every) == (socket.gethostname(), False, None)

        proxy.fail(stalled_before, "upload")
        deployment.sessions.append("s", [b"{}"], expiry=SOON)
        wait_until(lambda: overview(deployment).workers[0].in_work.get("drain"), 60, "it has a drain in work")
        shown = torpor("status")
        assert (shown.code, shown.err) == (0, "")
        header, row = shown.out.splitlines()[-2:]
        assert header.split() == ["worker", "host", "version", "up", "for", "seen", "in", "work"]
        assert [worker.name, worker.host, worker.version] == row.split()[:3]
        assert "1 drain" in row
        proxy.heal()
        wait_until(lambda: archived(deployment) == 1, 60, "the session sleeps")
        wait_until(lambda: "drain" not in overview(deployment).workers[0].in_work, 60, "the drain has ended")
        assert overview(deployment).workers[0].since == worker.since


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.single_node(reason="Celery has no Cluster as its broker, and the notes are the same")
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_status_warns_in_its_first_line_when_the_last_worker_was_killed(
    client: redis.Redis, services: Services, redis_server: RedisServer, torpor: Torpor, tmp_path: Path
) -> None:
    deployment = deployment_of(redis_server, services.archive.url)
    with image("beat", deployment, tmp_path), image("worker", deployment, tmp_path, may_die=True) as process:
        wait_until(lambda: overview(deployment).workers, 60, "a worker was seen")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        due_chats(deployment, 2)
        assert codes(deployment) == []  # it may be that it is only slow
        [worker] = overview(deployment).workers
        later(client, 2)
        wait_until(lambda: overview(deployment).due == 2, 30, "they are due")
        [warning] = warned(deployment)
        assert warning.code is Code.NO_WORKER
        assert warning.text.startswith(f"nobody works: the last worker, {worker.name}, was seen 2m")
        assert warning.text.endswith("; 2 sessions wait to fall asleep")
        told = torpor("status")
        assert (told.code, told.err.startswith("warning: nobody works: ")) == (0, True)
        assert [each["code"] for each in torpor("status", "--json").json["warnings"]] == ["no_worker"]


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.single_node(reason="Celery has no Cluster as its broker, and the notes are the same")
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_status_warns_when_beat_has_ended_but_not_while_workers_start(
    client: redis.Redis, services: Services, redis_server: RedisServer, tmp_path: Path
) -> None:
    deployment = deployment_of(redis_server, services.archive.url)
    with image("worker", deployment, tmp_path):
        wait_until(lambda: overview(deployment).workers, 60, "a worker was seen")
        assert codes(deployment) == []
        with image("beat", deployment, tmp_path):
            wait_until(lambda: overview(deployment).beat and overview(deployment).sweep, 60, "beat and a sweep")
    [worker] = overview(deployment).workers
    later(client, 4, f"seen:worker:{worker.name}")
    assert codes(deployment) == []
    later(client, 3, f"seen:worker:{worker.name}")
    [warning] = warned(deployment)
    assert warning.code is Code.BEAT_SILENT
    assert warning.text.startswith("beat is silent: it last sent a task 7m")
    assert ", and nobody has swept for 7m" in warning.text


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.single_node(reason="Celery has no Cluster as its broker, and the notes are the same")
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_status_warns_when_the_sweeps_of_beat_reach_no_worker(
    client: redis.Redis, services: Services, redis_server: RedisServer, tmp_path: Path
) -> None:
    deployment = deployment_of(redis_server, services.archive.url)
    with image("worker", deployment, tmp_path, "--queues", "another"), image("beat", deployment, tmp_path):
        wait_until(lambda: overview(deployment).workers and overview(deployment).beat, 60, "both were seen")
        assert overview(deployment).sweep is None
    [worker] = overview(deployment).workers
    later(client, 6, f"seen:worker:{worker.name}", "seen:beat")
    [warning] = warned(deployment)
    assert warning.code is Code.SWEEPS_MISSING
    assert warning.text.startswith("nobody has swept for 6m")


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_deployment_that_sweeps_on_a_schedule_needs_no_worker_and_no_beat(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    assert codes(services) == [Code.NO_WORKER]
    assert torpor("sweep", "--once").code == 0
    later(client, 60)  # the schedule is not known before the second sweep
    assert codes(services) == []
    assert torpor("sweep", "--once").code == 0
    sweep = overview(services).sweep
    assert sweep
    assert sweep.by_command
    assert sweep.every
    assert timedelta(minutes=60) <= sweep.every < timedelta(minutes=61)
    assert "torpor sweep on" in torpor("status").out
    later(client, 150)
    assert torpor("status").err == ""
    later(client, 40)
    [warning] = warned(services)
    assert warning.code is Code.NO_WORKER
    host = socket.gethostname()
    assert warning.text == f"nobody works: the last sweep of torpor sweep on {host}, which ran every 1h, was 3h 10m ago"


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_sweep_by_hand_does_not_make_the_schedule_look_late(client: redis.Redis, services: Services) -> None:
    for minutes in (60, 60, 0):
        SweepingCommand(services, None).note()
        later(client, minutes)
    SweepingCommand(services, None).note()
    later(client, 60)
    assert codes(services) == []


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_schedule_is_not_taken_for_a_shorter_one_because_its_sweeps_were_long(
    client: redis.Redis, services: Services
) -> None:
    for minutes in (50, 50, 50, 0):  # of each hour it sweeps so long
        command = SweepingCommand(services, None)
        command.note()
        later(client, minutes)
        command.note()
        later(client, 60 - minutes)
    sweep = overview(services).sweep
    assert sweep
    assert sweep.every
    assert timedelta(minutes=60) <= sweep.every < timedelta(minutes=61)
    later(client, 119)
    assert codes(services) == []
    later(client, 2)
    assert codes(services) == [Code.NO_WORKER]


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("worker:celery@a", "not JSON"),
        ("worker:celery@a", "[]"),
        ("worker:celery@a", '{"since": "2026-01-01T00:00:00"}'),
        ("worker:celery@a", '{"since": 5.5e300}'),
        ("worker:celery@a", '{"in_work": {"drain": "many"}}'),
        ("sweep", '{"every": "soon"}'),
        ("seen:beat", "yesterday"),
        ("seen:beat", "9" * 40),
        ("purges_open", "some"),
    ],
)
def test_a_note_that_is_not_torpors_is_left_out_and_named(
    client: redis.Redis, services: Services, torpor: Torpor, field: str, value: str
) -> None:
    for who in ("worker:celery@a", "worker:celery@b", "sweep", "beat"):
        services.sessions.note_seen(who, {who: "{}"}, timedelta(days=1))
    raw(client, "HSET", SEEN, field, value)
    seen = overview(services)
    assert {worker.name for worker in seen.workers} == {"celery@a", "celery@b"}
    [warning] = seen.warnings
    assert warning.code is Code.NOTES_UNREADABLE
    assert warning.text.endswith(f"delete {field}")
    for command in ("status", "top"):
        assert torpor(command).code == 0
    assert b"torpor_workers 2.0" in Exposition(lambda: services).text()


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_sweep_by_hand_does_not_stand_for_workers_that_have_gone(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    said = json.dumps({"since": "2026-01-01T00:00:00+00:00"})
    services.sessions.note_seen("worker:celery@a", {"worker:celery@a": said}, timedelta(days=1))
    later(client, 60)
    assert torpor("sweep", "--once").code == 0
    [warning] = warned(services)
    assert warning.text == "nobody works: the last worker, celery@a, was seen 1h ago"


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_command_that_sweeps_again_and_again_is_missed_after_three_of_its_intervals(
    client: redis.Redis, services: Services
) -> None:
    SweepingCommand(services, timedelta(minutes=4)).note()
    later(client, 11)
    assert codes(services) == []
    later(client, 2)
    assert codes(services) == [Code.NO_WORKER]


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_after_redis_clock_was_set_back_nobody_counts_as_seen_before_that(
    client: redis.Redis, services: Services
) -> None:
    for who, said in (("worker:celery@gone", {"worker:celery@gone": "{}"}), ("beat", {}), ("sweep", {})):
        services.sessions.note_seen(who, said, timedelta(days=1))
    assert overview(services).workers
    raw(client, "HSET", SEEN, "worker:celery@gone", json.dumps({"since": "2026-01-01T00:00:00+00:00"}))
    later(client, -2 * 24 * 60)
    seen = overview(services)
    assert (seen.workers, seen.beat, seen.sweep) == ([], None, None)
    assert codes(services) == [Code.NO_WORKER]
    services.sessions.note_seen("worker:celery@new", {}, timedelta(days=1))
    assert sorted(raw(client, "HKEYS", SEEN)) == [b"seen:worker:celery@new"]


def test_the_fields_for_programs_are_these(services: Services, torpor: Torpor) -> None:
    said = json.dumps({"host": "a", "version": "1", "since": "2026-01-01T00:00:00+00:00", "in_work": {"drain": 2}})
    services.sessions.note_seen("worker:celery@a", {"worker:celery@a": said}, timedelta(days=1))
    SweepingCommand(services, timedelta(seconds=15)).note()
    told = torpor("status", "--json").json
    assert set(told) == {
        "now", "live", "kinds", "due", "in_work", "postponed", "waiting", "quarantined", "archived", "restored",
        "tombstones", "oldest_overdue_seconds", "memory_bytes", "memory_limit_bytes", "shards", "archive", "deployment",
        "asleep", "archive_health", "workers", "beat", "sweep", "purges", "oldest_purge_seconds",
        "jobs", "oldest_job_seconds", "warnings",
    }  # fmt: skip
    [worker] = told["workers"]
    assert worker.pop("last_seen")
    assert worker == {
        "name": "celery@a",
        "host": "a",
        "version": "1",
        "since": "2026-01-01T00:00:00.000+00:00",
        "in_work": {"drain": 2},
        "processes": 1,
    }
    assert told["beat"] is None
    assert told["sweep"].pop("at")
    assert told["sweep"].pop("began")
    assert told["sweep"] == {"host": socket.gethostname(), "by_command": True, "every": 15.0}
    assert told["warnings"] == []
    nodes = len(memory.nodes(services))
    text = f"{nodes} of {nodes} nodes use more than 85% of their memory: sessions are archived early"
    full = torpor("status", "--json", MEMORY_LIMIT="1000").json
    assert full["warnings"] == [{"code": "memory_high", "text": text}]
