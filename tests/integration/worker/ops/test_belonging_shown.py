"""A Redis and an archive that do not belong together: what an operator sees of it, from outside and in the log."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import redis

from support.cli_sessions import say, sleep
from support.command import Torpor
from support.compose import archived, deployment_of, image
from support.keyspace import dump
from support.ports import free_port
from support.servers import RedisServer
from support.storage_proxy import Fault, StorageProxy, answered, stalled_before
from support.waiting import scaled, wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.worker.archive import ownership
from torpor.worker.cli import repair
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveUnavailable
from torpor.worker.monitoring.presence import SweepingCommand
from torpor.worker.ops.finding import Ailment
from torpor.worker.ops.status import belonging

pytestmark = pytest.mark.slow

REFUSED = "Redis and the archive do not belong together"


def test_status_tells_of_a_redis_that_was_lost_and_ends_with_exit_code_2(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    sleep(client, services, "s", "hello")
    assert "belong together" in torpor("status").out
    assert torpor("status", "--json").json["deployment"] == {"state": "agree", "problem": None, "refused": False}
    client.flushall()
    say(client, "s", "written to an emptied Redis")
    shown = torpor("status")
    assert (shown.code, "do not belong together: workers refuse all work" in shown.out) == (2, True)
    assert shown.err.startswith(f"torpor: {REFUSED}")
    assert "torpor deployment recover" in shown.err
    told = torpor("status", "--json")
    assert (told.code, told.json["live"]) == (2, 1)
    assert told.json["deployment"]["state"] == "disagree"
    assert told.json["deployment"]["problem"].startswith(REFUSED)
    assert torpor("doctor").code == 2


@pytest.mark.parametrize("archive_url", ["bucket"], indirect=True)
def test_status_and_doctor_work_while_the_bucket_does_not_answer_and_say_that_nothing_was_compared(
    services: Services, torpor: Torpor, monkeypatch: pytest.MonkeyPatch
) -> None:
    SweepingCommand(services, None).note()  # so that somebody works
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{free_port()}")
    shown = torpor("status")
    assert (shown.code, shown.err) == (0, "")
    assert f"not compared: {services.archive.url} can't be reached" in shown.out
    told = torpor("status", "--json").json["deployment"]
    assert (told["state"], told["refused"]) == (None, False)
    assert "not compared: the archive was not asked" in torpor("status", "--no-archive").out

    def given_up(*_: object) -> None:  # in place of a minute of retries
        raise ArchiveUnavailable("the bucket is away")

    monkeypatch.setattr(ownership, "read", given_up)
    examined = torpor("doctor", "--no-archive")
    assert (examined.code, examined.said) == (0, "")
    assert torpor("doctor", "--no-archive", "--repair").code == 4, "nothing is repaired beside an unknown archive"


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the doctor's patience."""
    monkeypatch.setattr(repair, "_PATIENCE", 1.0)


@pytest.mark.usefixtures("short_patience")
@pytest.mark.parametrize("archive_url", ["bucket"], indirect=True)
@pytest.mark.parametrize("fault", [stalled_before, answered(503)])
@pytest.mark.parametrize("answered_so_far", [0, 3, 4])
def test_the_doctor_waits_seconds_for_a_bucket_that_does_not_answer_and_says_that_it_was_not_examined(
    services: Services, torpor: Torpor, proxy: StorageProxy, fault: Fault, answered_so_far: int
) -> None:
    """From the start, or in the middle of its walk."""
    services.sessions.append("s", [b"no message"])
    proxy.fail(fault, after=answered_so_far)
    begun = time.monotonic()
    examined = torpor("doctor", "--json")
    assert time.monotonic() - begun < scaled(5)
    assert examined.code == 1
    corrupt, unexamined = examined.lines
    assert corrupt["ailment"] == Ailment.CORRUPT
    assert unexamined["ailment"] == Ailment.UNEXAMINED
    assert services.archive.url in unexamined["detail"]


@pytest.mark.usefixtures("short_patience")
@pytest.mark.parametrize("archive_url", ["bucket"], indirect=True)
def test_a_repair_beside_a_bucket_that_does_not_answer_ends_within_seconds_and_changes_nothing(
    client: redis.Redis, services: Services, torpor: Torpor, proxy: StorageProxy
) -> None:
    services.sessions.append("s", [b'{"content": "hello"}'])
    client.delete(services.sessions.deployment.keyspace.of(b"s").due)
    before = dump(client)
    proxy.fail(stalled_before)
    begun = time.monotonic()
    assert torpor("doctor", "--repair").code == 4
    assert time.monotonic() - begun < scaled(5)
    assert dump(client) == before


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_status_shows_an_archive_whose_identity_is_damaged(services: Services, scratch: Path) -> None:
    [path] = (scratch / "archive" / "v1" / "identity").glob("000001.json")
    path.write_text("[]")
    found = belonging(services)
    assert (found.state, found.refused) == (None, True)
    assert f"{path.name} is damaged" in str(found.problem)


@pytest.mark.slow
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
@pytest.mark.single_node(reason="docker-compose.yml has one")
def test_a_running_worker_whose_redis_was_emptied_says_so_once_and_writes_nothing_there(
    client: redis.Redis, redis_server: RedisServer, archive_url: str, tmp_path: Path
) -> None:
    deployment = deployment_of(redis_server, archive_url)
    log = tmp_path / "worker.log"

    def refused() -> int:
        return log.read_text().count("raised expected: DeploymentMismatch")

    debug = "--loglevel", "DEBUG"  # each refused task is logged there
    with image("worker", deployment, tmp_path, *debug), image("beat", deployment, tmp_path):
        MemorystoreChatMessageHistory(client, "s", 1).add_user_message("hello")
        wait_until(lambda: archived(deployment) == 1, 60, "the worker works")
        for key in client.scan_iter("*torpor:*"):
            if b":celery:" not in key:
                client.delete(key)
        wait_until(lambda: refused() >= 8, 60, "some tasks are refused")
        # A process that begins in that moment may still record its configuration, which claims no archive, and one that
        # has just swept what it has measured.
        late = {b"torpor:config", *(b"{torpor:events}:" + name for name in (b"measures", b"seen", b"samples"))}
        assert {key for key in dump(client) if b":celery:" not in key} <= late
        assert client.hmget("torpor:config", "deployment", "archive") == [None, None]
    lines = [line for line in log.read_text().splitlines() if REFUSED in line and "raised expected" not in line]
    by = [line.split("]")[0].rpartition("/")[2] for line in lines]  # Celery logs the process
    assert lines
    assert len(by) == len(set(by)), lines
    assert "Traceback" not in log.read_text()
