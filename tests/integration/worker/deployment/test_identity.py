"""A first use that is killed or not alone, a Redis that is lost under a worker, and the faults of issue 14."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from support.cli_sessions import say, sleep
from support.command import Torpor
from support.identity import state_of
from support.keyspace import raw
from support.observed import ObservedArchive, Points
from support.rewinding import killed_at
from support.servers import RedisServer, start_redis
from support.tasks_here import forget_deployment
from support.two_sides import contents_of
from support.waiting import scaled
from torpor import MemorystoreChatMessageHistory, SessionArchive
from torpor.history.protocol import RedisMemoryFull, SessionStore
from torpor.worker import tasks
from torpor.worker.archive import ownership
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment import watch as watching
from torpor.worker.deployment.environment import PREFIX
from torpor.worker.deployment.identity import State, check, make
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import environment
from torpor.worker.deployment.watch import Watch
from torpor.worker.errors import ArchiveMisconfigured, ArchiveUnavailable, DeploymentMismatch
from torpor.worker.failpoints import Failpoint
from torpor.worker.ops import catching_up, recovery


@pytest.fixture
def other_redis(tmp_path: Path) -> Iterator[RedisServer]:
    started = start_redis(tmp_path)
    yield started
    started.stop()


# The first use


@pytest.mark.parametrize("failpoint", [Failpoint.DEPLOYMENT_NAMED, Failpoint.DEPLOYMENT_WRITTEN])
def test_a_first_use_that_is_killed_is_finished_by_the_next_with_the_same_id(
    unused: Services, failpoint: Failpoint
) -> None:
    with killed_at(failpoint):
        make(unused.sessions, unused.archive)
    begun = unused.sessions.identity()
    assert begun.deployment
    assert state_of(unused) is State.NEW
    assert make(unused.sessions, unused.archive).deployment == begun.deployment
    assert state_of(unused) is State.AGREE
    assert ownership.read(unused.archive).number == 1


def test_many_first_uses_at_once_agree_on_one_id(unused: Services) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: make(unused.sessions, open_archive(unused.archive.url)), range(16)))
    assert len({each.deployment for each in made}) == 1
    assert ownership.read(unused.archive).number == 1
    assert state_of(unused) is State.AGREE


@pytest.mark.parametrize("point", ["before list", "after list"])
@pytest.mark.parametrize("door", ["first use", "check", "wake"])
def test_who_compares_while_another_first_use_goes_on_is_let_in(
    client: redis.Redis, unused: Services, point: str, door: str
) -> None:
    """What it has read of Redis is of a time before that of the archive."""
    points = Points()
    archive = ObservedArchive(unused.archive, points)
    points.at(point, lambda: make(unused.sessions, unused.archive))
    if door == "first use":
        assert make(unused.sessions, archive) == unused.sessions.identity()
    elif door == "check":
        assert check(unused.sessions, archive).state is not State.DISAGREE
    else:
        waking = SessionArchive(unused.archive.url)
        waking._store = archive
        assert MemorystoreChatMessageHistory(client, "s", archive=waking).messages == []
    assert not points.pending
    assert state_of(unused) is State.AGREE
    assert ownership.read(unused.archive).number == 1


def test_who_compares_while_a_recovery_gives_a_new_id_is_let_in(client: redis.Redis, services: Services) -> None:
    client.flushall()
    points = Points()
    points.at("before list", lambda: recovery.recover(services, catching_up.survey(services)))
    assert check(services.sessions, ObservedArchive(services.archive, points)).state is State.AGREE
    assert not points.pending


@pytest.mark.parametrize("failpoint", [Failpoint.DEPLOYMENT_NAMED, Failpoint.DEPLOYMENT_WRITTEN])
def test_of_two_redises_one_gets_a_new_archive_whoever_comes_in_between(
    unused: Services, other_redis: RedisServer, failpoint: Failpoint
) -> None:
    with other_redis.client() as other:
        second = replace(unused, sessions=SessionStore(other))
        with killed_at(failpoint):
            make(unused.sessions, unused.archive)
        results = [outcome(second), outcome(unused)]
        assert sorted(results) == ["agree", "refused"]
        assert results == [outcome(second), outcome(unused)], "and it stays so"


def test_of_two_archives_one_gets_a_new_redis_whoever_comes_in_between(unused: Services, scratch: Path) -> None:
    second = replace(unused, archive=open_archive((scratch / "second").as_uri()))
    with killed_at(Failpoint.DEPLOYMENT_WRITTEN):
        make(unused.sessions, unused.archive)
    results = [outcome(second), outcome(unused)]
    assert sorted(results) == ["agree", "refused"]
    assert results == [outcome(second), outcome(unused)], "and it stays so"


def outcome(services: Services) -> str:
    try:
        make(services.sessions, services.archive)
    except DeploymentMismatch:
        return "refused"
    return str(state_of(services))


@pytest.mark.single_node(reason="it sets the memory limit of a server of its own")
def test_a_first_use_succeeds_at_the_memory_limit(unused: Services, other_redis: RedisServer) -> None:
    with other_redis.client() as full:
        sessions = SessionStore(full)
        sessions.append("s", [b'{"content":"hello"}'])
        raw(full, "CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(RedisMemoryFull):
            sessions.append("t", [b'{"content":"hello"}'])
        assert make(sessions, unused.archive).archive == unused.archive.url


# While it works


def test_a_process_finds_a_redis_that_was_emptied_at_its_next_task_and_asks_the_archive_seldom(
    client: redis.Redis, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    read = ownership.read

    def reading(archive: Any) -> Any:
        asked.append(archive.url)
        return read(archive)

    monkeypatch.setattr(ownership, "read", reading)
    watch = Watch(services.sessions, services.archive)
    for _ in range(5):
        watch.look()
    assert len(asked) == 1
    monkeypatch.setattr(watching, "_RELY_SECONDS", -1)
    watch = Watch(services.sessions, services.archive)
    watch.look()
    watch.look()
    assert len(asked) == 3
    client.flushall()
    for _ in range(2):
        with pytest.raises(DeploymentMismatch, match="torpor deployment recover"):
            watch.look()


def test_a_process_relies_on_what_it_knows_of_an_archive_that_is_down_but_not_for_another_redis(
    client: redis.Redis, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(services.sessions, services.archive)
    watch.look()

    def down(*_: object) -> None:
        raise ArchiveUnavailable("the archive is down")

    monkeypatch.setattr(services.archive, "list", down)
    monkeypatch.setattr(watch._reliance, "_until", 0.0)
    watch.look()
    client.flushall()
    with pytest.raises(ArchiveUnavailable):
        watch.look()
    with pytest.raises(ArchiveUnavailable):
        Watch(services.sessions, services.archive).look()


def test_a_task_does_nothing_once_its_redis_was_emptied(
    client: redis.Redis, services: Services, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(PREFIX + name, value)
    forget_deployment()
    try:
        assert tasks.drain(list(range(256))) == {}
        client.flushall()
        say(client, "s", "written to an emptied Redis")
        services.sessions.close("s")
        before = contents_of(services.sessions, services.archive)
        for task in (lambda: tasks.drain(list(range(256))), lambda: tasks.archive_session("s"), tasks.sweep_purges):
            with pytest.raises(DeploymentMismatch):
                task()
        assert contents_of(services.sessions, services.archive) == before
    finally:
        forget_deployment()


def test_an_application_is_refused_once_its_redis_was_emptied(client: redis.Redis, services: Services) -> None:
    sleep(client, services, "s", "hello")
    archive = SessionArchive(services.archive.url)
    assert len(MemorystoreChatMessageHistory(client, "s", owner="ann", archive=archive).messages) == 1
    client.flushall()
    with pytest.raises(DeploymentMismatch):
        assert MemorystoreChatMessageHistory(client, "s", owner="ann", archive=archive).messages
    assert raw(client, "KEYS", "*") == []


@pytest.mark.slow
def test_a_worker_whose_sides_do_not_belong_together_ends_with_both_named(
    client: redis.Redis, services: Services, other_redis: RedisServer, tmp_path: Path
) -> None:
    sleep(client, services, "s", "hello")
    settings = services.settings.model_copy(
        update={"archive_url": f"{services.archive.url}-typo", "broker_url": None} | broker(other_redis)
    )
    done = subprocess.run(
        [sys.executable, "-m", "torpor", "worker", "--concurrency", "1", "--without-gossip", "--without-mingle"],
        env=environment(settings) | {"PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=scaled(60),
    )
    assert done.returncode == 2, done.stderr
    assert services.archive.url in done.stderr
    assert f"{services.archive.url}-typo" in done.stderr
    assert "Traceback" not in done.stderr


def broker(server: RedisServer) -> dict[str, Any]:
    from pydantic import SecretStr

    return {"broker_url": SecretStr(server.url)}


# What was seen


def test_a_purge_with_one_letter_wrong_in_the_archives_url_is_refused_and_writes_no_receipt(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    sleep(client, services, "s", "hello", owner="ann")
    wrong = services.archive.url.replace("archive", "archve").replace("chats", "chts")
    before = contents_of(services.sessions, services.archive)
    for known in (services.archive.url, ""):
        done = torpor("purge", "--owner", "ann", "--yes", ARCHIVE_URL=wrong)
        assert done.code == 2
        assert known in done.err
        assert wrong in done.err
        assert list(open_archive(wrong).list("")) == []
        client.flushall()  # nor if Redis was lost as well
    assert contents_of(services.sessions, services.archive)[1] == before[1]


def test_a_purge_from_another_redis_is_refused(
    client: redis.Redis, services: Services, torpor: Torpor, other_redis: RedisServer
) -> None:
    sleep(client, services, "s", "hello", owner="ann")
    before = contents_of(services.sessions, services.archive)
    single = {"REDIS_URL": other_redis.url, "REDIS_CLUSTER": None}
    orders: list[tuple[str, ...]] = [("--owner", "ann", "--yes"), ("--idle-for", "1s", "--dry-run")]
    for asked in orders:
        done = torpor("purge", *asked, **single)
        assert (done.code, done.out) == (2, "")
        assert str(other_redis.port) in done.err
        assert services.archive.url in done.err
    assert contents_of(services.sessions, services.archive) == before


def test_an_unrelated_deployment_of_the_same_namespace_is_not_offered_anothers_sessions(
    client: redis.Redis, services: Services, torpor: Torpor, other_redis: RedisServer, scratch: Path
) -> None:
    sleep(client, services, "s", "hello", owner="ann")
    with other_redis.client() as theirs:
        make(SessionStore(theirs), open_archive((scratch / "theirs").as_uri()))
    done = torpor("purge", "--idle-for", "1s", "--dry-run", REDIS_URL=other_redis.url, REDIS_CLUSTER=None)
    assert (done.code, done.out) == (2, "")
    assert (scratch / "theirs").as_uri() in done.err


def test_what_a_mistyped_folder_does_not_have_is_no_session_that_is_nowhere(
    client: redis.Redis, torpor: Torpor, scratch: Path
) -> None:
    wrong = (scratch / "archve").as_uri()
    for reason in ("do not belong together", "does not exist"):
        for door in ("show s", "export s", "doctor", "bucket", "purge --session s --dry-run", "receipts"):
            done = torpor(*door.split(), ARCHIVE_URL=wrong)
            assert done.code == 2, door
            assert wrong in done.said
            assert reason in done.said
            assert not (scratch / "archve").exists()
        client.flushall()  # a Redis that knows no archive


def test_a_folder_that_is_not_mounted_any_more_is_named_and_not_made_again(
    client: redis.Redis, services: Services, torpor: Torpor, scratch: Path
) -> None:
    if services.archive.url.startswith("gs:"):
        pytest.skip("a bucket is not mounted")
    sleep(client, services, "s", "hello")
    (scratch / "archive").rename(scratch / "elsewhere")
    for door in ("show s", "archive s", "purge --session s --yes", "restore s"):
        done = torpor(*door.split())
        assert (done.code, "does not exist" in done.said) == (2, True), door
    with pytest.raises(ArchiveMisconfigured):
        make(services.sessions, open_archive(services.archive.url))
    assert not (scratch / "archive").exists()


def test_a_purge_names_redis_archive_and_deployment_in_its_question_dry_run_and_receipt(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    sleep(client, services, "s", "hello", owner="ann")
    deployment = services.sessions.identity().deployment
    assert deployment
    address = torpor("deployment", "--json").json["redis"]["address"]
    named = (address, services.archive.url, deployment)
    [line] = torpor("purge", "--owner", "ann", "--dry-run", "--json").lines
    assert (line["redis"], line["archive"], line["deployment"]) == named
    assert all(each in torpor("purge", "--owner", "ann", "--dry-run").out for each in named)
    asked = torpor("purge", "--owner", "ann", answer="y\n")
    assert all(each in asked.err for each in named)
    [receipt] = torpor("receipts", "--json").lines
    assert (receipt["redis"], receipt["archive"], receipt["deployment"]) == named
