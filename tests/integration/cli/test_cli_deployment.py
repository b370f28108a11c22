"""`torpor deployment` shows both sides, and `recover` is for a Redis that was lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from support.backups import Backup, move_fence
from support.cli_sessions import chat, say, sleep
from support.command import Torpor, is_refused
from support.identity import deployment_of
from support.keyspace import raw
from support.rewinding import killed_at
from support.two_sides import OTHERS, contents_of, recorded
from torpor.worker.archive import contents, ownership
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders
from torpor.worker.erasure.order import Order
from torpor.worker.failpoints import Failpoint
from torpor.worker.ops import catching_up, recovery
from torpor.worker.retention.legal_hold import hold_owner, hold_session
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("as_in_cloud_storage")]

SHARDS = list(range(256))


def lose(client: redis.Redis) -> None:
    client.flushall()


# Show


def test_both_sides_are_shown_and_a_disagreement_is_exit_code_2(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    shown = torpor("deployment", "--json")
    assert (shown.code, shown.json["state"]) == (0, "agree")
    assert shown.json["redis"]["deployment"] == shown.json["archive"]["deployment"] == deployment_of(services.archive)
    assert shown.json["redis"]["archive"] == shown.json["archive"]["url"] == services.archive.url
    assert torpor("deployment").out.splitlines()[0].split() == ["state", "agree"]
    lose(client)
    shown = torpor("deployment", "--json")
    assert (shown.code, shown.json["state"], shown.json["redis"]["deployment"]) == (2, "disagree", None)
    assert "torpor deployment recover" in shown.err


# Redis was lost


def test_nothing_of_an_archive_is_lost_when_another_redis_takes_it_over(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    for session_id, owner in (("a1", "ann"), ("a2", "ann"), ("b1", "bob"), ("b2", "bob"), ("free", "eve")):
        sleep(client, services, session_id, "hello", owner=owner)
    sleep(client, services, "nobody's", "hello", owner=None)
    hold_owner(services, "ann", "case 1")
    hold_session(services, "b1", "case 2")
    hold_session(services, "nobody's", "case 3")
    orders.place(services, Order.of(session="free", id="begun"))
    was = deployment_of(services.archive)
    lose(client)
    say(client, "late", "written while Redis was new")
    for door in ("purge --owner ann --yes", "show a1", "archive late"):
        assert is_refused(torpor(*door.split()), "recover")
    before = contents_of(services.sessions, services.archive)
    dry = torpor("deployment", "recover", "--dry-run", "--json")
    assert (dry.code, dry.json["held_owners"], dry.json["held_sessions"]) == (0, ["ann"], ["b1", "nobody's"])
    assert contents_of(services.sessions, services.archive) == before

    done = torpor("deployment", "recover", "--yes", "--json")
    assert (done.code, done.json["state"], done.json["archive"]["former"]) == (0, "agree", [was])
    assert deployment_of(services.archive) != was, "the lost Redis is refused, should it come back"
    say(client, "a3", "a later session of hers", owner="ann")
    for held in ("--owner ann", "--session b1", "--session nobody's"):
        assert torpor("purge", *held.split(maxsplit=1), "--yes").code == 1
    for held in ("a1", "a2", "a3", "b1", "nobody's"):
        assert torpor("show", held).code == 0
    assert torpor("purge", "--session", "b2", "--yes").code == 0
    assert torpor("purge", "--resume", "begun").code == 0
    assert torpor("show", "free").code == 3
    assert torpor("unhold", "--session", "b1").code == 0
    assert torpor("purge", "--session", "b1", "--yes").code == 0
    assert torpor("deployment", "recover", "--yes").out.endswith("nothing to do: both belong together\n")


def test_holds_come_back_as_those_of_sessions_or_of_owners_that_they_were(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    """Also where the owner has no other session. Objects of older versions do not tell: the hold is the owner's."""
    for session_id, owner in (("only", "eve"), ("of his", "wim"), ("both", "pat")):
        say(client, session_id, owner=owner)
    sleep(client, services, "old", owner="mia")
    hold_session(services, "only", "case 1")
    hold_owner(services, "wim", "case 2")
    hold_owner(services, "pat", "case 3")
    hold_session(services, "both", "case 4")
    hold_session(services, "old", "case 5")
    drain(services, SHARDS)
    for session_id in ("only", "of his", "both"):
        assert archive_session(services, session_id).outcome is Outcome.ARCHIVED
    for stored in services.archive.list("v1/"):
        if stored.metadata.get("session") == "old" and stored.held:
            services.archive.amend(stored, entries={"session_hold": None})
    lose(client)
    done = torpor("deployment", "recover", "--yes", "--json")
    assert (done.code, done.json["held_sessions"]) == (0, ["both", "only"])
    assert done.json["held_owners"] == ["mia", "pat", "wim"]
    say(client, "another", owner="eve")
    assert torpor("purge", "--session", "another", "--yes").code == 0
    assert torpor("unhold", "--session", "both").code == 0
    assert torpor("purge", "--session", "both", "--yes").code == 1, "her owner's hold stands"


