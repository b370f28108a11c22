"""`torpor deployment move-archive` and `fork`: a bucket that moves, and copies for staging."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import redis

from support.backups import copied_archive, let_minutes_pass_in_the_archive, move_fence, token_of
from support.cli_sessions import say, sleep
from support.command import Torpor, is_refused
from support.identity import deployment_of, state_of
from support.rewinding import at, killed_at
from support.two_sides import OTHERS, contents_of
from torpor.history.protocol import Lease
from torpor.worker.archive import contents, ownership
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment.identity import State
from torpor.worker.deployment.services import Services
from torpor.worker.failpoints import Failpoint
from torpor.worker.ops import catching_up, forks, moves
from torpor.worker.retention.legal_hold import hold_owner, hold_session
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("as_in_cloud_storage")]

SHARDS = list(range(256))


# The archive has moved


def test_a_bucket_that_has_moved_is_recorded_and_its_sessions_wake_up(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    sleep(client, services, "s", "hello")
    moved = copied_archive(services)
    there = {"ARCHIVE_URL": moved.archive.url}
    assert is_refused(torpor("restore", "s", **there), services.archive.url, moved.archive.url, "move-archive", "fork")
    before = contents_of(services.sessions, moved.archive)
    dry = torpor("deployment", "move-archive", "--dry-run", "--json", **there)
    assert (dry.code, dry.json["changes"], dry.json["state"]) == (0, True, "disagree")
    assert torpor("deployment", "move-archive", answer="n\n", **there).code == 1
    assert contents_of(services.sessions, moved.archive) == before
    assert torpor("deployment", "move-archive", answer="y\n", **there).code == 0
    assert state_of(moved) is State.AGREE
    again = torpor("deployment", "move-archive", "--yes", "--json", **there)
    assert (again.code, again.json["changes"]) == (0, False)
    assert torpor("restore", "s", **there).code == 0
    assert is_refused(torpor("restore", "s"), "move-archive"), "the old place is refused now"


def test_an_archive_without_the_same_id_has_not_moved(
    client: redis.Redis, services: Services, torpor: Torpor, scratch: Path
) -> None:
    empty, others = (open_archive((scratch / name).as_uri()) for name in ("empty", "others"))
    ownership.write(others, ownership.read(others), "torpor", OTHERS)
    before = contents_of(services.sessions, services.archive)
    for place in (empty, others):
        assert is_refused(torpor("deployment", "move-archive", "--yes", ARCHIVE_URL=place.url), place.url)
    assert contents_of(services.sessions, services.archive) == before
    assert deployment_of(others) == OTHERS


@pytest.mark.parametrize("minutes", [2, 40])
def test_a_copy_that_is_older_than_the_last_uploads_is_refused_until_it_is_copied_again(
    client: redis.Redis, services: Services, torpor: Torpor, minutes: int
) -> None:
    move_fence(services, 2)
    sleep(client, services, "before", "hello")
    copy = copied_archive(services)
    there = {"ARCHIVE_URL": copy.archive.url}
    theirs = token_of(services)
    sleep(client, services, "after", "hello")
    move_fence(services, minutes)
    let_minutes_pass_in_the_archive(copy, 6)
    before = contents_of(services.sessions, copy.archive)
    for options in ("--yes", "--dry-run"):
        said = torpor("deployment", "move-archive", options, **there)
        assert is_refused(
            said, services.archive.url, copy.archive.url, str(theirs), "Copy the archive again", "--force"
        )
    assert contents_of(services.sessions, copy.archive) == before
    copied_archive(services)
    assert torpor("deployment", "move-archive", "--yes", **there).code == 0
    assert torpor("restore", "after", **there).code == 0


def test_a_copy_that_lacks_an_upload_of_the_last_minute_is_refused_and_names_the_session(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    """Its token is the newest one."""
    move_fence(services, 2)
    sleep(client, services, "before", "hello")
    copy = copied_archive(services)
    there = {"ARCHIVE_URL": copy.archive.url}
    sleep(client, services, "after", "hello", owner="ann")
    for options in ("--yes", "--dry-run"):
        said = torpor("deployment", "move-archive", options, **there)
        assert is_refused(said, copy.archive.url, f"2 objects of {services.archive.url}", "'after'", "--force")
    forced = torpor("deployment", "move-archive", "--yes", "--force", "--json", **there)
    assert (forced.code, forced.json["missing"]) == (
        0,
        {"original": services.archive.url, "count": 2, "sessions": ["after"]},
    )
    assert state_of(copy) is State.AGREE


def test_of_an_original_that_is_gone_redis_tells_what_a_copy_lacks(
    client: redis.Redis, services: Services, torpor: Torpor, scratch: Path
) -> None:
    for name in ("whole", "grown", "woken", "grown since"):
        sleep(client, services, name, "1", "2")
        assert torpor("restore", name).code == 0
    assert archive_kept(services, "grown")
    copy = copied_archive(services)
    assert archive_kept(services, "grown since")
    say(client, "new", "never archived")
    for stored in contents.look(copy.archive, "woken").segments:
        assert copy.archive.delete(stored.stored)
    was = services.sessions.identity()
    assert was.deployment
    assert services.sessions.identify(was, was.deployment, (scratch / "gone").as_uri())
    there = {"ARCHIVE_URL": copy.archive.url}
    said = torpor("deployment", "move-archive", "--yes", **there)
    assert is_refused(said, "segments of 2 sessions", "'woken'", "'grown since'")
    forced = torpor("deployment", "move-archive", "--yes", "--force", **there)
    assert (forced.code, "lacks segments of 2 sessions" in forced.said) == (0, True)


def test_an_archive_does_not_move_while_workers_archive_into_the_original(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    say(client, "s", "hello")
    copy = copied_archive(services)
    there = {"ARCHIVE_URL": copy.archive.url}
    lease = services.sessions.claim_one("s", services.settings.lease)
    assert isinstance(lease, Lease)
    for options in ("--yes", "--dry-run"):
        said = torpor("deployment", "move-archive", options, **there)
        assert (said.code, "1 sessions are leased by workers" in said.said) == (4, True)
    assert state_of(services) is State.AGREE
    assert services.sessions.release(lease, timedelta(), counted=False)
    assert torpor("deployment", "move-archive", "--yes", **there).code == 0


def archive_kept(services: Services, session_id: str) -> bool:
    """Archive a new message while another one is written, so that the session stays in Redis."""
    say(services.sessions.client, session_id, "new", owner="ann")
    with at(Failpoint.ARCHIVE_VERIFIED, lambda: say(services.sessions.client, session_id, "more", owner="ann")):
        return archive_session(services, session_id).outcome is Outcome.KEPT


def copied_without_holds(client: redis.Redis, services: Services) -> tuple[list[str], Services]:
    """The objects of two sessions that are held, beside a free one, and a copy of the archive that lacks the holds."""
    for session_id, owner in (("a1", "ann"), ("b1", "bob"), ("free", "eve")):
        sleep(client, services, session_id, "hello", owner=owner)
    hold_owner(services, "ann", "case 1")
    hold_session(services, "b1", "case 2")
    drain(services, SHARDS)
    held = held_objects(services.archive)
    return held, copied_archive(services, keep_holds=False)


def test_a_moved_archive_gets_the_temporary_holds_again_that_its_copy_lacks(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    held, copy = copied_without_holds(client, services)
    there = {"ARCHIVE_URL": copy.archive.url}
    dry = torpor("deployment", "move-archive", "--dry-run", "--json", **there)
    assert sorted(dry.json["held_again"]) == ["a1", "b1"]
    assert held_objects(copy.archive) == []
    with killed_at(Failpoint.DEPLOYMENT_FENCED):
        moves.move_archive(copy, moves.survey(copy))
    said = torpor("deployment", "move-archive", "--yes", **there)
    assert (said.code, "2 sessions are under a legal hold" in said.said) == (0, True)
    assert held_objects(copy.archive) == held


# A copy for staging


def test_copies_get_an_id_of_their_own_and_the_original_is_not_touched(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    sleep(client, services, "s", "hello")
    was = deployment_of(services.archive)
    original = [(each.name, each.generation) for each in services.archive.list("")]
    assert is_refused(torpor("deployment", "fork", "--yes"), "the original archive")
    copy = copied_archive(services)
    there = {"ARCHIVE_URL": copy.archive.url}
    before = contents_of(services.sessions, copy.archive)
    assert torpor("deployment", "fork", "--dry-run", **there).code == 0
    assert contents_of(services.sessions, copy.archive) == before
    with killed_at(Failpoint.DEPLOYMENT_WRITTEN):
        forks.fork(copy, catching_up.survey(copy))
    assert is_refused(torpor("restore", "s", **there), was)
    assert torpor("deployment", "fork", "--yes", **there).code == 0
    assert state_of(copy) is State.AGREE
    assert ownership.read(copy.archive).former[0] == was
    forked = contents_of(services.sessions, copy.archive)
    again = torpor("deployment", "fork", "--yes", **there)
    assert (again.code, again.out.splitlines()[-1]) == (0, "nothing to do: both belong together")
    assert torpor("deployment", "fork", "--yes", "--json", **there).json["changes"] is False
    assert contents_of(services.sessions, copy.archive) == forked
    assert torpor("restore", "s", **there).code == 0
    assert [(each.name, each.generation) for each in services.archive.list("")] == original
    assert is_refused(torpor("restore", "s"), was), "the copy of Redis is refused by the original archive"


def test_a_fork_holds_the_copied_objects_again_that_the_copy_has_without_their_holds(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    held, copy = copied_without_holds(client, services)
    there = {"ARCHIVE_URL": copy.archive.url}
    dry = torpor("deployment", "fork", "--dry-run", "--json", **there)
    assert sorted(dry.json["held_again"]) == ["a1", "b1"]
    assert held_objects(copy.archive) == []
    for _ in range(2):
        with killed_at(Failpoint.DEPLOYMENT_REBUILT):
            forks.fork(copy, catching_up.survey(copy))
    done = torpor("deployment", "fork", "--yes", **there)
    assert done.code == 0
    assert held_objects(copy.archive) == held


def test_an_empty_redis_that_takes_over_a_copy_without_temporary_holds_gets_all_legal_holds_back(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    """The objects note the holds that they are under."""
    held, copy = copied_without_holds(client, services)
    client.flushall()
    there = {"ARCHIVE_URL": copy.archive.url}
    done = torpor("deployment", "recover", "--yes", "--json", **there)
    assert (done.code, done.json["held_owners"], done.json["held_sessions"]) == (0, ["ann"], ["b1"])
    assert sorted(done.json["held_again"]) == ["a1", "b1"]
    assert held_objects(copy.archive) == held
    assert torpor("purge", "--session", "free", "--yes", **there).code == 0
    for option in ("--owner ann", "--session b1"):
        assert torpor("purge", *option.split(), "--yes", **there).code == 1


def test_a_fork_tells_what_a_copy_lacks_that_is_older_than_the_copy_of_redis(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    for name in ("s", "t"):
        sleep(client, services, name, "hello")
        assert torpor("restore", name).code == 0
    copy = copied_archive(services)
    assert archive_kept(services, "s")
    there = {"ARCHIVE_URL": copy.archive.url}
    for option in ("--dry-run", "--yes"):
        done = torpor("deployment", "fork", option, "--json", **there)
        assert (done.code, done.json["missing"]) == (0, {"original": None, "count": 1, "sessions": ["s"]})
    assert state_of(copy) is State.AGREE


def held_objects(archive: ArchiveStore) -> list[str]:
    return [stored.name for stored in archive.list("v1/") if stored.held]


def test_the_original_redis_takes_no_fork_over_unless_it_gives_up_its_own_archive(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    sleep(client, services, "s", "hello")
    was = services.sessions.identity()
    assert was.deployment
    copy = copied_archive(services)
    forks.fork(copy, catching_up.survey(copy))
    assert services.sessions.identify(services.sessions.identity(), was.deployment, was.archive)
    before = contents_of(services.sessions, copy.archive)
    assert is_refused(
        torpor("deployment", "recover", "--yes", ARCHIVE_URL=copy.archive.url), f"--give-up {was.deployment}"
    )
    assert contents_of(services.sessions, copy.archive) == before
    assert torpor("restore", "s").code == 0


def test_the_original_folder_is_no_copy_by_another_name(
    client: redis.Redis, services: Services, torpor: Torpor, scratch: Path
) -> None:
    if services.archive.url.startswith("gs:"):
        pytest.skip("a bucket has one name")
    (scratch / "link").symlink_to(scratch / "archive")
    assert is_refused(
        torpor("deployment", "fork", "--yes", ARCHIVE_URL=(scratch / "link").as_uri()), "original archive"
    )
