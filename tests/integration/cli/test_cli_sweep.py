"""`torpor sweep`: the regular work in one process, without Celery."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import redis

from support.cli_sessions import chat, say, sleep
from support.command import Torpor
from support.ports import free_port
from support.waiting import scaled, wait_until
from torpor.history.protocol import Status
from torpor.worker.archive import contents, names
from torpor.worker.deployment.environment import PREFIX
from torpor.worker.deployment.identity import State, compare_sides
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders, receipts
from torpor.worker.erasure.order import Order


def due(client: redis.Redis, *session_ids: str) -> None:
    for session_id in session_ids:
        say(client, session_id)
        chat(client, session_id).close()


def asleep(services: Services, *session_ids: str) -> bool:
    return all(services.sessions.info(each) is None and contents.look(services.archive, each) for each in session_ids)


def test_one_sweep_does_all_regular_work_and_a_second_finds_nothing(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    due(client, "a", "b")
    say(client, "awake")
    sleep(client, services, "purged")
    order = Order.of(session="purged", requested_by="officer")
    orders.place(services, order)
    swept = torpor("sweep", "--once", "--json")
    assert swept.code == 0, swept
    assert swept.json == {
        "sessions": {"archived": 2},
        "purges": {order.id: "complete"},
        "failed": {},
        "jobs": {},
        "failed_jobs": {},
        "expired": 0,
        "waiting": 0,
    }
    assert asleep(services, "a", "b")
    assert not contents.look(services.archive, "purged")
    assert list(receipts.finished(services)) == [order.id]
    assert len(chat(client, "awake").messages) == 1
    again = torpor("sweep", "--once")
    assert (again.code, again.out) == (0, "sessions: none was due\n")


def test_a_sweep_may_be_the_first_use_and_applications_then_know_its_defaults(
    client: redis.Redis, unused: Services, torpor: Torpor
) -> None:
    assert torpor("sweep", "--once", IDLE_TIMEOUT_SECONDS="77").code == 0
    found = compare_sides(unused.sessions, unused.archive)
    assert (found.state, found.redis.newest_token is not None) == (State.AGREE, True)
    assert client.hget("torpor:config", "idle") == b"77000"


def test_a_dry_run_counts_and_changes_nothing(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    due(client, "a")
    order = Order.of(session="a", requested_by="officer")
    orders.place(services, order)
    assert torpor("sweep", "--dry-run").out == "due: 1 sessions; open: 1 purges, 0 jobs\n"
    assert torpor("sweep", "--dry-run", "--json").json == {"sessions": 1, "purges": [order.id], "jobs": []}
    info = services.sessions.info("a")
    assert info
    assert info.status is Status.DUE
    assert list(orders.open_orders(services)) == [order.id]


@pytest.mark.slow
@pytest.mark.parametrize("archive_url", ["gcs"], indirect=True)
def test_a_sweep_without_the_archive_leaves_all_sessions_and_ends_with_exit_code_4(
    client: redis.Redis, services: Services, torpor: Torpor, monkeypatch: pytest.MonkeyPatch
) -> None:
    due(client, "a", "b")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{free_port()}")
    swept = torpor("sweep", "--once")
    assert swept.code == 4, swept
    assert swept.err.startswith("torpor: ")
    assert services.sessions.info("a")
    assert services.sessions.info("b")
    monkeypatch.undo()


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_an_order_that_is_damaged_keeps_nothing_else_from_its_turn(
    client: redis.Redis, services: Services, torpor: Torpor, scratch: Path
) -> None:
    due(client, "a")
    order = Order.of(session="none", requested_by="officer")
    orders.place(services, order)
    (scratch / "archive" / names.PURGES.order(order.id)).write_text("{}")
    swept = torpor("sweep", "--once")
    assert swept.code == 1
    assert "1 archived" in swept.out
    assert f"purge {order.id}: " in swept.out
    assert "damaged" in swept.out
    assert asleep(services, "a")


@pytest.fixture
def sweeping(variables: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that sweeps again and again; its log is `sweep.log`."""
    environment = os.environ | {PREFIX + name: value for name, value in variables.items()}
    environment[PREFIX + "SWEEP_INTERVAL_SECONDS"] = "0.2"
    with (tmp_path / "sweep.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "torpor", "sweep"], env=environment, stdout=log, stderr=log)
        yield process
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_without_once_it_goes_on_after_an_outage_until_it_is_stopped(
    client: redis.Redis, services: Services, sweeping: subprocess.Popen[bytes], scratch: Path, tmp_path: Path
) -> None:
    due(client, "first")
    wait_until(partial(asleep, services, "first"), 60, "the first is asleep")
    noted = {"seen:sweep", "seen:purges"}  # the latter comes after the sessions
    wait_until(lambda: services.sessions.measures().seen.keys() >= noted, 60, "the sweep is noted")
    (scratch / "archive").rename(scratch / "away")
    due(client, "second")
    log = tmp_path / "sweep.log"
    wait_until(lambda: "torpor: " in log.read_text(), 60, "the outage is told")
    (scratch / "away").rename(scratch / "archive")
    wait_until(partial(asleep, services, "second"), 60, "the second is asleep")
    sweeping.send_signal(signal.SIGINT)
    assert sweeping.wait(scaled(20)) == 130, log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_without_once_it_ends_when_redis_was_emptied_and_writes_nothing_there(
    client: redis.Redis, services: Services, sweeping: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    due(client, "s")
    wait_until(partial(asleep, services, "s"), 60, "it is asleep")
    client.flushall()
    assert sweeping.wait(scaled(60)) == 2
    assert "do not belong together" in (tmp_path / "sweep.log").read_text()
    assert client.hmget("torpor:config", "deployment", "archive") == [None, None]
