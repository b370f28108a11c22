"""`torpor compress`: the messages in Redis get the form of the setting, as a job, while everything goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

import pytest
import redis

from dictionary.samples import Samples
from support.command import Torpor
from support.compose import deployment_of
from support.jobs import dying, end_locks, objects
from support.keyspace import dump, raw
from support.servers import RedisServer
from support.session_states import CHECKPOINTS
from support.stored_sessions import HOUR
from support.waiting import scaled, wait_until
from torpor.history import calls
from torpor.history.calls import configuration
from torpor.history.compression import DICTIONARY
from torpor.history.protocol import Compression
from torpor.worker.archive import names
from torpor.worker.bulk import compressing
from torpor.worker.bulk.compressing import CHANGED, DAMAGED, UNREADABLE, Arguments
from torpor.worker.bulk.works import WORKS
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import environment
from torpor.worker.failpoints import Failpoint
from torpor.worker.jobs import look, run
from torpor.worker.jobs.job import Job, JobState
from torpor.worker.sleep.attempt import archive_session

pytestmark = [
    pytest.mark.parametrize("archive_url", ["folder"], indirect=True),
    pytest.mark.skipif(
        configuration.UNRECORDED is Compression.ZSTD, reason="with --compression no deployment does without"
    ),
]
SAID = list(Samples(3).some(40))
SESSIONS = 10


def fill(services: Services, sessions: int = SESSIONS) -> list[str]:
    ids = [f"s{number}" for number in range(sessions)]
    for session_id in ids:
        services.sessions.append(session_id, SAID)
    return ids


def set_to(services: Services, how: Compression) -> None:
    services.sessions.configure(idle=HOUR, max_age=None, compression=how)


def elements(client: redis.Redis, session_id: str) -> list[bytes]:
    [key] = raw(client, "KEYS", f"*:m:{session_id}")
    found: list[bytes] = raw(client, "LRANGE", key, 0, -1)
    return found


def are_compressed(client: redis.Redis, session_ids: Sequence[str]) -> set[bool]:
    return {each[0] == 0x80 + DICTIONARY for session_id in session_ids for each in elements(client, session_id)}


def check_said(services: Services, session_ids: Sequence[str]) -> None:
    for session_id in session_ids:
        assert services.sessions.messages(session_id, touch=False) == SAID


def order(services: Services, how: Compression = Compression.ZSTD) -> str:
    deployment = services.sessions.identity().deployment
    assert deployment
    job = Job.of(compressing.NAME, Arguments(compression=how), deployment=deployment)
    return look.place(services, job).id


def test_the_command_compresses_tells_the_bytes_and_makes_plain_again(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    ids = fill(services)
    services.sessions.hold("s0", "why")
    services.sessions.append("small", [b"{}"])
    size = sum(map(len, SAID)) * SESSIONS + 2
    plain = {each: elements(client, each) for each in ids}
    set_to(services, Compression.ZSTD)
    before = dump(client)
    looked = torpor("compress", "--dry-run", "--json").json
    assert dump(client) == before
    assert objects(services) == []
    done = torpor("compress", "--json").json
    job = done.pop("job")
    assert done == {**looked, "dry_run": False}
    assert (done["compression"], done["sessions"], done["messages"]) == ("zstd", SESSIONS, SESSIONS * len(SAID))
    assert (done["bytes_before"], done["left"]) == (size, {})
    assert done["bytes_after"] == 2 + sum(len(each) for session_id in ids for each in elements(client, session_id))
    assert done["bytes_after"] < size / 2
    assert are_compressed(client, ids) == {True}
    check_said(services, ids)
    assert objects(services) == [names.JOBS.result(job)]
    again = torpor("compress", "--here", "--json").json
    assert (again["messages"], again["bytes_before"]) == (0, done["bytes_after"])
    set_to(services, Compression.NONE)
    assert torpor("compress", "--dry-run").out.startswith(f"would make plain: {SESSIONS * len(SAID)} messages of ")
    told = torpor("compress", "--here", "--rate", "1000")
    assert told.code == 0
    assert f"made plain: {SESSIONS * len(SAID)} messages of {SESSIONS} sessions; all messages took " in told.out
    assert {each: elements(client, each) for each in ids} == plain


def test_what_is_left_is_counted_with_an_example(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    services.sessions.append("damaged", SAID)
    services.sessions.append("other", SAID)
    services.sessions.write_record("thread", calls.NewRecord("", "c", CHECKPOINTS[0] + 500 * b"a"))
    services.sessions.append("quarantined", SAID)
    keys = services.sessions.deployment.keyspace
    raw(client, "RPUSH", keys.of(b"damaged").messages(b"damaged"), b"\x81", b"\x9f")
    raw(client, "HDEL", keys.of(b"quarantined").metadata(b"quarantined"), "epoch")
    for _ in range(services.settings.max_attempts):
        archive_session(services, "quarantined")
    raw(client, "DEL", keys.of(b"other").messages(b"other"))
    raw(client, "SET", keys.of(b"other").messages(b"other"), "text")
    thread = elements(client, "thread")
    set_to(services, Compression.ZSTD)
    for options in (["--dry-run"], ["--here"], []):
        done = torpor("compress", *options, "--json")
        assert done.code == 0
        assert done.json["left"] == {
            DAMAGED: {"count": 2, "example": "damaged"},
            UNREADABLE: {"count": 1, "example": "other"},
        }
        assert f"left: 2 in damaged or others: {DAMAGED}" in torpor("compress", "--dry-run").out
    assert elements(client, "thread") == thread
    assert are_compressed(client, ["quarantined"]) == {True}
    assert elements(client, "damaged")[-2:] == [b"\x81", b"\x9f"]
    assert CHANGED not in done.out


def test_sweeps_do_a_job_that_was_detached(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    ids = fill(services, 3)
    set_to(services, Compression.ZSTD)
    ordered = torpor("compress", "--detach", "--json").json
    assert (ordered["state"], ordered["order"]["arguments"]) == ("queued", {"compression": "zstd"})
    assert are_compressed(client, ids) == {False}
    assert torpor("sweep", "--once", "--json", COMPRESSION="zstd").json["jobs"] == {ordered["job"]: "complete"}
    assert are_compressed(client, ids) == {True}


def test_a_job_for_another_setting_is_refused(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    ids = fill(services, 1)
    set_to(services, Compression.ZSTD)
    job = order(services)
    set_to(services, Compression.NONE)
    [listed] = torpor("jobs", "--json").lines
    assert (listed["state"], "has none now" in listed["error"]) == ("refused", True)
    assert torpor("jobs", "--resume", job).code == 2
    assert are_compressed(client, ids) == {False}
    assert torpor("jobs", "--cancel", job).code == 0
    assert objects(services) == []


@pytest.mark.parametrize("options", [["--here", "--detach"], ["--here", "--dry-run"], ["--rate", "0"]])
def test_wrong_usage_is_refused(services: Services, torpor: Torpor, options: list[str]) -> None:
    assert torpor("compress", *options).code == 2
    assert objects(services) == []


@pytest.mark.parametrize(
    ("step", "times"),
    [
        (Failpoint.JOB_LISTED, 2),
        (Failpoint.JOB_WORKED, 1),
        (Failpoint.JOB_WORKED, 2),
        (Failpoint.JOB_DONE, 1),
        (Failpoint.JOB_CONCLUDED, 1),
    ],
)
def test_a_job_that_is_killed_goes_on(
    client: redis.Redis, services: Services, monkeypatch: pytest.MonkeyPatch, step: Failpoint, times: int
) -> None:
    monkeypatch.setattr(compressing, "_BATCH", 4)
    ids = fill(services)
    set_to(services, Compression.ZSTD)
    job = order(services)
    with dying(step, times):
        run.finish(services, WORKS, job)
    end_locks(client)
    standing = run.finish(services, WORKS, job)
    assert standing.state is JobState.COMPLETE
    assert standing.counts["units"] >= SESSIONS, "a list that is begun again lists its sessions twice"
    assert standing.counts["messages"] <= SESSIONS * len(SAID), "no message was rewritten twice"
    assert are_compressed(client, ids) == {True}
    check_said(services, ids)
    assert objects(services) == [names.JOBS.result(job)]


@pytest.mark.slow
def test_killed_again_and_again_beside_writers_it_loses_and_doubles_nothing(
    client: redis.Redis, redis_server: RedisServer, archive_url: str
) -> None:
    deployment = deployment_of(redis_server, archive_url, lease_seconds=2, idle_timeout_seconds=3_600)
    long = list(Samples(4).some(3_000))
    said = {f"s{number}": list(long) for number in range(4)}
    for session_id, messages in said.items():
        deployment.sessions.append(session_id, messages)
    stop, more = threading.Event(), list(Samples(6).some(2_000))

    def write() -> None:
        for number, message in enumerate(more):
            if stop.is_set():
                return
            session_id = f"s{number % 4}"
            deployment.sessions.append(session_id, [message])
            said[session_id].append(message)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for how in (Compression.ZSTD, Compression.NONE, Compression.ZSTD):
            set_to(deployment, how)
            kill_in_the_middle(client, deployment)
            end_locks(client)
            done = compress(deployment, "--here")
            out, err = done.communicate(timeout=scaled(120))
            assert done.returncode == 0, (out, err)
        for job in look.open_jobs(deployment):
            run.cancel(deployment, WORKS, job)
    finally:
        stop.set()
        writer.join()
    for session_id, messages in said.items():
        assert deployment.sessions.messages(session_id, touch=False) == messages
        marks = [each[0] == 0x80 + DICTIONARY for each in elements(client, session_id)]
        assert all(marks[: len(long)])


def compress(deployment: Services, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "torpor", "compress", *options],
        env=environment(deployment.settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_in_the_middle(client: redis.Redis, deployment: Services) -> None:
    """Kill a command as soon as it has rewritten something."""
    [key] = raw(client, "KEYS", "*:m:s0")
    before = [raw(client, "LINDEX", each, 0) for each in raw(client, "KEYS", "*:m:s?")]
    process = compress(deployment)
    wait_until(
        lambda: [raw(client, "LINDEX", each, 0) for each in raw(client, "KEYS", "*:m:s?")] != before,
        60,
        "it rewrites",
    )
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert raw(client, "EXISTS", key)
