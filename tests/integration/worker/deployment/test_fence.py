"""The fence: a Redis that is behind its archive, or a copy of the one that uses it, is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from support.backups import (
    Backup,
    copied_archive,
    let_a_minute_pass,
    let_minutes_pass_in_the_archive,
    move_fence,
    token_of,
    tokens_of,
)
from support.cli_sessions import sleep
from support.command import Torpor
from support.identity import state_of
from support.keyspace import raw
from support.observed import ObservedArchive, Points
from support.rewinding import killed_at
from support.servers import start_redis
from support.storage_proxy import StorageProxy
from support.tasks_here import forget_deployment
from support.two_sides import contents_of
from torpor import MemorystoreChatMessageHistory, SessionArchive
from torpor.history.protocol import SessionStore
from torpor.worker import tasks
from torpor.worker.archive import ownership
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment import fence, identity
from torpor.worker.deployment import watch as watching
from torpor.worker.deployment.environment import PREFIX
from torpor.worker.deployment.identity import State, compare_sides
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.watch import Watch
from torpor.worker.errors import ArchiveCorrupt, ArchiveRefused, ArchiveUnavailable, DeploymentMismatch
from torpor.worker.failpoints import Failpoint
from torpor.worker.ops import moves
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("as_in_cloud_storage")]


@pytest.fixture
def other(tmp_path: Path) -> Iterator[redis.Redis]:
    """Another Redis, which is empty."""
    server = start_redis(tmp_path)
    with server.client() as connected:
        yield connected
    server.stop()


def copied(services: Services, client: redis.Redis, other: redis.Redis) -> Services:
    """The services of a copy of Redis, with the same archive."""
    Backup.of(client).restore(other)
    return replace(services, sessions=SessionStore(other), archive=open_archive(services.archive.url))


# How it moves


def test_the_archive_gets_each_token_when_it_is_a_minute_old(client: redis.Redis, services: Services) -> None:
    assert (tokens_of(services), token_of(services)) == ([], None)
    assert fence.move(services.sessions, services.archive)
    [first] = tokens_of(services)
    assert token_of(services) is None
    for _ in range(3):
        assert not fence.move(services.sessions, services.archive)
    let_a_minute_pass(client)
    assert fence.move(services.sessions, services.archive)
    assert (token_of(services), tokens_of(services)[0], len(tokens_of(services))) == (first, first, 2)
    move_fence(services, 30)
    assert len(tokens_of(services)) == 16
    assert token_of(services) == tokens_of(services)[-2]
    assert state_of(services) is State.AGREE
    moved_at, read_at = ownership.read(services.archive).fence, services.sessions.identity().read_at
    assert moved_at
    assert moved_at.moved_at
    assert read_at
    assert abs((read_at - moved_at.moved_at).total_seconds()) < 30


def test_a_clock_that_was_set_back_does_not_stop_the_fence(client: redis.Redis, services: Services) -> None:
    move_fence(services)
    noted = raw(client, "HGET", "torpor:config", "fence").replace(b":", b"0:", 1)
    raw(client, "HSET", "torpor:config", "fence", noted)
    assert fence.move(services.sessions, services.archive)
    assert fence.move(services.sessions, services.archive) is False
    assert state_of(services) is State.AGREE


def test_many_workers_that_move_it_at_once_move_it_once(client: redis.Redis, services: Services) -> None:
    move_fence(services, 2)
    before = tokens_of(services)
    let_a_minute_pass(client)
    with ThreadPoolExecutor(8) as pool:
        moved = list(pool.map(lambda _: fence.move(services.sessions, open_archive(services.archive.url)), range(16)))
    assert moved.count(True) == 1
    assert tokens_of(services)[:-1] == before
    assert token_of(services) == before[-1]


def test_a_mover_that_dies_between_its_steps_is_followed_by_the_next(client: redis.Redis, services: Services) -> None:
    move_fence(services, 2)
    before = tokens_of(services)
    for _ in range(2):
        let_a_minute_pass(client)
        with killed_at(Failpoint.FENCE_GIVEN):
            fence.move(services.sessions, services.archive)
        assert (token_of(services), tokens_of(services)) == (before[-1], before)
        assert state_of(services) is State.AGREE
    assert fence.move(services.sessions, services.archive)
    assert tokens_of(services)[:-1] == before


@pytest.mark.parametrize("point", ["before annotate", "after annotate", "before list", "after open"])
def test_a_mover_that_was_late_moves_nothing_back(client: redis.Redis, services: Services, point: str) -> None:
    """It sleeps for an hour at any step, while others go on. A precondition that fails has it compare again."""
    move_fence(services, 2)
    let_a_minute_pass(client)
    points = Points()
    points.at(point, lambda: move_fence(services, 60))
    fence.move(services.sessions, ObservedArchive(services.archive, points))
    assert not points.pending
    assert token_of(services) in tokens_of(services)[-2:]
    assert state_of(services) is State.AGREE


def test_an_archive_that_is_down_or_refuses_keeps_nobody_from_anything(
    client: redis.Redis, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    move_fence(services, 2)
    before = tokens_of(services)
    for error in (ArchiveUnavailable("down"), ArchiveRefused("no permission")):
        watch = Watch(services.sessions, services.archive)
        watch.look()
        let_a_minute_pass(client)
        with monkeypatch.context() as patch:
            asked: list[str] = []

            def failing(*_: Any, error: Exception = error, asked: list[str] = asked) -> bool:
                asked.append("annotate")
                raise error

            patch.setattr(services.archive, "annotate", failing)
            watch.move_fence()
            watch.move_fence()
            assert asked == ["annotate"], "not at each sweep"
        watch.look()
        assert tokens_of(services) == before
    assert fence.move(services.sessions, services.archive)


def test_the_sweep_moves_it(
    client: redis.Redis, services: Services, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(PREFIX + name, value)
    forget_deployment()
    try:
        tasks.sweep()
        [first] = tokens_of(services)
        let_a_minute_pass(client)
        tasks.sweep()
        tasks.sweep()
        assert (token_of(services), len(tokens_of(services))) == (first, 2)
    finally:
        forget_deployment()


def test_what_a_move_costs(client: redis.Redis, services: Services, request: pytest.FixtureRequest) -> None:
    """One listing, one read and one change of metadata each minute; nothing in between."""
    if services.archive.url.startswith("file:"):
        pytest.skip("requests are a bucket's")
    proxy: StorageProxy = request.getfixturevalue("proxy")
    move_fence(services, 2)
    proxy.heal()
    assert not fence.move(services.sessions, services.archive)
    assert proxy.kinds() == []
    move_fence(services)
    assert proxy.kinds() == ["list", "read", "patch"]


def test_a_damaged_description_of_the_identity_hides_no_fence(services: Services) -> None:
    if services.archive.url.startswith("gs:"):
        pytest.skip("a bucket's metadata is no file")
    move_fence(services, 2)
    stored = ownership.read(services.archive).stored
    assert stored
    path = Path(services.archive.url.removeprefix("file://")) / f"{stored.name}=.meta.json"
    path.write_text("{")
    with pytest.raises(ArchiveCorrupt):
        compare_sides(services.sessions, services.archive)


# Who is refused


def test_a_redis_that_was_restored_from_a_backup_is_refused_with_both_sides_and_both_ways_out(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    move_fence(services, 2)
    backup = Backup.of(client)
    move_fence(services, 2)
    backup.restore(client)
    before = contents_of(services.sessions, services.archive)
    said = torpor("purge", "--owner", "ann", "--yes")
    assert said.code == 2
    moved_at = torpor("deployment", "--json").json["archive"]["fence_moved_at"]
    address = services.sessions.identity().redis.partition(":")[2]
    for part in (address, services.archive.url, moved_at, "torpor deployment recover", "torpor deployment fork"):
        assert part in said.said
    shown = torpor("deployment", "--json")
    assert (shown.code, shown.json["state"], shown.json["archive"]["fence_moved_by"]) == (
        2,
        "disagree",
        "another Redis",
    )
    assert torpor("deployment", "move-archive", "--yes").code == 2, "no archive of theirs has moved"
    assert contents_of(services.sessions, services.archive) == before


def test_a_failover_that_loses_the_last_seconds_is_not_refused(client: redis.Redis, services: Services) -> None:
    """The promoted replica lacks the newest token, which the archive does not have yet."""
    move_fence(services, 2)
    let_a_minute_pass(client)
    backup = Backup.of(client)
    watch = Watch(services.sessions, services.archive)
    watch.look()
    assert fence.move(services.sessions, services.archive)
    watch.look()
    backup.restore(client)
    watch.look()
    assert state_of(services) is State.AGREE
    move_fence(services, 3)
    watch.look()


def test_of_a_redis_and_its_copy_the_one_that_moves_the_fence_first_goes_on(
    client: redis.Redis, services: Services, other: redis.Redis
) -> None:
    move_fence(services, 2)
    copy = copied(services, client, other)
    for each in (services, copy):
        assert state_of(each) is State.AGREE
    move_fence(copy, 2)
    assert state_of(copy) is State.AGREE
    let_a_minute_pass(client)
    for _ in range(2):
        with pytest.raises(DeploymentMismatch, match="Another Redis has moved"):
            fence.move(services.sessions, services.archive)
    assert state_of(services) is State.DISAGREE
    move_fence(copy, 2)


def test_a_redis_and_its_copy_that_move_the_fence_in_turns_do_not_both_go_on(
    client: redis.Redis, services: Services, other: redis.Redis
) -> None:
    move_fence(services, 2)
    copy = copied(services, client, other)
    refused: set[str] = set()
    for _ in range(4):
        for name, each in (("original", services), ("copy", copy)):
            let_a_minute_pass(each.sessions.client)
            try:
                fence.move(each.sessions, each.archive)
            except DeploymentMismatch:
                refused.add(name)
    assert refused == {"copy"}
    assert state_of(services) is State.AGREE


@pytest.mark.parametrize("fault", ["none", "the archive is down", "the mover dies", "a precondition fails"])
def test_a_running_worker_finds_at_its_next_task_that_its_redis_was_replaced_by_a_backup(
    client: redis.Redis,
    services: Services,
    variables: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    """Though it has compared both sides a moment ago."""
    for name, value in variables.items():
        monkeypatch.setenv(PREFIX + name, value)
    forget_deployment()
    move_fence(services, 2)
    sleep(client, services, "s", "hello")
    backup = Backup.of(client)
    try:
        tasks.drain([0])
        for _ in range(3):  # it sees the tokens of each minute
            move_fence(services)
            tasks.drain([0])
        if fault == "the mover dies":
            let_a_minute_pass(client)
            with killed_at(Failpoint.FENCE_GIVEN):
                fence.move(services.sessions, services.archive)
        if fault == "a precondition fails":
            assert not ownership.move_fence(
                services.archive, replace_stored(ownership.read(services.archive)), "0a", moment(services)
            )
        backup.restore(client)
        services.sessions.close("s")
        before = contents_of(services.sessions, services.archive)
        expected: type[Exception] = DeploymentMismatch
        if fault == "the archive is down":
            expected = ArchiveUnavailable
            monkeypatch.setattr(type(services.archive), "list", down)
        for task in (lambda: tasks.drain(list(range(256))), lambda: tasks.archive_session("s"), tasks.sweep_purges):
            with pytest.raises(expected):
                task()
        monkeypatch.undo()
        assert contents_of(services.sessions, services.archive) == before
    finally:
        forget_deployment()


def down(*_: Any, **__: Any) -> Any:
    raise ArchiveUnavailable("the archive is down")


def moment(services: Services) -> Any:
    return services.sessions.identity().read_at


def replace_stored(there: ownership.ArchiveIdentity) -> ownership.ArchiveIdentity:
    """The identity as somebody read it before its last change."""
    assert there.stored
    return replace(there, stored=replace(there.stored, metageneration=there.stored.metageneration - 1))


def test_an_application_finds_at_its_next_wake_that_its_redis_was_replaced_by_a_backup(
    client: redis.Redis, services: Services
) -> None:
    move_fence(services, 2)
    sleep(client, services, "s", "hello")
    backup = Backup.of(client)
    archive = SessionArchive(services.archive.url)
    for minute in range(3):
        move_fence(services)
        assert MemorystoreChatMessageHistory(client, f"{minute}", archive=archive).messages == []
    backup.restore(client)
    with pytest.raises(DeploymentMismatch, match="torpor deployment recover"):
        assert MemorystoreChatMessageHistory(client, "s", archive=archive).messages


@pytest.mark.parametrize("process", ["application", "worker"])
def test_a_backup_that_is_younger_than_the_last_look_is_found_when_a_minute_is_over(
    client: redis.Redis, services: Services, monkeypatch: pytest.MonkeyPatch, process: str
) -> None:
    """It has all that the process has seen of Redis; only the archive tells that it is behind."""
    move_fence(services, 2)
    sleep(client, services, "s", "hello")
    archive, watch = SessionArchive(services.archive.url), Watch(services.sessions, services.archive)
    history = MemorystoreChatMessageHistory(client, "s", owner="ann", archive=archive)

    def look() -> None:
        if process == "worker":
            watch.look()
        else:
            assert len(history.messages) == 1
            services.sessions.close("s")
            assert archive_session(services, "s").outcome is Outcome.ARCHIVED

    look()
    move_fence(services)
    backup = Backup.of(client)
    move_fence(services, 3)
    backup.restore(client)
    look()
    after = time.monotonic() + 61
    monkeypatch.setattr(watching, "time", SimpleNamespace(monotonic=lambda: after))
    for _ in range(2):
        with pytest.raises(DeploymentMismatch, match="torpor deployment recover"):
            look()


@pytest.mark.parametrize("point", ["before list", "after open"])
def test_who_compares_while_the_fence_moves_on_is_let_in(client: redis.Redis, services: Services, point: str) -> None:
    """The archive's token is of a time after the look at Redis."""
    move_fence(services, 2)
    points = Points()
    archive = SessionArchive(services.archive.url)
    archive._store = ObservedArchive(archive._store, points)
    points.at(point, lambda: move_fence(services, 20))
    assert MemorystoreChatMessageHistory(client, "s", archive=archive).messages == []
    points.at(point, lambda: move_fence(services, 20))
    identity.check(services.sessions, archive._store)
    assert not points.pending


