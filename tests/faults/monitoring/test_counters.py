"""The counters of /metrics are equal to what has happened, on two workers, one of which is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from support.compose import deployment_of
from support.keyspace import raw
from support.paths import ROOT, TESTS
from support.ports import free_port
from support.savers import checkpoint, config
from support.scraping import Samples, scrape, status_of
from support.servers import RedisServer
from support.sessions import with_settings
from support.waiting import scaled, wait_until
from torpor import MemorystoreChatMessageHistory, MemorystoreSaver, SessionArchive
from torpor.history.protocol import Expiry
from torpor.worker.deployment.celery_config import make_app
from torpor.worker.deployment.events import follow
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import environment

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.single_node(reason="Celery has no Cluster as its broker, and the processes are the same"),
]

SOON = Expiry(idle=timedelta(seconds=1))
SAID = b'{"type": "human", "data": {"content": "hello"}}'
SESSIONS, MESSAGES, DAMAGED, WOKEN, PURGED, THREADS = 30, 3, 2, 4, 3, 2


@contextmanager
def worker(services: Services, folder: Path, name: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker, one of whose processes dies at the failpoint of an order that has its name."""
    command = f"-m celery -A support.armed_worker worker -n {name}@%h --without-gossip --without-mingle".split()
    armed = {"LEDGER_KILL_ORDER": str(folder / f"{name}-order"), "PYTHONPATH": f"{TESTS}{os.pathsep}{ROOT}"}
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command, *options],
            env=environment(services.settings) | armed,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(scaled(20))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def events(services: Services) -> Counter[str]:
    return Counter(fields["kind"] for _, fields in follow(services, count=10_000, forever=False))


def counters(samples: Samples) -> dict[str, float]:
    return {name: value for name, value in samples.items() if name.partition("{")[0].endswith("_total")}


def attempts(samples: Samples, outcome: str) -> float:
    return samples[f'torpor_attempts_total{{outcome="{outcome}"}}']


def write_sessions(client: redis.Redis, services: Services, ids: list[str]) -> None:
    """Sessions that are soon due, threads that are not, and sessions that can't be archived."""
    for session_id in ids:
        services.sessions.append(session_id, [SAID] * MESSAGES, expiry=SOON)
    saver = MemorystoreSaver(client)
    for number in range(THREADS):
        saver.put(config(f"thread{number}"), checkpoint({}, {}), {}, {})
    for number in range(DAMAGED):
        services.sessions.append(f"damaged{number}", [b"{}"], expiry=SOON)
        [key] = raw(client, "KEYS", f"*:s:damaged{number}")
        raw(client, "HDEL", key, "epoch")


def by_kind(samples: Samples) -> dict[str, float]:
    return {kind: samples[f'torpor_sessions_by_kind{{kind="{kind}"}}'] for kind in ("chat", "thread")}


