"""The doctor as a job: it finds and repairs what it does alone, whoever was killed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import redis

from support.command import Torpor
from support.jobs import TURN, dying, end_locks, objects
from support.keyspace import raw
from support.objects import put
from torpor import MemorystoreChatMessageHistory
from torpor.worker.archive import names
from torpor.worker.bulk import examining
from torpor.worker.bulk.examining import Arguments, findings
from torpor.worker.bulk.works import WORKS
from torpor.worker.deployment.services import Services
from torpor.worker.failpoints import Failpoint
from torpor.worker.jobs import look, run
from torpor.worker.jobs.job import Job
from torpor.worker.ops import doctor
from torpor.worker.ops.finding import Ailment, Finding
from torpor.worker.sleep.attempt import archive_session

pytestmark = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)


@pytest.fixture
def _damaged(client: redis.Redis, services: Services) -> None:
    """One of each of some ailments, between sessions that are well."""
    for number in range(12):
        MemorystoreChatMessageHistory(client, f"s{number}", 3_600).add_messages(TURN)
    for number in range(6, 12):
        archive_session(services, f"s{number}")
    keys = services.sessions.deployment.keyspace
    raw(client, "ZREM", keys.of(b"s1").due, "s1")
    raw(client, "HDEL", keys.of(b"s2").metadata(b"s2"), "epoch")
    services.sessions.append("s3", [b"no message"])
    raw(client, "ZADD", keys.of(b"ghost").due, 9_000_000_000_000, "ghost")
    segment = next(iter(services.archive.list(names.session_prefix("s7"))))
    services.archive.delete(segment)
    put(services.archive, segment.name, b"other bytes", {})
    put(services.archive, names.PURGES.order("broken"), b"{}")


def order(services: Services, *, repair: bool) -> str:
    deployment = services.sessions.identity().deployment
    assert deployment
    return look.place(services, Job.of(examining.NAME, Arguments(repair=repair), deployment=deployment)).id


def told(found: Sequence[Finding]) -> list[tuple[str, str, bool]]:
    return sorted((str(each.session_id), each.ailment, each.repaired) for each in found)


@pytest.mark.usefixtures("_damaged")
def test_a_job_finds_what_the_command_finds_alone(services: Services) -> None:
    alone = told(list(doctor.examine(services)))
    assert {ailment for _, ailment, _ in alone} == {
        Ailment.UNINDEXED,
        Ailment.METADATA_LOST,
        Ailment.CORRUPT,
        Ailment.GHOST,
        Ailment.OBJECT_DAMAGED,
    }
    done = run.finish(services, WORKS, order(services, repair=False))
    assert done.result
    assert told(list(findings(done.result))) == alone
    assert (done.counts["findings"], done.counts["repaired"]) == (len(alone), 0)


@pytest.mark.usefixtures("_damaged")
def test_a_repair_that_is_killed_at_each_step_is_finished(client: redis.Redis, services: Services) -> None:
    job = order(services, repair=True)
    for step in (Failpoint.JOB_LISTED, Failpoint.JOB_COMPLETE, Failpoint.JOB_WORKED, Failpoint.JOB_CONCLUDED):
        with dying(step):
            run.finish(services, WORKS, job)
        end_locks(client)
    run.finish(services, WORKS, job)
    assert objects(services) == [names.JOBS.result(job)]
    left = {each.ailment for each in doctor.examine(services)}
    assert left == {Ailment.CORRUPT, Ailment.OBJECT_DAMAGED}, "nothing repairs these"


@pytest.mark.usefixtures("_damaged")
def test_the_command_shares_its_work(services: Services, torpor: Torpor) -> None:
    alone, shared = torpor("doctor"), torpor("doctor", "--share")
    assert sorted(shared.out.splitlines()) == sorted(alone.out.splitlines())
    assert (shared.code, alone.code) == (1, 1)
    assert "findings need repair" in shared.err
    detached = torpor("doctor", "--detach", "--repair")
    [job] = look.open_jobs(services)
    assert (detached.code, f"job {job}" in detached.out) == (0, True)
    assert torpor("doctor", "--rate", "5").code == 2


def test_every_name_in_the_archive_is_below_one_of_the_prefixes_that_a_job_looks_at(services: Services) -> None:
    documented = [
        line.split()[0].removeprefix("<prefix>/")
        for line in (names.__doc__ or "").splitlines()
        if line.startswith("<prefix>")
    ]
    assert len(documented) > 10
    for name in documented:
        known = name.replace("<hh>", "ab", 1)
        assert any(known.startswith(prefix) for prefix in [*names.SPREADS, *names.APART]), name
    assert services
