"""An export as a job: each session is in one file, whoever was killed, and _SUCCESS comes last."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import redis

from support.command import Torpor
from support.emulator import new_bucket
from support.jobs import TURN, dying, end_locks, objects
from support.objects import content
from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import InvalidArgument
from torpor.worker import failpoints
from torpor.worker.archive import names
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.bulk import exporting
from torpor.worker.bulk.exporting import Form
from torpor.worker.bulk.works import WORKS
from torpor.worker.deployment.services import Services
from torpor.worker.failpoints import Failpoint
from torpor.worker.jobs import look, run
from torpor.worker.jobs.job import Job, JobState
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.transfer.new_folder import COMPLETE

pytestmark = pytest.mark.parametrize("archive_url", ["gcs"], indirect=True)

SESSIONS = 12


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torpor.worker.bulk.exporting._PART_SESSIONS", 5)


@pytest.fixture
def target(bucket: str) -> str:
    return f"gs://{bucket}/tables/monday"


@pytest.fixture
def ids(client: redis.Redis, services: Services) -> list[str]:
    """Awake, asleep, and half of them."""
    found = [f"user {number}\n" for number in range(SESSIONS)]
    for number, session_id in enumerate(found):
        MemorystoreChatMessageHistory(client, session_id, 3_600, owner="ann").add_messages(TURN)
        if number % 3:
            archive_session(services, session_id)
        if number % 3 == 2:
            MemorystoreChatMessageHistory(client, session_id, 3_600, owner="ann").add_messages(TURN)
    return found


def order(services: Services, form: Form, target: str) -> str:
    given = exporting.arguments(services, form, target)
    assert given.parts == 4
    deployment = services.sessions.identity().deployment
    assert deployment
    return look.place(services, Job.of(exporting.NAME, given, deployment=deployment)).id


def exported(store: ArchiveStore) -> Iterator[str]:
    """The session of each message in the files."""
    for stored in store.list(""):
        body = content(store, stored)
        if stored.name.endswith(".parquet"):
            yield from pq.read_table(io.BytesIO(body)).column("session").to_pylist()
        for line in body.splitlines() if stored.name.endswith(".jsonl") else ():
            session = json.loads(line)
            yield from [session["session_id"]] * len(session["messages"])


def check_exported(target: str, ids: list[str]) -> None:
    """Each message is in the files once."""
    store = open_archive(target)
    expected = [each for number, each in enumerate(ids) for _ in range(4 if number % 3 == 2 else 2)]
    assert sorted(exported(store)) == sorted(expected)
    assert COMPLETE in [stored.name for stored in store.list("")]


@pytest.mark.parametrize("form", Form)
def test_each_session_is_exported_once(services: Services, ids: list[str], target: str, form: Form) -> None:
    done = run.finish(services, WORKS, order(services, form, target))
    assert (done.state, done.counts["sessions"]) == (JobState.COMPLETE, SESSIONS)
    check_exported(target, ids)
    for session_id in ids[1::3]:
        assert services.sessions.info(session_id) is None, "it sleeps on"


STEPS = [Failpoint.JOB_LISTED, Failpoint.JOB_WORKED, Failpoint.JOB_DONE, Failpoint.JOB_CONCLUDED]


@pytest.mark.parametrize("form", Form)
def test_an_export_that_is_killed_anywhere_has_each_session_once(
    client: redis.Redis, services: Services, ids: list[str], target: str, form: Form
) -> None:
    job = order(services, form, target)
    for step in (*STEPS, *STEPS):
        try:
            with dying(step):
                run.finish(services, WORKS, job)
        except pytest.fail.Exception:  # this step is over
            failpoints.arm()
        end_locks(client)
    run.finish(services, WORKS, job)
    check_exported(target, ids)
    assert objects(services) == [names.JOBS.result(job)]


def test_two_processes_at_one_batch_leave_the_files_of_one(
    client: redis.Redis, services: Services, ids: list[str], target: str
) -> None:
    job = order(services, Form.JSON_LINES, target)

    def overtake(reached: Failpoint) -> None:
        if reached is Failpoint.JOB_WORKED:
            failpoints.arm()
            end_locks(client)
            run.finish(services, WORKS, job)

    failpoints.arm(overtake)
    run.finish(services, WORKS, job)
    check_exported(target, ids)


def test_a_canceled_export_has_no_sign_that_it_is_complete(services: Services, ids: list[str], target: str) -> None:
    job = order(services, Form.JSON_LINES, target)
    with dying(Failpoint.JOB_DONE):
        run.finish(services, WORKS, job)
    end_locks(services.sessions.client)
    run.cancel(services, WORKS, job)
    standing = look.standing(services, WORKS, job)
    there = set(exported(open_archive(target)))
    assert (standing.state, standing.counts["sessions"]) == (JobState.CANCELED, len(there))
    assert COMPLETE not in [stored.name for stored in open_archive(target).list("")]
    assert len(ids) == SESSIONS


def test_a_job_exports_to_no_other_bucket(services: Services, target: str) -> None:
    with pytest.raises(InvalidArgument, match="bucket of the archive"):
        exporting.arguments(services, Form.PARQUET, "gs://another/place")
    given = exporting.arguments(services, Form.PARQUET, target).model_copy(update={"target": "gs://another/place"})
    deployment = services.sessions.identity().deployment
    assert deployment
    job = look.place(services, Job.of(exporting.NAME, given, deployment=deployment)).id
    with pytest.raises(InvalidArgument, match="would export to gs://another/place"):
        run.finish(services, WORKS, job)
    run.cancel(services, WORKS, job)
    assert objects(services) == []


@pytest.fixture
def other_bucket(emulator: str) -> str:
    return new_bucket(emulator)


def test_a_job_exports_to_another_bucket_below_the_prefix_that_the_workers_allow(
    services: Services, ids: list[str], other_bucket: str, torpor: Torpor
) -> None:
    allowed = f"gs://{other_bucket}/reports"
    settings = services.settings.model_copy(update={"export_url": allowed})
    target = f"{allowed}/monday"
    job = order(replace(services, settings=settings), Form.JSON_LINES, target)
    with pytest.raises(InvalidArgument, match="nor below TORPOR_EXPORT_URL"):
        run.finish(services, WORKS, job)
    assert look.standing(services, WORKS, job).state is JobState.REFUSED
    run.finish(replace(services, settings=settings), WORKS, job)
    check_exported(target, ids)
    for place in (f"gs://{other_bucket}/reports-2", f"gs://{other_bucket}", f"gs://{other_bucket}/other/reports"):
        refused = torpor("export", "--all", "--parquet", place, "--detach", EXPORT_URL=allowed)
        assert (refused.code, "nor below TORPOR_EXPORT_URL" in refused.said) == (2, True), place
    done = torpor("export", "--all", "-o", f"{allowed}/tuesday", EXPORT_URL=allowed)
    assert (done.code, "; job " in done.out) == (0, True)
    check_exported(f"{allowed}/tuesday", ids)
    whole = torpor("export", "--all", "-o", f"gs://{other_bucket}/any", "--detach", EXPORT_URL=f"gs://{other_bucket}")
    assert whole.code == 0
    assert torpor("status", EXPORT_URL="file:///tmp").code == 2


def test_the_command_shares_an_export_to_the_archives_bucket(
    services: Services, ids: list[str], target: str, torpor: Torpor, tmp_path: Path
) -> None:
    services.sessions.append("bad", [b"no message"])
    lines = torpor("export", "--all", "-o", target)
    assert (lines.code, lines.out.startswith(f"exported: {SESSIONS + 1} sessions, to {target}; job ")) == (0, True)
    assert sum(1 for _ in exported(open_archive(target))) > SESSIONS
    again = torpor("export", "--all", "--parquet", target)
    assert (again.code, "name a prefix that has none" in again.said) == (2, True)
    for arguments in (
        ["--all", "--parquet", "gs://another/place", "--detach"],
        ["--all", "-o", "gs://another/place"],
        ["--all", "-o", str(tmp_path / "file"), "--rate", "5"],
        [ids[0], "-o", target + "2"],
    ):
        assert torpor("export", *arguments).code == 2, arguments
    detached = torpor("export", "--all", "--parquet", target + "2", "--detach")
    [job] = look.open_jobs(services)
    assert (detached.code, f"job {job}" in detached.out) == (0, True)
    here = torpor("export", "--all", "--parquet", target + "3", "--here")
    assert (here.code, f"to {target}3" in here.out) == (0, True)
