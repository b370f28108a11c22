"""Jobs by real Celery workers and beat, and by the command beside them: ordered, shared, killed, slowed down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from support.command import Torpor
from support.compose import deployment_of, image
from support.jobs import TURN, objects, order, theirs
from support.keyspace import raw
from support.servers import RedisServer
from support.waiting import scaled, wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.worker.archive import names
from torpor.worker.bulk.works import WORKS
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import environment
from torpor.worker.jobs import look, run
from torpor.worker.jobs.job import JobState
from torpor.worker.jobs.look import Standing

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("archive_url", ["folder"], indirect=True)]

SESSIONS = 40


@pytest.fixture
def deployment(client: redis.Redis, redis_server: RedisServer, archive_url: str) -> Services:
    return deployment_of(redis_server, archive_url, lease_seconds=2, idle_timeout_seconds=3_600)


def command(services: Services, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "torpor", *arguments],
        env=environment(services.settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def adopting(services: Services, *options: str) -> subprocess.Popen[str]:
    return command(services, "adopt", "--match", "user-*", "--format", "memorystore", *options)


def is_complete(services: Services, job: str) -> bool:
    return look.standing(services, WORKS, job).state is JobState.COMPLETE


def begun(services: Services) -> Standing | None:
    """The only open job, once a batch of it is done."""
    for job in look.open_jobs(services):
        standing = look.standing(services, WORKS, job)
        return standing if standing.batches_done else None
    return None


def check_adopted(client: redis.Redis, services: Services, job: str) -> None:
    for number in range(SESSIONS):
        assert MemorystoreChatMessageHistory(client, f"user-{number}").messages == TURN
    assert objects(services) == [names.JOBS.result(job)]


def test_a_detached_job_is_done_by_workers_and_two_of_them_share_it(
    client: redis.Redis, deployment: Services, tmp_path: Path
) -> None:
    theirs(client, SESSIONS)
    detached = adopting(deployment, "--detach", "--rate", "10", "--json")
    out, err = detached.communicate(timeout=scaled(60))
    assert detached.returncode == 0, err
    [job] = look.open_jobs(deployment)
    assert f'"job": "{job}"' in out
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
    with (
        image("worker", deployment, one, "-n", "one@%h"),
        image("worker", deployment, other, "-n", "other@%h"),
        image("beat", deployment, tmp_path),
    ):
        wait_until(lambda: is_complete(deployment, job), 120, "the workers have done the job")
        assert deployment.sessions.measures().seen["jobs:working"] == "1"
    check_adopted(client, deployment, job)
    logs = [(folder / "worker.log").read_text() for folder in (one, other)]
    assert any(f"job {job}: adopt complete" in log for log in logs)


def test_a_worker_that_is_killed_in_a_job_leaves_it_to_the_next_one(
    client: redis.Redis, deployment: Services, tmp_path: Path
) -> None:
    theirs(client, SESSIONS)
    job = order(deployment, rate=1.0)  # so a batch has ten sessions, and takes ten seconds
    with image("beat", deployment, tmp_path):
        with image("worker", deployment, tmp_path, may_die=True) as worker:
            wait_until(lambda: adopted(client), 60, "the worker works")
            children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
            for pid in [worker.pid, *map(int, children)]:
                os.kill(pid, signal.SIGKILL)
        assert not is_complete(deployment, job)
        with image("worker", deployment, tmp_path):
            wait_until(lambda: is_complete(deployment, job), 180, "another worker goes on with the job")
    check_adopted(client, deployment, job)


def adopted(client: redis.Redis) -> bool:
    return int(raw(client, "EXISTS", *(f"user-{number}" for number in range(SESSIONS)))) < SESSIONS


def test_a_command_that_is_killed_leaves_the_job_to_the_next_one(client: redis.Redis, deployment: Services) -> None:
    theirs(client, SESSIONS)
    process = adopting(deployment, "--rate", "2")  # batches of twenty
    wait_until(lambda: adopted(client), 60, "the command works")
    process.kill()
    process.communicate()
    [job] = look.open_jobs(deployment)
    resumed = command(deployment, "jobs", "--resume", job, "--json")
    out, err = resumed.communicate(timeout=scaled(120))
    assert (resumed.returncode, '"state": "complete"' in out) == (0, True), err
    check_adopted(client, deployment, job)


def test_ctrl_c_leaves_the_job_to_the_workers_and_says_so(client: redis.Redis, deployment: Services) -> None:
    theirs(client, SESSIONS)
    process = adopting(deployment, "--rate", "2")
    wait_until(lambda: adopted(client), 60, "the command works")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=scaled(60))
    [job] = look.open_jobs(deployment)
    told = err.splitlines()
    assert (process.returncode, out, told[-1]) == (130, "", "torpor: interrupted")
    assert any(f"torpor jobs --resume {job}" in line for line in told)
    assert any(f"torpor jobs --cancel {job}" in line for line in told)
    run.finish(deployment, WORKS, job)
    check_adopted(client, deployment, job)


def test_a_job_that_is_canceled_ends_the_command_that_takes_part_in_it(
    client: redis.Redis, deployment: Services
) -> None:
    theirs(client, SESSIONS)
    process = adopting(deployment, "--rate", "0.5", "--json")  # batches of five
    wait_until(lambda: begun(deployment) is not None, 60, "a batch is done")
    [job] = look.open_jobs(deployment)
    run.cancel(deployment, WORKS, job)
    out, err = process.communicate(timeout=scaled(120))
    standing = look.standing(deployment, WORKS, job)
    assert (process.returncode, standing.state) == (1, JobState.CANCELED), err
    assert "was canceled before all of it was done" in err
    assert f'"sessions": {standing.counts["sessions"]}' in out
    assert 0 < standing.counts["sessions"] < SESSIONS


def test_the_command_shows_lists_and_cancels_jobs(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    theirs(client, 3)
    assert torpor("jobs", "--json").lines == []
    detached = torpor("adopt", "--match", "user-*", "--format", "memorystore", "--detach")
    [job] = look.open_jobs(services)
    assert (detached.code, f"queued: job {job}" in detached.out) == (0, True)
    assert torpor("jobs").out.splitlines()[1].split()[:5] == [job, "adopt", "queued", "0", "0"]
    [listed] = torpor("jobs", "--json").lines
    assert (listed["job"], listed["state"], listed["order"]["arguments"]["match"]) == (job, "queued", "user-*")
    canceled = torpor("jobs", "--cancel", job, "--json")
    assert (canceled.code, canceled.json["state"], canceled.json["result"]["counts"]) == (0, "canceled", {})
    assert torpor("jobs", job, "--json").json == canceled.json
    assert torpor("jobs", "--cancel", job).code == 0, "repeatable"
    for arguments, code in (
        (["jobs", "none"], 3),
        (["jobs", "--cancel", "none"], 3),
        (["jobs", "--resume", "none"], 3),
        (["jobs", "not an id"], 2),
        (["jobs", job, "--cancel", job], 2),
        (["adopt", "--match", "*", "--format", "memorystore", "--detach", "--here"], 2),
        (["adopt", "--match", "*", "--format", "memorystore", "--rate", "0"], 2),
        (["adopt", "--match", "*", "--format", "memorystore", "--here", "--rate", "-1"], 2),
    ):
        assert torpor(*arguments).code == code, arguments
    assert list(look.open_jobs(services)) == []
    here = torpor("adopt", "--match", "user-*", "--format", "memorystore", "--here", "--json")
    assert here.json == {"sessions": 3, "messages": 6, "left": {}, "dry_run": False}
    assert objects(services) == [names.JOBS.result(job)]
