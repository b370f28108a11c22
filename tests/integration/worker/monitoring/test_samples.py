"""Once a minute the figures of the deployment are sampled, by one of those who work, and a week of that is small."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import redis

from support.archiving import due_chats
from support.command import Torpor
from support.compose import deployment_of, image
from support.keyspace import raw
from support.servers import RedisServer, start_redis
from support.waiting import wait_until
from torpor.worker.deployment.memory import NodeMemory
from torpor.worker.deployment.services import Services
from torpor.worker.monitoring import samples
from torpor.worker.monitoring.figures import gather
from torpor.worker.ops.status import overview
from torpor.worker.sleep.drain import drain

pytestmark = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)

KEY = "{torpor:events}:samples"
WEEK = timedelta(days=7)
MINUTES = 7 * 24 * 60
# Figures of a large deployment that all differ from minute to minute.
LARGE = {
    "live": 4_000_000,
    "waiting": 100_000,
    "oldest_waiting_seconds": 7_000,
    "quarantined": 1_000,
    "archived": 3_000_000_000,
    "restored": 1_000_000_000,
    "failed": 10_000_000,
    "purged": 10_000_000,
    "workers": 200,
    "archive_available": 0,
    "memory_kib": 3 * 10**8,
    "memory_limit_kib": 4 * 10**8,
    "fullest_permille": 700,
}


def make_older(client: redis.Redis, seconds: float) -> None:
    """Let so many seconds pass since all samples, while workers may add another one."""
    moved = """
    local samples = redis.call('XRANGE', KEYS[1], '-', '+')
    redis.call('DEL', KEYS[1])
    for _, sample in ipairs(samples) do
      local ms = string.match(sample[1], '^%d+') - ARGV[1]
      redis.call('XADD', KEYS[1], string.format('%.0f-0', ms), unpack(sample[2]))
    end
    return #samples
    """
    assert raw(client, "EVAL", moved, 1, KEY, round(1000 * seconds))


def test_a_sample_has_the_figures_of_its_moment(client: redis.Redis, services: Services) -> None:
    due_chats(services, 3)
    wait_until(lambda: sum(services.sessions.due_counts().values()) == 3, 30, "they are due")
    assert samples.take(services)
    [sample] = services.sessions.samples(WEEK)
    assert [name for name in sample.figures if ":" not in name] == list(LARGE)
    assert (sample.figures["live"], sample.figures["waiting"], sample.figures["archived"]) == (3, 3, 0)
    assert sample.figures["archive_available"] == 1
    assert sample.figures["memory_kib"] > 100
    assert abs(gather(services).measures.now - sample.at) < timedelta(minutes=1)
    drain(services, list(services.sessions.due_counts()))
    make_older(client, 56)
    assert samples.take(services)
    [_, later] = services.sessions.samples(WEEK)
    assert (later.figures["live"], later.figures["waiting"], later.figures["archived"]) == (0, 0, 3)


def test_on_a_cluster_a_sample_has_the_memory_of_each_node_against_its_limit(services: Services) -> None:
    found = gather(services)
    assert {name.partition(":")[2] for name in samples.sample_of(found) if ":" in name} == {
        node.name for node in found.nodes if node.name
    }
    nodes = [NodeMemory(f"10.0.0.{number}:6379", [], number * 2**30, 4 * 2**30, "noeviction") for number in (2, 1)]
    sampled = samples.sample_of(replace(found, nodes=nodes))
    assert {name: value for name, value in sampled.items() if "memory" in name} == {
        "memory_kib": 3 * 2**20,
        "memory_limit_kib": 8 * 2**20,
        "memory_kib:10.0.0.1:6379": 2**20,
        "memory_limit_kib:10.0.0.1:6379": 4 * 2**20,
        "memory_kib:10.0.0.2:6379": 2 * 2**20,
        "memory_limit_kib:10.0.0.2:6379": 4 * 2**20,
    }
    assert sampled["fullest_permille"] == 500


def test_nobody_samples_again_within_a_minute(client: redis.Redis, services: Services) -> None:
    assert samples.take(services)
    make_older(client, 50)
    assert not samples.take(services)
    make_older(client, 5)
    assert samples.take(services)


def test_of_several_who_sample_at_once_one_adds_its_sample(services: Services) -> None:
    together = threading.Barrier(8)

    def add(_: int) -> bool:
        together.wait()
        return services.sessions.add_sample(LARGE, least=timedelta(seconds=55), keep=10)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(8))) == 1
    assert len(list(services.sessions.samples(WEEK))) == 1


def test_a_week_of_samples_of_a_large_deployment_takes_less_than_a_mebibyte(
    client: redis.Redis, services: Services
) -> None:
    for minute in range(MINUTES + 200):
        fields = [part for name, value in LARGE.items() for part in (name, value + minute % 100)]
        raw(client, "XADD", KEY, "MAXLEN", "~", MINUTES, f"{1_700_000_000_000 + 60_000 * minute}-0", *fields)
    assert MINUTES <= raw(client, "XLEN", KEY) < MINUTES + 100
    used = raw(client, "MEMORY", "USAGE", KEY, "SAMPLES", 0)
    assert used < 1024 * 1024


def test_the_oldest_samples_go_and_the_others_are_read_page_by_page(client: redis.Redis, services: Services) -> None:
    for number in range(2_500):
        assert services.sessions.add_sample({"live": number}, least=timedelta(0), keep=2_200)
    kept = [sample.figures["live"] for sample in services.sessions.samples(WEEK)]
    assert 2_200 <= len(kept) < 2_400
    assert kept == list(range(2_500 - len(kept), 2_500))
    assert list(services.sessions.samples(timedelta(0))) == []


def test_a_full_redis_is_sampled(archive_url: str, tmp_path: Path) -> None:
    server = start_redis(tmp_path)
    try:
        services = deployment_of(server, archive_url)
        client = services.sessions.client
        raw(client, "CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("more", "memory")
        assert samples.take(services)
        [sample] = services.sessions.samples(WEEK)
        assert sample.figures["fullest_permille"] > 1_000
    finally:
        server.stop()


def test_torpor_sweep_samples(services: Services, torpor: Torpor) -> None:
    for _ in range(2):
        assert torpor("sweep", "--once").code == 0
    assert len(list(services.sessions.samples(WEEK))) == 1


def test_after_redis_clock_was_set_back_the_samples_begin_anew(client: redis.Redis, services: Services) -> None:
    assert samples.take(services)
    make_older(client, -120)
    assert list(services.sessions.samples(WEEK)) == []
    assert not samples.take(services), "the clock will soon be there"
    make_older(client, -2 * 3600)
    assert samples.take(services)
    assert len(list(services.sessions.samples(WEEK))) == 1
    assert raw(client, "XLEN", KEY) == 1


@pytest.mark.parametrize("key", [KEY, "{torpor:events}:seen", "{torpor:events}:measures"])
def test_keys_that_are_not_torpors_stop_no_sweep(
    client: redis.Redis, services: Services, torpor: Torpor, key: str
) -> None:
    client.set(key, "another program's")
    due_chats(services, 3)
    wait_until(lambda: sum(services.sessions.due_counts().values()) == 3, 30, "they are due")
    swept = torpor("sweep", "--once", "--json")
    assert (swept.code, swept.json["sessions"]) == (0, {"archived": 3}), swept.err
    assert client.get(key) == b"another program's"


def test_a_damaged_note_of_the_last_sweep_stops_no_sweep_and_status_names_it(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    assert torpor("sweep", "--once").code == 0
    raw(client, "HSET", "{torpor:events}:seen", "sweep", "[1]")
    status = torpor("status")
    assert status.code == 0
    assert status.err.endswith("has fields that Torpor has not written: delete sweep\n")
    assert torpor("sweep", "--once").code == 0
    assert "delete sweep" not in torpor("status").err


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.single_node(reason="Celery has no Cluster as its broker, and the samples are the same")
def test_two_workers_without_beat_sample_once_a_minute(
    client: redis.Redis, services: Services, redis_server: RedisServer, tmp_path: Path
) -> None:
    deployment = deployment_of(redis_server, services.archive.url)
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()

    def noted_again() -> bool:
        """True if each worker was seen after the newest sample, when it would have sampled."""
        *_, newest = deployment.sessions.samples(WEEK)
        seen = overview(deployment).workers
        return len(seen) == 2 and all(each.last_seen > newest.at + timedelta(seconds=1) for each in seen)

    with (
        image("worker", deployment, folders[0], "-n", "one@%h"),
        image("worker", deployment, folders[1], "-n", "two@%h"),
    ):
        wait_until(lambda: len(overview(deployment).workers) == 2, 60, "both were seen")
        wait_until(noted_again, 60, "both were seen again")
        before = len(list(deployment.sessions.samples(WEEK)))  # a busy machine may take minutes for that
        make_older(client, 60)
        wait_until(lambda: len(list(deployment.sessions.samples(WEEK))) > before, 60, "the next minute is sampled")
        wait_until(noted_again, 60, "both were seen again")
        found = list(deployment.sessions.samples(WEEK))
        minute = timedelta(minutes=1)
        assert all(later.at - earlier.at >= minute for earlier, later in pairwise(found)), "none is sampled twice"
        assert found[-1].figures["workers"] == 2