# The ways out


def test_an_archive_that_another_redis_uses_is_not_taken_over_unless_forced(
    client: redis.Redis, services: Services, other: redis.Redis, torpor: Torpor
) -> None:
    move_fence(services, 2)
    sleep(client, services, "s", "hello")
    production = copied(services, client, other)
    move_fence(production, 2)
    before = contents_of(services.sessions, services.archive)
    for lose in (lambda: None, client.flushall):
        lose()
        for options in ([], ["--dry-run"]):
            said = torpor("deployment", "recover", "--yes", *options)
            assert (said.code, "--force" in said.said, "uses the archive" in said.said) == (2, True, True)
    assert contents_of(services.sessions, services.archive)[1:] == before[1:]
    assert state_of(production) is State.AGREE
    assert torpor("deployment", "recover", "--yes", "--force").code == 0
    assert state_of(production) is State.DISAGREE
    assert state_of(services) is State.AGREE
    move_fence(services, 3)
    assert torpor("restore", "s").code == 0


def test_an_archive_that_nobody_has_used_for_five_minutes_is_taken_over_without_force(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    move_fence(services, 2)
    backup = Backup.of(client)
    move_fence(services, 3)
    backup.restore(client)
    let_minutes_pass_in_the_archive(services, 4)
    assert torpor("deployment", "recover", "--yes").code == 2
    let_minutes_pass_in_the_archive(services, 2)
    assert torpor("deployment", "recover", "--yes").code == 0
    assert state_of(services) is State.AGREE


def test_a_moved_archive_whose_copy_has_an_old_token_gets_the_newest_one(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    move_fence(services, 2)
    sleep(client, services, "s", "hello")
    copy = copied_archive(services)
    move_fence(services, 30)
    assert compare_sides(copy.sessions, copy.archive).is_behind
    there = {"ARCHIVE_URL": copy.archive.url}
    said = torpor("deployment", "move-archive", "--yes", **there)
    assert (said.code, "--force" in said.said) == (2, True), "by the clock, it was used a moment ago"
    with killed_at(Failpoint.DEPLOYMENT_FENCED):
        moves.move_archive(copy, moves.survey(copy, force=True), force=True)
    assert torpor("restore", "s", **there).code == 2
    assert torpor("deployment", "move-archive", "--yes", **there).code == 0
    assert torpor("restore", "s", **there).code == 0
    move_fence(copy, 2)


def test_an_archive_of_an_older_version_without_a_fence_is_open(services: Services) -> None:
    identity.check(services.sessions, services.archive)
    assert token_of(services) is None
    move_fence(services, 2)
    identity.require(services.sessions, services.archive)