def test_a_hold_of_an_owner_that_came_after_the_backup_is_added_to_the_sessions_own(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    sleep(client, services, "s", owner="ann")
    hold_session(services, "s", "case 1")
    drain(services, SHARDS)
    move_fence(services, 2)
    backup = Backup.of(client)
    move_fence(services, 3)
    hold_owner(services, "ann", "case 2")
    drain(services, SHARDS)
    backup.restore(client)
    done = torpor("deployment", "recover", "--yes", "--force", "--json")
    assert (done.json["held_sessions"], done.json["held_owners"]) == ([], ["ann"])
    hold = services.sessions.find_holds([("s", [])])[0]
    assert hold
    assert hold.reason == "case 1", "its reason stays"


def test_an_epoch_after_a_recovery_is_above_those_of_the_archive(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    """The clock of the new Redis may be behind the one of the lost Redis."""
    [seconds, _] = raw(client, "TIME")
    ahead = (int(seconds) + 86_400) * 1_000_000
    shard = services.sessions.shard_of("s")
    services.sessions.note_epochs({shard: ahead})
    sleep(client, services, "s", "first")
    lose(client)
    assert torpor("deployment", "recover", "--yes").code == 0
    say(client, "s", "second")
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    epochs = [each.name.epoch for each in contents.look(services.archive, "s").segments]
    assert len(epochs) == 2
    assert ahead < min(epochs)
    assert torpor("restore", "s").code == 0
    assert [message.content for message in chat(client, "s").messages] == ["first", "second"]


def test_a_lost_redis_that_comes_back_is_refused_until_it_takes_over_itself(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    sleep(client, services, "s", "hello")
    was = services.sessions.identity()
    assert was.deployment
    lose(client)
    assert torpor("deployment", "recover", "--yes").code == 0
    lose(client)
    assert services.sessions.identify(services.sessions.identity(), was.deployment, was.archive)
    assert is_refused(torpor("purge", "--owner", "ann", "--yes"), was.deployment, deployment_of(services.archive))
    assert torpor("deployment", "recover", "--yes").code == 0
    assert len(ownership.read(services.archive).former) == 2
    assert torpor("restore", "s").code == 0


def test_a_redis_of_another_deployment_takes_nothing_over_unless_it_gives_up_its_own(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    sleep(client, services, "s", "hello")
    lose(client)
    recorded(OTHERS, "gs://theirs/chats")(services)
    before = contents_of(services.sessions, services.archive)
    assert is_refused(torpor("deployment", "recover", "--yes"), f"--give-up {OTHERS}", "gs://theirs/chats")
    assert is_refused(torpor("deployment", "recover", "--yes", "--give-up", "0" * 32), f"--give-up {OTHERS}")
    assert contents_of(services.sessions, services.archive) == before
    assert torpor("deployment", "recover", "--yes", "--give-up", OTHERS).code == 0
    assert torpor("restore", "s").code == 0


@pytest.mark.parametrize("failpoint", [Failpoint.DEPLOYMENT_REBUILT, Failpoint.DEPLOYMENT_WRITTEN])
def test_a_recovery_that_is_killed_lets_nobody_in_and_is_finished_by_the_next(
    client: redis.Redis, services: Services, torpor: Torpor, failpoint: Failpoint
) -> None:
    sleep(client, services, "s", "hello")
    hold_session(services, "s", "case 1")
    lose(client)
    with killed_at(failpoint):
        recovery.recover(services, catching_up.survey(services))
    assert is_refused(torpor("purge", "--session", "s", "--yes"), "recover")
    assert torpor("deployment", "recover", "--yes").code == 0
    assert torpor("purge", "--session", "s", "--yes").code == 1, "the hold stands"
    assert drain(services, SHARDS)[Outcome.HOLD_APPLIED] == 1


def test_a_url_that_is_not_the_recorded_one_leads_to_no_recovery(
    services: Services, torpor: Torpor, scratch: Path
) -> None:
    (scratch / "empty").mkdir()
    said = torpor("deployment", ARCHIVE_URL=(scratch / "empty").as_uri())
    assert is_refused(said, "Check TORPOR_ARCHIVE_URL", services.archive.url)
    assert "recover" not in said.said


@pytest.mark.parametrize("failpoint", [None, Failpoint.DEPLOYMENT_REBUILT, Failpoint.DEPLOYMENT_WRITTEN])
def test_a_recovery_that_is_run_again_tells_once_more_whose_holds_are_back(
    client: redis.Redis, services: Services, torpor: Torpor, failpoint: Failpoint | None
) -> None:
    """Also after it has ended: the output of the first run may be lost."""
    for session_id, owner in (("a", "ann"), ("b", "bob")):
        sleep(client, services, session_id, "hello", owner=owner)
    hold_owner(services, "ann", "case 1")
    hold_session(services, "b", "case 2")
    lose(client)
    if failpoint:
        with killed_at(failpoint):
            recovery.recover(services, catching_up.survey(services))
    else:
        assert torpor("deployment", "recover", "--yes").code == 0
    again = torpor("deployment", "recover", "--dry-run", "--json")
    assert (again.json["held_owners"], again.json["held_sessions"]) == (["ann"], ["b"])
    told = torpor("deployment", "recover", "--yes").out
    assert "a legal hold, whose reason was lost: owner ann\n" in told
    assert "a legal hold, whose reason was lost: session b\n" in told
