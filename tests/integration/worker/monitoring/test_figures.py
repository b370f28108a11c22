"""The figures of a deployment, and what they cost Redis."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
import redis

from support.archiving import due_chats
from support.keyspace import raw
from support.observed import watch
from support.stored_sessions import snapshot_of
from torpor.history.protocol import Expiry, Lease
from torpor.worker import measures
from torpor.worker.deployment.events import record_measures
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveUnavailable
from torpor.worker.monitoring.exposition import Exposition
from torpor.worker.monitoring.figures import gather
from torpor.worker.monitoring.presence import note_purges_and_holds, note_sweep
from torpor.worker.sleep.drain import drain

SHARDS = 256


def fill(client: redis.Redis, sessions: int) -> None:
    """Index entries of sessions that are due in the next hours, some of them postponed."""
    now = round(time.time() * 1000)
    for number in range(sessions):
        score = f"{now + 30_000 + number}{'.25' if number % 3 == 0 else ''}"
        raw(client, "ZADD", f"{{torpor:{number % SHARDS}}}:due", score, f"s{number}")


def cost(client: redis.Redis, services: Services) -> tuple[int, int]:
    """How many commands a scrape has Redis carry out, those of scripts included, and how many bytes it sends."""
    exposition = Exposition(lambda: services)
    exposition.text()

    def counted() -> tuple[int, int]:
        calls = sum(each["calls"] for each in client.info("commandstats").values())
        return calls, int(client.info("stats")["total_net_output_bytes"])

    before = counted()
    exposition.text()
    after = counted()
    return after[0] - before[0], after[1] - before[1]


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
@pytest.mark.single_node(reason="the statistics of one node are compared")
def test_a_scrape_costs_the_same_with_few_sessions_and_with_many(client: redis.Redis, services: Services) -> None:
    services.sessions.append("first", [b"{}"])
    fill(client, 3_000)
    few = cost(client, services)
    fill(client, 30_000)
    many = cost(client, services)
    assert many[0] <= few[0] + 10
    assert many[1] <= few[1] * 1.1


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_shard_that_cannot_be_counted_is_left_out_with_a_warning(
    client: redis.Redis, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(40):
        services.sessions.append(f"s{number}", [b"{}"])
    keyspace = services.sessions.deployment.keyspace
    damaged = keyspace.of(b"s0")
    raw(client, "RENAME", damaged.due, damaged.due + b"-before")
    raw(client, "SET", damaged.due, "another program's")
    here = sum(keyspace.of(f"s{number}".encode()) == damaged for number in range(40))
    assert gather(services).states["live"] == 40 - here
    assert f"1 of {SHARDS} shards did not answer" in caplog.text
    raw(client, "DEL", damaged.due, damaged.due + b"-before")


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_the_oldest_waiting_session_counts_from_when_it_first_became_due(services: Services) -> None:
    assert gather(services).oldest_waiting_seconds == 0
    watched, points = watch(services, concurrency=1, retry_delay_seconds=600.0)

    def fail() -> None:
        raise ArchiveUnavailable("the bucket is away")

    points.at("before put segment", fail)
    due_chats(services, 1)
    drain(watched, list(services.sessions.due_counts()))
    postponed = gather(services)
    assert postponed.states["postponed"] == 1
    assert postponed.counts["postponed"] == 1
    assert postponed.counts["claims"] == 1
    later = gather(services)
    assert later.waiting_since == postponed.waiting_since
    assert later.oldest_waiting_seconds >= postponed.oldest_waiting_seconds > 0


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_what_is_noted_is_shown(services: Services) -> None:
    services.sessions.hold("s", "a test")
    services.sessions.hold_owner("ann", "a test")
    note_sweep(services)
    note_purges_and_holds(services, [])
    figures = gather(services)
    seen = figures.seen
    assert seen.sweep
    assert timedelta() <= seen.now - seen.sweep.at < timedelta(minutes=1)
    assert seen.beat is None
    assert (figures.seen.noted("holds:session"), figures.seen.noted("holds:owner")) == (1, 1)
    assert seen.workers == []
    services.sessions.note_seen("worker:celery@a", {"worker:celery@a": '{"version": "1"}'}, timedelta(days=1))
    [worker] = gather(services).seen.at_work
    assert (worker.name, worker.host, worker.version, worker.since, worker.in_work) == ("celery@a", "a", "1", None, {})


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_who_was_not_seen_for_long_is_forgotten_when_somebody_new_comes(
    client: redis.Redis, services: Services
) -> None:
    for worker in ("old", "new"):
        services.sessions.note_seen(f"worker:{worker}", {f"worker:{worker}": "{}"}, timedelta(days=1))
        if worker == "old":
            raw(client, "HSET", "{torpor:events}:seen", "seen:worker:old", 1)
    assert set(services.sessions.measures().seen) == {"seen:worker:new", "worker:new"}


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_measures_of_several_processes_are_added_up(services: Services) -> None:
    measures.take()
    for value in (0.004, 0.3, 1000.0):
        measures.observe("wake", value)
        record_measures(services)
    measures.count("requests:put:ok")
    measures.count("requests:put:ok")
    record_measures(services)
    record_measures(services)
    text = Exposition(lambda: services).text().decode()
    assert 'torpor_wake_duration_seconds_bucket{le="0.005"} 1.0' in text
    assert 'torpor_wake_duration_seconds_bucket{le="0.25"} 1.0' in text
    assert 'torpor_wake_duration_seconds_bucket{le="0.5"} 2.0' in text
    assert 'torpor_wake_duration_seconds_bucket{le="+Inf"} 3.0' in text
    assert "torpor_wake_duration_seconds_sum 1000.304" in text
    assert 'torpor_archive_requests_total{outcome="ok",verb="put"} 2.0' in text


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
@pytest.mark.single_node(reason="the memory of one node is looked at")
def test_a_commit_counts_messages_and_bytes_once_however_often_it_is_sent(
    client: redis.Redis, services: Services
) -> None:
    sessions = services.sessions
    sessions.append("s", [b'{"content": "%b"}' % (b"x" * 600_000)] * 4, expiry=Expiry(idle=timedelta(seconds=1)))
    lease = sessions.claim_one("s", timedelta(minutes=5))
    assert isinstance(lease, Lease)
    snapshot = snapshot_of(sessions, lease)
    keys = raw(client, "KEYS", "*:[msi]:s")
    freed = sum(raw(client, "MEMORY", "USAGE", key) for key in keys)
    before = client.info("memory")["used_memory"]
    for _ in range(2):
        sessions.commits([(lease, snapshot)], [100])
    counts = gather(services).counts
    assert (counts["archived"], counts["archived_messages"], counts["archived_bytes"]) == (1, 4, 100)
    assert (len(keys), counts["freed_bytes"]) == (2, freed)
    really = before - client.info("memory")["used_memory"]
    assert abs(really - freed) < 0.25 * freed, "clients' buffers change meanwhile, too"
