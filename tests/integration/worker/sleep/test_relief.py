"""Memory relief: when Redis fills up, the sessions nearest to their due moments are archived, and no others."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import redis

from support.compose import archived, deployment_of, image
from support.keyspace import raw
from support.servers import RedisServer, start_redis
from support.waiting import wait_until
from torpor.history.protocol import Expiry, RedisMemoryFull, RestoreTicket
from torpor.worker.archive import ownership
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment import memory
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveConflict, ArchiveTaken, ArchiveUnavailable
from torpor.worker.monitoring.presence import SweepingCommand
from torpor.worker.ops import status
from torpor.worker.ops.status_warnings import Code
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.opening import OpenDeployment
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.sleep.relief import relieve

pytestmark = pytest.mark.single_node(reason="it sets the memory limit of a server of its own")

LARGE = b'{"content":"%b"}' % base64.b64encode(Random(1).randbytes(15_000))  # it gets little smaller


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    started = start_redis(tmp_path, "--maxmemory-policy", "noeviction")
    yield started
    started.stop()


def services_at(server: RedisServer, folder: Path, **settings: Any) -> Services:
    given = {"sweep_interval_seconds": 3600, "idle_timeout_seconds": 3600, "batch": 4} | settings
    return deployment_of(server, (folder / "archive").as_uri(), **given)


def fill(services: Services, count: int) -> list[str]:
    """Sessions of 20 kB, the first of which is due first; all of them in an hour and more."""
    ids = [f"s{number}" for number in range(count)]
    for number, session_id in enumerate(ids):
        services.sessions.append(session_id, [LARGE], expiry=Expiry.of_seconds(3600 + 60 * number))
    return ids


def limit_to(services: Services, share: float) -> None:
    """Set the memory limit so that this share of it is used."""
    client: Any = services.sessions.client
    raw(client, "CONFIG", "SET", "maxmemory", int(client.info("memory")["used_memory"] / share))


def left(services: Services, ids: list[str]) -> list[str]:
    return [session_id for session_id in ids if services.sessions.info(session_id)]


def test_above_the_high_water_mark_the_nearest_sessions_are_archived_until_below_the_low_one(
    server: RedisServer, tmp_path: Path
) -> None:
    services = services_at(server, tmp_path)
    ids = fill(services, 200)
    limit_to(services, 0.9)
    done = relieve(services)[Outcome.ARCHIVED]
    assert 20 < done < 150
    assert left(services, ids) == ids[done:], "in the order in which they would have been due"
    [node] = memory.nodes(services)
    assert not node.above(services.settings.memory_low)
    assert relieve(services) == {}


def test_below_the_high_water_mark_nothing_is_done(server: RedisServer, tmp_path: Path) -> None:
    services = services_at(server, tmp_path)
    ids = fill(services, 20)
    limit_to(services, 0.8)
    assert relieve(services) == {}
    assert left(services, ids) == ids


def test_a_limit_that_the_server_does_not_show_is_taken_from_the_settings(server: RedisServer, tmp_path: Path) -> None:
    fill(services_at(server, tmp_path), 100)
    assert relieve(services_at(server, tmp_path)) == {}
    [node] = memory.nodes(services_at(server, tmp_path))
    limited = services_at(server, tmp_path, memory_limit=int(node.used / 0.9))
    assert relieve(limited)[Outcome.ARCHIVED] > 10


def test_sessions_that_others_have_in_work_are_left_to_them(server: RedisServer, tmp_path: Path) -> None:
    services = services_at(server, tmp_path)
    ids = fill(services, 40)
    taken = services.sessions.claim_nearest(range(256), 5, services.settings.lease)
    assert [lease.session_id for lease in taken] == ids[:5]
    again = services.sessions.claim_nearest(range(256), 5, services.settings.lease)
    assert [lease.session_id for lease in again] == ids[5:10]


def test_what_is_restored_erased_or_waits_after_a_failure_is_left_alone(server: RedisServer, tmp_path: Path) -> None:
    services = services_at(server, tmp_path)
    ids = fill(services, 8)
    restoring, failed, cleared, *others = ids
    store = services.sessions
    for session_id in (restoring, failed, cleared):
        assert archive_session(services, session_id).outcome is Outcome.ARCHIVED
        store.append(session_id, [LARGE])
    ticket = store.begin_restore(restoring, services.settings.lease)
    assert isinstance(ticket, RestoreTicket)
    [lease] = store.claim_nearest([store.deployment.keyspace.shard_of(failed.encode())], 1, services.settings.lease)
    assert lease.session_id == failed
    store.begin_attempts([lease])
    assert store.release(lease, services.settings.lease, counted=True, error="not now")
    store.clear(cleared)
    [erasing] = store.claim(range(256), 10, services.settings.lease)
    assert store.release(erasing, services.settings.lease, counted=False, error="again later")
    taken = store.claim_nearest(range(256), 10, services.settings.lease)
    assert sorted(each.session_id for each in taken) == sorted(others)
    assert store.stage(ticket, 0, [LARGE], services.settings.lease), "the restore goes on"


def test_a_batch_that_gets_nowhere_ends_the_relief_and_leads_nobody_to_quarantine(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = services_at(server, tmp_path)
    fill(services, 40)
    limit_to(services, 0.9)

    put = services.archive.put

    def conflict(name: str, *rest: Any, **options: Any) -> StoredObject:
        if name.endswith(".jsonl.gz"):  # the archive takes everything else
            raise ArchiveConflict("exists with other content")
        return put(name, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(services.archive, "put", conflict)
        for _ in range(5):
            assert set(relieve(services)) == {Outcome.FAILED}
    infos = [services.sessions.info(session_id) for session_id in services.sessions.sessions()]
    assert sorted(info.attempts for info in infos if info) == [0] * 20 + [1] * 20


def test_the_archive_of_another_deployment_is_not_written_to(server: RedisServer, tmp_path: Path) -> None:
    services = services_at(server, tmp_path)
    ownership.take(services.archive, services.settings.namespace)
    other = services.settings.model_copy(update={"namespace": "other"})
    with pytest.raises(ArchiveTaken):
        OpenDeployment(other).services()


def test_an_archive_that_is_down_ends_the_relief_and_counts_nothing(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = services_at(server, tmp_path)
    ids = fill(services, 40)
    limit_to(services, 0.9)

    def down(*_: object, **__: object) -> None:
        raise ArchiveUnavailable("the archive is down")

    with monkeypatch.context() as patch:
        patch.setattr(services.archive, "put", down)
        assert relieve(services)[Outcome.ARCHIVED] == 0
    assert left(services, ids) == ids
    infos = [services.sessions.info(session_id) for session_id in ids]
    assert all(info and info.attempts == 0 for info in infos)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_worker_makes_room_in_a_redis_that_refuses_writes_though_it_is_the_broker_too(
    server: RedisServer, tmp_path: Path
) -> None:
    services = services_at(server, tmp_path, sweep_interval_seconds=1)
    ids = fill(services, 200)
    client: Any = services.sessions.client
    raw(client, "CONFIG", "SET", "maxmemory", client.info("memory")["used_memory"] - 200_000)
    with pytest.raises(RedisMemoryFull):
        services.sessions.append("new", [LARGE])

    def writable() -> bool:
        with contextlib.suppress(RedisMemoryFull):
            return bool(services.sessions.append("new", [LARGE]))
        return False

    with image("worker", services, tmp_path):
        wait_until(writable, 60, "Redis accepts writes again")
        before = archived(services)
        services.sessions.close("new")
        wait_until(lambda: services.sessions.info("new") is None, 60, "the worker has its broker and goes on")
        assert before > 10
    assert left(services, ids)


def test_status_warns_of_a_policy_that_deletes_sessions_and_of_a_full_redis(
    server: RedisServer, tmp_path: Path
) -> None:
    services = services_at(server, tmp_path)
    fill(services, 20)
    SweepingCommand(services, None).note()
    assert status.overview(services).warnings == []
    raw(services.sessions.client, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    limit_to(services, 0.9)
    policy, full = status.overview(services).warnings
    assert (policy.code, full.code) == (Code.EVICTION_POLICY, Code.MEMORY_HIGH)
    assert "allkeys-lru" in policy.text
    assert "1 of 1 nodes use more than 85%" in full.text


def test_a_server_without_info_is_not_relieved(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = services_at(server, tmp_path)

    def unknown(*_: object) -> None:
        raise redis.exceptions.ResponseError("unknown command 'info'")

    monkeypatch.setattr(services.sessions.client, "info", unknown)
    assert memory.nodes(services) == []
    assert relieve(services) == {}
