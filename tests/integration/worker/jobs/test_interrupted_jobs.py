"""Jobs that are killed at each step, done by two processes at once, canceled, or robbed of Redis: nothing is lost."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from support.foreign import LAYOUTS, Foreign
from support.jobs import BATCH, TURN, dying, end_locks, objects, order, theirs
from support.keyspace import raw
from support.objects import put
from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import InvalidArgument
from torpor.worker import failpoints
from torpor.worker.archive import names
from torpor.worker.bulk.adopting import Adoption
from torpor.worker.bulk.works import WORKS
from torpor.worker.deployment.services import Services, connect
from torpor.worker.errors import DeploymentMismatch, DocumentDamaged, JobNotFound
from torpor.worker.failpoints import Failpoint
from torpor.worker.jobs import look, open_jobs, run, turns
from torpor.worker.jobs.job import JOBS, Job, JobState, Result
from torpor.worker.jobs.work import Means, Outcome, Try

SESSIONS = 3 * BATCH + 1
BATCHES = 4


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torpor.worker.bulk.adopting.BATCH", BATCH)


def finish(services: Services, job: str) -> Result:
    done = run.finish(services, WORKS, job).result
    assert done
    return done


def check_adopted(client: redis.Redis, services: Services, ids: list[str], job: str) -> None:
    """Each session is adopted once, and nothing is left of the job but its result."""
    for session_id in ids:
        assert MemorystoreChatMessageHistory(client, session_id).messages == TURN, session_id
    assert objects(services) == [names.JOBS.result(job)]
    assert not raw(client, "KEYS", "torpor:adopting:*")


def test_a_job_is_listed_in_batches_done_and_concluded(client: redis.Redis, services: Services) -> None:
    ids = theirs(client, SESSIONS)
    raw(client, "SET", "user-text", "x")
    job = order(services)
    assert look.standing(services, WORKS, job).state is JobState.QUEUED
    seen = []
    done = run.finish(services, WORKS, job, lambda standing: seen.append((standing.batches_done, standing.listed)))
    assert (done.state, done.result and done.result.counts) == (
        JobState.COMPLETE,
        {"units": SESSIONS + 1, "sessions": SESSIONS, "messages": 2 * SESSIONS, "gone": 0},
    )
    assert done.result
    assert done.result.noted == {"it is a string and no list": 1}
    assert done.result.notes[0].name == "user-text"
    assert seen[-1] == (BATCHES, True)
    check_adopted(client, services, ids, job)
    assert finish(services, job) == done.result, "repeatable"


STEPS = [
    (Failpoint.JOB_LISTED, 1),
    (Failpoint.JOB_LISTED, BATCHES),
    (Failpoint.JOB_COMPLETE, 1),
    (Failpoint.JOB_WORKED, 1),
    (Failpoint.JOB_WORKED, BATCHES),
    (Failpoint.JOB_DONE, 1),
    (Failpoint.JOB_DONE, BATCHES),
    (Failpoint.JOB_CONCLUDED, 1),
    (Failpoint.JOB_TIDIED, 1),
]


@pytest.mark.parametrize(("first", "times"), STEPS, ids=str)
def test_a_job_that_is_killed_anywhere_twice_is_finished_by_the_next_process(
    client: redis.Redis, services: Services, first: Failpoint, times: int
) -> None:
    ids = theirs(client, SESSIONS)
    job = order(services)
    with dying(first, times):
        run.finish(services, WORKS, job)
    end_locks(client)
    for second, _ in STEPS:
        try:
            with dying(second):
                run.finish(services, WORKS, job)
        except pytest.fail.Exception:  # this step is over
            failpoints.arm()
        end_locks(client)
    result = finish(services, job)
    check_adopted(client, services, ids, job)
    counts = result.counts
    assert (result.state, counts["sessions"] + counts["gone"] >= SESSIONS) == (JobState.COMPLETE, True)
    assert counts["sessions"] <= SESSIONS


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_what_a_job_has_done_before_it_was_killed_is_not_done_again(
    client: redis.Redis, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs(client, SESSIONS)
    job = order(services)
    with dying(Failpoint.JOB_DONE, 2):
        run.finish(services, WORKS, job)
    end_locks(client)
    done: list[int] = []
    do = Adoption.do

    def counting(work: Adoption, units: list[str], this: Try) -> Outcome:
        done.append(this.number)
        return do(work, units, this)

    monkeypatch.setattr(Adoption, "do", counting)
    result = finish(services, job)
    assert len(done) == len(set(done)) == BATCHES - 2
    assert result.counts["sessions"] == SESSIONS


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_of_two_processes_that_do_one_batch_at_once_one_counts(client: redis.Redis, services: Services) -> None:
    ids = theirs(client, BATCH)
    job = order(services)
    discarded: list[Try] = []

    class Slow(Adoption):
        """Loses its lock, and another process does the batch before it has noted so."""

        def do(self, units: list[str], this: Try) -> Outcome:  # type: ignore[override]
            outcome = super().do(units, this)
            end_locks(client)
            assert finish(services, job).counts["gone"] == BATCH
            return outcome

        def discard(self, this: Try) -> None:
            discarded.append(this)

    def slow(means: Means, ordered: object) -> Adoption:
        made = Adoption.of(means, ordered)  # type: ignore[arg-type]
        return Slow(made.means, made.job, made.arguments, made.adopter)

    done = run.finish(services, {"adopt": slow}, job)
    assert len(discarded) == 1
    assert done.result
    assert done.result.counts["units"] == BATCH
    check_adopted(client, services, ids, job)


def test_two_listers_at_once_lose_no_key(client: redis.Redis, services: Services) -> None:
    ids = theirs(client, SESSIONS)
    job = order(services)

    def meet(reached: Failpoint) -> None:
        if reached is Failpoint.JOB_LISTED:
            failpoints.arm()
            end_locks(client)
            turns.take(services, WORKS, job, 0)

    failpoints.arm(meet)
    finish(services, job)
    check_adopted(client, services, ids, job)


def test_a_canceled_job_does_what_is_in_work_and_says_what_was_done(client: redis.Redis, services: Services) -> None:
    ids = theirs(client, SESSIONS)
    job = order(services)

    def cancel(reached: Failpoint) -> None:
        if reached is Failpoint.JOB_WORKED:
            failpoints.arm()
            run.cancel(services, WORKS, job)
            assert look.standing(services, WORKS, job).state is JobState.CANCELING, "a batch is in work"

    failpoints.arm(cancel)
    for _ in range(3):  # lists, does a batch, concludes
        run.take_turn(services, WORKS, job, 0)
    assert look.standing(services, WORKS, job).state is JobState.CANCELED
    result = look.standing(services, WORKS, job).result
    assert result
    adopted = [each for each in ids if not raw(client, "EXISTS", each)]
    assert result.counts["sessions"] == len(adopted) < SESSIONS
    assert objects(services) == [names.JOBS.result(job)]
    assert finish(services, job) == result


@pytest.mark.parametrize("step", [Failpoint.CANCEL_MARKED, Failpoint.JOB_CONCLUDED, Failpoint.JOB_TIDIED], ids=str)
def test_a_cancellation_that_is_killed_is_finished_by_a_sweep(
    client: redis.Redis, services: Services, step: Failpoint
) -> None:
    theirs(client, SESSIONS)
    job = order(services)
    with dying(step):
        run.cancel(services, WORKS, job)
    end_locks(client)
    for open_job, slot in turns.free(services, open_jobs.look(services, WORKS), 2):
        turns.take(services, WORKS, open_job, slot)
    assert look.standing(services, WORKS, job).state is JobState.CANCELED
    assert objects(services) == [names.JOBS.result(job)]


def test_a_redis_that_is_lost_between_listing_and_work_ends_nothing(client: redis.Redis, services: Services) -> None:
    theirs(client, SESSIONS)
    job = order(services)
    with dying(Failpoint.JOB_COMPLETE):
        run.finish(services, WORKS, job)
    kept = client.dump("torpor:config")
    client.flushall()
    assert kept
    client.restore("torpor:config", 0, kept)
    ids = theirs(client, BATCH)
    result = finish(services, job)
    assert (result.counts["sessions"], result.counts["gone"]) == (BATCH, SESSIONS - BATCH)
    check_adopted(client, services, ids, job)


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_job_of_another_deployment_is_refused_and_can_be_canceled(client: redis.Redis, services: Services) -> None:
    theirs(client, BATCH)
    job = order(services)
    ordered = JOBS.read(services.archive, job).model_copy(update={"deployment": "another"})
    JOBS.finish(services.archive, job)
    JOBS.write(services.archive, ordered)
    with pytest.raises(DeploymentMismatch, match=f"--cancel {job}"):
        run.finish(services, WORKS, job)
    assert raw(client, "EXISTS", "user-0")
    run.cancel(services, WORKS, job)
    assert objects(services) == []


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_damaged_documents_of_a_job_are_named_and_the_job_can_be_canceled(
    client: redis.Redis, services: Services
) -> None:
    theirs(client, SESSIONS)
    damaged, other = order(services), order(services)
    with dying(Failpoint.JOB_COMPLETE):
        run.finish(services, WORKS, damaged)
    replaced = {names.JOBS.order(other): b"{}", names.JOBS.batch(damaged, 2): b"no gzip"}
    for stored in [each for each in services.archive.list("v1/") if each.name in replaced]:
        services.archive.delete(stored)
        put(services.archive, stored.name, replaced[stored.name], dict(stored.metadata))
    end_locks(client)
    with pytest.raises(DocumentDamaged, match=other):
        run.finish(services, WORKS, other)
    while look.standing(services, WORKS, damaged).batches_done < BATCHES - 1:  # in random order
        with pytest.raises(DocumentDamaged, match="000002"):
            run.finish(services, WORKS, damaged)
        standing = look.standing(services, WORKS, damaged)
        assert (standing.state, "000002" in str(standing.error)) == (JobState.FAILED, True)
        end_locks(client)
    for job in (damaged, other):
        run.cancel(services, WORKS, job)
    standing = look.standing(services, WORKS, damaged)
    assert (standing.state, standing.counts["units"]) == (JobState.CANCELED, SESSIONS - BATCH)
    with pytest.raises(JobNotFound):
        look.standing(services, WORKS, other)


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_an_order_is_placed_once(client: redis.Redis, services: Services) -> None:
    theirs(client, BATCH)
    job = order(services)
    ordered = JOBS.read(services.archive, job)
    assert look.place(services, ordered) == ordered
    with pytest.raises(InvalidArgument, match="another one"):
        look.place(services, ordered.model_copy(update={"work": "export"}))
    finish(services, job)
    assert look.place(services, ordered).id == job
    assert JOBS.is_finished(services.archive, job)
    assert [*look.open_jobs(services)] == []


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_two_processes_share_a_job_and_keep_one_rate(client: redis.Redis, services: Services) -> None:
    ids = theirs(client, SESSIONS)
    job = order(services, rate=10.0)
    others = [connect(services.settings) for _ in range(2)]
    taken: list[Services] = []

    def note(means: Means, ordered: Job) -> Adoption:
        taken.append(means.services)
        return Adoption.of(means, ordered)

    began = time.monotonic()
    with ThreadPoolExecutor() as processes:
        list(processes.map(lambda each: run.finish(each, {"adopt": note}, job), others))
    assert time.monotonic() - began >= (SESSIONS - 1) / 10
    assert {id(each) for each in taken} == {id(each) for each in others}
    check_adopted(client, services, ids, job)


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_session_of_the_application_is_never_adopted_twice(client: redis.Redis, services: Services) -> None:
    theirs(client, 1)
    job = order(services)
    with dying(Failpoint.JOB_WORKED):
        run.finish(services, WORKS, job)
    Foreign(client, LAYOUTS["memorystore"], "user-0").add("later")
    end_locks(client)
    assert finish(services, job).counts["messages"] == 1
    chat = MemorystoreChatMessageHistory(client, "user-0")
    assert [message.content for message in chat.messages] == ["what is up?", "the sky", "later"]