def test_every_counter_is_equal_to_what_has_happened_though_a_worker_is_killed(
    client: redis.Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    ports = [free_port(), free_port()]
    deployment = deployment_of(
        redis_server,
        (tmp_path / "archive").as_uri(),
        lease_seconds=3,
        max_attempts=2,
        retry_delay_seconds=0.5,
        batch=4,
        concurrency=2,
    )
    ids = [f"s{number}" for number in range(SESSIONS)]
    (tmp_path / "forks-order").write_text("archive.verified 2 process")
    processes: list[subprocess.Popen[bytes]] = []
    with ExitStack() as stack:
        write_sessions(client, deployment, ids)
        beat = "-B", "-s", str(tmp_path / "schedule")
        for port, name, options in zip(
            ports, ("forks", "threads"), (("-c", "2", *beat), ("-c", "2", "--pool", "threads")), strict=True
        ):
            own = with_settings(deployment, http_port=port)
            processes.append(stack.enter_context(worker(own, tmp_path, name, *options)))
            wait_until(lambda: not (tmp_path / "forks-order").exists(), 60, "a process of the first worker dies")
        wait_until(lambda: all(status_of(port, "/readyz") == 200 for port in ports), 60, "both are ready")
        wait_until(lambda: not _awake(deployment, ids), 120, "all sleep")
        wait_until(lambda: scrape(ports[0])['torpor_sessions{state="quarantined"}'] == DAMAGED, 60, "the damaged wait")
        sizes = [stored.size for stored in deployment.archive.list("v1/") if stored.name.endswith(".jsonl.gz")]
        asleep = wait_until(lambda: _settled(ports), 60, "the counters rest")
        assert (
            attempts(asleep, "archived") * MESSAGES == asleep["torpor_archived_messages_total"] == SESSIONS * MESSAGES
        )
        assert asleep["torpor_archived_bytes_total"] == sum(sizes)
        assert asleep["torpor_redis_freed_bytes_total"] > 0
        assert by_kind(asleep) == {"chat": DAMAGED, "thread": THREADS}, "the damaged and the young threads are awake"
        assert attempts(asleep, "failed") == attempts(asleep, "quarantined") == DAMAGED
        # The sessions of the process that died were claimed again.
        assert asleep["torpor_leases_lost_total"] >= 1
        ended = sum(value for name, value in asleep.items() if name.startswith("torpor_attempts_total"))
        claimed = asleep["torpor_claims_total"] - asleep["torpor_leases_lost_total"]
        assert claimed == ended == SESSIONS + 2 * DAMAGED, "none was kept or postponed"

        archive = SessionArchive(deployment.archive.url)
        for session_id in ids[:WOKEN]:
            assert len(MemorystoreChatMessageHistory(client, session_id, archive=archive).messages) == MESSAGES
        with make_app(lambda: deployment.settings, set_as_current=False) as app:
            app.send_task("torpor.restore_session", [ids[WOKEN]])
            wait_until(lambda: _settled(ports)["torpor_sessions_restored_total"] == WOKEN + 1, 60, "all are restored")
            for session_id in ids[-PURGED:]:
                app.send_task("torpor.purge_session", [session_id], {"requested_by": "a test", "reason": "a test"})
            wait_until(lambda: _settled(ports)["torpor_sessions_purged_total"] == PURGED, 60, "all are purged")
        wait_until(lambda: not _awake(deployment, ids), 60, "the woken sleep again")
        last = wait_until(lambda: _settled(ports), 60, "the counters rest")
        assert last["torpor_sessions_woken_total"] == WOKEN + 1
        assert last["torpor_restored_messages_total"] == (WOKEN + 1) * MESSAGES
        assert attempts(last, "archived") == SESSIONS + WOKEN + 1
        assert last["torpor_wake_duration_seconds_count"] == WOKEN + 1
        assert last['torpor_sessions{state="tombstone"}'] == PURGED
        assert last["torpor_workers"] == 2
        assert by_kind(last) == {"chat": DAMAGED, "thread": THREADS}
        os.killpg(processes[1].pid, signal.SIGKILL)
        assert counters(scrape(ports[0])) == counters(last)
        # The events are recorded by others than the counters, after the fact: a killed process leaves some out.
        seen = events(deployment)
        assert seen["session.restored"] == WOKEN + 1
        assert seen["session.quarantined"] == seen["session.failed"] == DAMAGED
        assert SESSIONS + WOKEN + 1 - 16 <= seen["session.archived"] <= SESSIONS + WOKEN + 1
        assert last["torpor_attempt_duration_seconds_count"] == seen["session.archived"]


def _awake(deployment: Services, ids: list[str]) -> list[str]:
    infos = deployment.sessions.infos(ids)
    return [
        session_id for session_id, info in zip(ids, infos, strict=True) if info and not getattr(info, "purge", None)
    ]


def _settled(ports: list[int]) -> Samples:
    """What both workers show, as soon as they show the same counters twice."""
    while True:
        one, two, again = scrape(ports[0]), scrape(ports[1]), scrape(ports[0])
        if counters(one) == counters(two) == counters(again):
            return again
