"""Workers at the original archive while its copy takes its place, and the original Redis in the place of its copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from support.backups import Backup, copied_archive, move_fence
from support.cli_sessions import say, sleep
from support.command import Torpor, is_refused
from support.identity import state_of
from support.keyspace import raw
from support.observed import watch
from support.rewinding import at
from support.servers import start_redis
from support.sessions import purge_session, with_settings
from support.two_sides import contents_of
from support.waiting import wait_until
from torpor.history.keys import seen_key
from torpor.history.protocol import SessionStore, Status, TransientError
from torpor.worker.archive import contents
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment.identity import State
from torpor.worker.deployment.services import Services
from torpor.worker.errors import DeploymentMismatch
from torpor.worker.failpoints import Failpoint
from torpor.worker.monitoring import presence
from torpor.worker.ops import moves
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.sleep.pool import Pool

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("as_in_cloud_storage")]

SHARDS = list(range(256))


# A worker archives while the archive moves


def archive_late(services: Services) -> Callable[[], object]:
    """A worker that has looked at the identity before archives one more session into the original, and is done."""
    return lambda: sleep(services.sessions.client, services, "late", "hello")


def test_an_archive_does_not_move_if_a_session_was_archived_since_the_copy_was_compared(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    sleep(client, services, "s", "hello")
    copy = copied_archive(services)
    surveyed = moves.survey(copy)
    with at(Failpoint.DEPLOYMENT_FENCED, archive_late(services)), pytest.raises(TransientError, match="Stop the work"):
        moves.move_archive(copy, surveyed)
    check_moves_when_it_is_copied_again(services, torpor, copy)


@pytest.mark.parametrize("point", ["before identify", "after identify"])
def test_an_archive_moves_back_if_a_session_is_claimed_while_its_url_is_recorded(
    client: redis.Redis, services: Services, torpor: Torpor, point: str
) -> None:
    sleep(client, services, "s", "hello")
    copy = copied_archive(services)
    watched, points = watch(copy)
    act = archive_late(services) if point == "before identify" else lambda: claim_late(services)
    points.at(point, act)
    with pytest.raises(TransientError, match="Stop the workers"):
        moves.move_archive(watched, moves.survey(watched))
    assert not points.pending
    if point == "after identify":
        archive_late(services)()
    check_moves_when_it_is_copied_again(services, torpor, copy)


def claim_late(services: Services) -> None:
    """Claim a session as a worker does, who then sees the new URL and gives it back."""
    say(services.sessions.client, "late", "hello")
    with pytest.raises(DeploymentMismatch, match="-copy"):
        archive_session(services, "late")


def check_moves_when_it_is_copied_again(services: Services, torpor: Torpor, copy: Services) -> None:
    there = {"ARCHIVE_URL": copy.archive.url}
    assert state_of(services) is State.AGREE
    assert is_refused(torpor("deployment", "move-archive", "--yes", **there), "'late'")
    copied_archive(services)
    assert torpor("deployment", "move-archive", "--yes", **there).code == 0
    assert torpor("restore", "late", **there).code == 0


def test_a_copy_that_still_has_what_was_purged_since_is_refused(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    """The copy is brought up to date by a tool that deletes nothing, when the tombstone has ended."""
    sleep(client, services, "s", "hello")
    sleep(client, services, "t", "hello")
    copy = copied_archive(services)
    purge_session(with_settings(services, tombstone_seconds=1), "s")
    wait_until(lambda: drain(services, SHARDS) and not services.sessions.info("s"))
    copied_archive(services)
    there = {"ARCHIVE_URL": copy.archive.url}
    for option in ("--yes", "--dry-run"):
        said = torpor("deployment", "move-archive", option, **there)
        assert is_refused(said, "erased since", services.archive.url, "'s'"), said
    originals = {stored.name for stored in services.archive.list("")}
    for stored in list(copy.archive.list("")):
        if stored.name not in originals:
            copy.archive.delete(stored)
    assert torpor("deployment", "move-archive", "--yes", **there).code == 0
    assert (torpor("restore", "s", **there).code, torpor("restore", "t", **there).code) == (3, 0)


def drained(services: Services) -> None:
    drain(services, SHARDS)


def archived(services: Services) -> None:
    archive_session(services, "s")


def relieved(services: Services) -> None:
    with Pool(services) as pool:
        pool.begin(services.sessions.claim_nearest(SHARDS, 10, services.settings.lease))


@pytest.mark.parametrize("work", [drained, archived, relieved])
def test_whoever_claims_after_the_move_gives_back_and_uploads_nothing_to_the_original(
    client: redis.Redis, services: Services, torpor: Torpor, work: Callable[[Services], None]
) -> None:
    """Its work has begun before, so nobody has compared both sides since."""
    sleep(client, services, "before", "hello")
    copy = copied_archive(services)
    assert torpor("deployment", "move-archive", "--yes", ARCHIVE_URL=copy.archive.url).code == 0
    say(client, "s", "hello")
    services.sessions.close("s")
    with pytest.raises(DeploymentMismatch, match="-copy"):
        work(services)
    assert not contents.look(services.archive, "s").segments
    info = services.sessions.info("s")
    assert info
    assert (info.status, info.attempts) == (Status.DUE, 0)
    assert archive_session(copy, "s").outcome is Outcome.ARCHIVED


# A fork of the original itself


@pytest.fixture
def other(tmp_path: Path) -> Iterator[redis.Redis]:
    """Another Redis, which is empty."""
    server = start_redis(tmp_path)
    with server.client() as connected:
        yield connected
    server.stop()


def worker_was_seen(services: Services) -> None:
    services.sessions.note_seen("worker:w", {"worker:w": "{}"}, timedelta(days=1))


def fence_was_moved(services: Services) -> None:
    move_fence(services, 3)


def swept(services: Services) -> None:
    presence.note_sweep(services)


@pytest.mark.parametrize("at_work", [worker_was_seen, fence_was_moved, swept])
def test_the_original_redis_is_no_copy_though_the_archive_is_one(
    client: redis.Redis, services: Services, torpor: Torpor, at_work: Callable[[Services], None]
) -> None:
    sleep(client, services, "s", "hello")
    at_work(services)
    copy = copied_archive(services)
    there = {"ARCHIVE_URL": copy.archive.url}
    before = contents_of(services.sessions, copy.archive)
    for option in ("--yes", "--dry-run"):
        assert is_refused(torpor("deployment", "fork", option, **there), "may be the original", "--force")
    assert contents_of(services.sessions, copy.archive) == before
    assert state_of(services) is State.AGREE
    assert torpor("deployment", "fork", "--yes", "--force", **there).code == 0
    assert state_of(copy) is State.AGREE


@pytest.mark.single_node(reason="the other Redis is one server")
def test_a_copy_of_redis_is_forked_when_the_original_has_gone_on(
    client: redis.Redis, services: Services, torpor: Torpor, other: redis.Redis
) -> None:
    sleep(client, services, "s", "hello")
    move_fence(services, 3)
    worker_was_seen(services)
    Backup.of(client).restore(other)
    production = replace(services, sessions=SessionStore(other), archive=open_archive(services.archive.url))
    there = {"ARCHIVE_URL": copied_archive(services).archive.url}
    assert is_refused(torpor("deployment", "fork", "--yes", **there), "Workers were at work", "5 minutes old")
    let_minutes_pass(client, 6)
    assert is_refused(torpor("deployment", "fork", "--yes", **there), "was the last one that moved the fence")
    move_fence(production, 2)
    assert torpor("deployment", "fork", "--yes", **there).code == 0
    assert state_of(production) is State.AGREE
    assert torpor("restore", "s", **there).code == 0


def let_minutes_pass(client: redis.Redis, minutes: int) -> None:
    """Make all that was seen by a Redis so much older."""
    for field, value in raw(client, "HGETALL", seen_key("torpor")).items():
        if field.startswith(b"seen:"):
            raw(client, "HSET", seen_key("torpor"), field, int(value) - 60_000 * minutes)
