"""What is said of open jobs, refused ones with the reason, and the turns that `torpor sweep` takes without Celery."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import redis

from support.command import Torpor
from support.jobs import BATCH, order, theirs
from support.keyspace import dump, raw
from support.objects import object_names, put
from torpor.worker.archive import names
from torpor.worker.bulk import adopting
from torpor.worker.bulk.works import WORKS
from torpor.worker.deployment.services import Services
from torpor.worker.jobs import look, open_jobs, run, turns
from torpor.worker.jobs.job import JOBS, JobState
from torpor.worker.jobs.open_jobs import OpenState
from torpor.worker.monitoring.exposition import Exposition
from torpor.worker.monitoring.presence import note_jobs
from torpor.worker.ops import one_sweep
from torpor.worker.ops.status_warnings import Code

pytestmark = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)


def changed(services: Services, job: str, **fields: object) -> None:
    ordered = JOBS.read(services.archive, job).model_copy(update=fields)
    JOBS.finish(services.archive, job)
    JOBS.write(services.archive, ordered)


def damaged(services: Services, job: str) -> None:
    JOBS.finish(services.archive, job)
    put(services.archive, names.JOBS.order(job), b"{}", {})


LEASE = timedelta(seconds=60)
REFUSED: dict[str, tuple[Callable[[Services, str], None], str]] = {
    "another deployment's": (
        lambda services, job: changed(services, job, deployment="another"),
        "ordered for deployment another",
    ),
    "an unknown work": (lambda services, job: changed(services, job, work="paint"), "knows no work 'paint'"),
    "an unknown format": (
        lambda services, job: changed(services, job, arguments={"format": "x", "match": "*"}),
        "knows no format 'x'",
    ),
    "other arguments": (lambda services, job: changed(services, job, arguments={}), "damaged: format"),
    "no order": (damaged, "damaged"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refused_order_says_so_everywhere_and_changes_nothing(
    client: redis.Redis, services: Services, torpor: Torpor, kind: str
) -> None:
    theirs(client, BATCH)
    job = order(services)
    change, reason = REFUSED[kind]
    change(services, job)
    before = (dump(client), object_names(services.archive))
    [listed] = torpor("jobs", "--json").lines
    assert (listed["state"], listed["units"], reason in listed["error"]) == ("refused", 0, True)
    assert torpor("jobs", job, "--json").json == listed
    row = torpor("jobs").out.splitlines()[1]
    assert row.startswith(job)
    assert " refused " in row
    shown = torpor("jobs", job)
    assert (shown.code, "refused" in shown.out, reason in shown.said) == (0, True, True)
    [found] = open_jobs.look(services, WORKS)
    assert (found.id, found.state, reason in str(found.error)) == (job, OpenState.REFUSED, True)
    assert list(turns.free(services, [found], 2)) == []
    assert (dump(client), object_names(services.archive)) == before
    assert torpor("jobs", "--cancel", job).code == 0
    assert torpor("jobs", "--json").lines == []


def test_a_job_with_damaged_batches_is_refused_and_can_be_canceled(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    theirs(client, BATCH)
    job = order(services)
    put(services.archive, names.JOBS.batch(job, 1), b"", {})
    [listed] = torpor("jobs", "--json").lines
    assert (listed["state"], listed["order"]["work"]) == ("refused", "adopt")
    assert "metadata" in listed["error"]
    assert torpor("jobs", "--cancel", job).code == 0
    assert torpor("jobs", "--json").lines == []


def test_status_top_and_the_metrics_count_open_jobs_as_of_the_last_look(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    theirs(client, BATCH)
    assert torpor("status", "--json").json["jobs"] == {"working": 0, "failed": 0, "refused": 0}
    assert "open jobs none" in " ".join(torpor("status").out.split())
    waiting, failed, refused = (order(services) for _ in range(3))
    changed(services, refused, deployment="another")
    with (
        pytest.raises(ValueError, match="by a test"),
        services.sessions.working(failed, "1", LEASE) as lock,
    ):
        assert lock
        with lock.noting_failure(LEASE):
            raise ValueError("by a test")
    note_jobs(services, list(open_jobs.look(services, WORKS)))
    counts = {"working": 1, "failed": 1, "refused": 1}
    for command in ("status", "top"):
        told = torpor(command, "--json").json
        assert told["jobs"] == counts
        assert 0 <= told["oldest_job_seconds"] < 60
        assert "jobs that do not get on: 1 refused, 1 failed; torpor jobs tells why" in [
            each["text"] for each in told["warnings"] if each["code"] == Code.JOB_STUCK
        ]
        shown = torpor(command)
        assert "1 working, 1 failed, 1 refused; the oldest for " in shown.said
    text = Exposition(lambda: services).text().decode()
    for state in counts:
        assert f'torpor_jobs_open{{state="{state}"}} 1.0' in text
    for job in (failed, refused, waiting):
        run.cancel(services, WORKS, job)
    note_jobs(services, list(open_jobs.look(services, WORKS)))
    assert set(torpor("status", "--json").json["jobs"].values()) == {0}
    assert "torpor_oldest_job_seconds 0.0" in Exposition(lambda: services).text().decode()


def test_sweeps_without_celery_do_a_job_that_was_detached(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    ids = theirs(client, BATCH)
    assert torpor("adopt", "--match", "user-*", "--format", "memorystore", "--detach").code == 0
    [job] = look.open_jobs(services)
    assert torpor("sweep", "--dry-run", "--json").json["jobs"] == [job]
    assert torpor("sweep", "--dry-run").out.endswith("open: 0 purges, 1 jobs\n")
    swept = torpor("sweep", "--once", "--json")
    assert (swept.code, swept.json["jobs"], swept.json["failed_jobs"]) == (0, {job: "complete"}, {})
    assert all(services.sessions.info(each) for each in ids)
    assert torpor("status", "--json").json["jobs"]["working"] == 0
    assert torpor("sweep", "--once", "--json").json["jobs"] == {}


def test_a_sweep_gives_jobs_a_limited_time_and_the_next_one_goes_on(
    client: redis.Redis, services: Services, torpor: Torpor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adopting, "BATCH", 1)
    monkeypatch.setattr(turns, "_SECONDS", 0.0)
    monkeypatch.setattr(one_sweep, "_JOBS_SECONDS", 0.000_001)
    theirs(client, BATCH)
    job = order(services)
    seen = []
    while (swept := torpor("sweep", "--once", "--json")).json["jobs"] == {job: "working"}:
        seen.append(look.standing(services, WORKS, job).units_done)
    assert swept.json["jobs"] == {job: "complete"}
    assert len(seen) > 1
    assert seen == sorted(seen)


def test_a_job_that_fails_or_is_refused_keeps_no_other_from_its_turn(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    theirs(client, BATCH)
    refused, fails, job = order(services), order(services), order(services)
    changed(services, refused, deployment="another")
    put(services.archive, names.JOBS.batch(fails, 1), b"no gzip", {"units": "1"})
    swept = torpor("sweep", "--once", "--json")
    assert swept.code == 1
    assert swept.json["jobs"] == {refused: "refused", fails: "failed", job: "complete"}
    assert "ordered for deployment another" in swept.json["failed_jobs"][refused]
    assert "000001" in swept.json["failed_jobs"][fails]
    assert not raw(client, "EXISTS", "user-0")
    assert torpor("status", "--json").json["jobs"] == {"working": 0, "failed": 1, "refused": 1}
    assert f"job {refused}: " in torpor("sweep", "--once").out
    assert look.standing(services, WORKS, job).state is JobState.COMPLETE
