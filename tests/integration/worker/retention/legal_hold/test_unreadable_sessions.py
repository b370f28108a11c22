"""Sessions that can't be read, some under damaged holds: they stay, are named, and the others of their owner go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import unescape

import pytest

from support.command import Torpor, succeed
from support.consoles import OFFICER, Console, served
from support.damaged import Holds, damage, names_all, of_holds, of_redis
from support.held import A, held, objects, say, sleep
from support.keyspace import raw
from support.rewinding import at, killed_at
from torpor.history.protocol import ClaimOutcome
from torpor.worker.deployment.services import Services
from torpor.worker.erasure.order import Order, Scope
from torpor.worker.erasure.purge import carry_out, purge
from torpor.worker.erasure.receipt import PurgeState
from torpor.worker.failpoints import Failpoint
from torpor.worker.ops.doctor import examine
from torpor.worker.ops.finding import Ailment
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session


@pytest.fixture
def console(services: Services) -> Iterator[Console]:
    with served(services) as running:
        yield running


def damage_session(services: Services) -> str:
    """Damage the metadata of the session; returns how that is told."""
    keys = services.sessions.deployment.keyspace.of(b"s")
    of_redis(services, keys.metadata(b"s"), "epoch", "yesterday")
    return "the metadata of session 's' is damaged"


def replace_session(services: Services) -> str:
    """Put a key of another type where the messages of the session are; returns how that is told."""
    key = services.sessions.deployment.keyspace.of(b"s").messages(b"s")
    raw(services.sessions.client, "DEL", key)
    raw(services.sessions.client, "SET", key, "another program's")
    return "WRONGTYPE"


of_damages = pytest.mark.parametrize("spoil", [damage_session, replace_session], ids=lambda each: each.__name__)


@of_damages
@of_holds
def test_a_hold_of_an_owner_goes_on_after_a_session_that_can_t_be_read(
    services: Services, torpor: Torpor, holds: Holds, spoil: Callable[[Services], str]
) -> None:
    for session_id in ("s", "t"):
        sleep(services, session_id, A)
        restore_session(services, session_id)
    damage(services, holds)
    spoil(services)
    succeed(torpor, "hold", "--owner", "ann", "--reason", "case 9")
    assert (held(services, "s"), held(services, "t")) == ([True], [True])
    succeed(torpor, "unhold", "--owner", "ann")
    # Nobody knows whose that session is, so its objects stay held.
    assert (held(services, "s"), held(services, "t")) == ([True], [False])


def replace_due(services: Services) -> str:
    """Put a key of another type where the shard's due index is; returns how that is told."""
    key = services.sessions.deployment.keyspace.of(b"s").due
    raw(services.sessions.client, "DEL", key)
    raw(services.sessions.client, "SET", key, "another program's")
    return "WRONGTYPE"


@pytest.mark.parametrize("spoil", [damage_session, replace_session, replace_due], ids=lambda each: each.__name__)
@pytest.mark.parametrize("was_held", [False, True])
def test_a_hold_of_a_session_that_can_t_be_read_is_changed_or_the_command_says_that_it_is_not(
    services: Services, torpor: Torpor, spoil: Callable[[Services], str], *, was_held: bool
) -> None:
    sleep(services, "s", A)
    restore_session(services, "s")
    if was_held:
        succeed(torpor, "hold", "--session", "s", "--reason", "case 8")
    told = spoil(services)
    change = ["unhold"] if was_held else ["hold", "--reason", "case 8"]
    done = torpor(*change, "--session", "s")
    is_changed = bool(succeed(torpor, "holds", "--json").lines) is not was_held
    assert (done.code, told in done.said) == ((0, False) if is_changed else (1, True)), done
    assert is_changed == (spoil is damage_session)


@pytest.mark.parametrize("of_owner", [False, True], ids=["sessions alone", "and their owner"])
def test_doctor_puts_the_lost_holds_of_the_others_back_and_names_the_session_that_can_t_be_read(
    services: Services, torpor: Torpor, *, of_owner: bool
) -> None:
    keyspace, client = services.sessions.deployment.keyspace, services.sessions.client
    for session_id in ("s", "t"):
        sleep(services, session_id, A)
        succeed(torpor, "hold", "--session", session_id, "--reason", "case 8")
    if of_owner:
        succeed(torpor, "hold", "--owner", "ann", "--reason", "case 9")
        assert [raw(client, "HDEL", keyspace.shard(shard).holds, "oann") for shard in range(keyspace.shards)] == [1] * 4
    for session_id in ("s", "t"):
        assert raw(client, "HDEL", keyspace.of(session_id.encode()).holds, f"s{session_id}") == 1
    replace_session(services)
    found = {each.session_id: each for each in examine(services, repair=True) if each.ailment is Ailment.HOLD_LOST}
    assert (found["t"].repaired, found["s"].repaired) == (True, False)
    assert "WRONGTYPE" in (found["s"].detail or "")
    put_back = {each["id"] for each in succeed(torpor, "holds", "--json").lines}
    assert put_back == ({"t", "ann"} if of_owner else {"t"})


def mend_session(services: Services, epoch: str) -> None:
    """Write the epoch back that was damaged."""
    of_redis(services, services.sessions.deployment.keyspace.of(b"s").metadata(b"s"), "epoch", epoch)


def rebuild_session(services: Services, epoch: str) -> None:
    """Delete the damaged metadata, and have doctor rebuild them."""
    raw(services.sessions.client, "DEL", services.sessions.deployment.keyspace.of(b"s").metadata(b"s"))
    [found] = [each for each in examine(services, repair=True) if each.session_id == "s"]
    assert (found.ailment, found.repaired) == (Ailment.METADATA_LOST, True)


@pytest.mark.parametrize("mend", [mend_session, rebuild_session], ids=lambda each: each.__name__)
@pytest.mark.parametrize("scope", [Scope.EVERYWHERE, Scope.LIVE])
@pytest.mark.parametrize("point", [Failpoint.PURGE_LISTED, Failpoint.PURGE_REMOVED])
def test_a_session_that_can_be_read_again_before_the_recheck_does_not_count_as_removed(
    services: Services, point: Failpoint, scope: Scope, mend: Callable[[Services, str], None]
) -> None:
    for session_id in ("s", "t"):
        say(services, session_id, A)
    client, keys = services.sessions.client, services.sessions.deployment.keyspace.of(b"s")
    epoch = raw(client, "HGET", keys.metadata(b"s"), "epoch").decode()
    damage_session(services)
    with at(point, lambda: mend(services, epoch)):
        standing = purge(services, Order.of(owner="ann", scope=scope))
    assert standing.receipt
    [kept] = standing.receipt.kept.named
    assert (kept.session, "order the purge again" in kept.why) == ("s", True)
    assert (standing.receipt.removed.sessions, raw(client, "LLEN", keys.messages(b"s"))) == (1, 1)
    again = purge(services, Order.of(session="s", scope=scope))
    assert again.receipt
    assert (again.state, again.receipt.removed.sessions) == (PurgeState.COMPLETE, 1)
    assert raw(client, "LLEN", keys.messages(b"s")) == 0


@pytest.mark.parametrize("mend", [mend_session, rebuild_session], ids=lambda each: each.__name__)
@pytest.mark.parametrize("point", [Failpoint.PURGE_LISTED, Failpoint.PURGE_REMOVED])
def test_a_session_that_can_be_read_again_and_falls_asleep_before_the_recheck_does_not_count_as_removed(
    services: Services, point: Failpoint, mend: Callable[[Services, str], None]
) -> None:
    for session_id in ("s", "t"):
        say(services, session_id, A)
    client, keys = services.sessions.client, services.sessions.deployment.keyspace.of(b"s")
    epoch = raw(client, "HGET", keys.metadata(b"s"), "epoch").decode()
    damage_session(services)

    def mend_and_archive() -> None:
        mend(services, epoch)
        assert archive_session(services, "s").outcome is Outcome.ARCHIVED

    with at(point, mend_and_archive):
        standing = purge(services, Order.of(owner="ann"))
    assert standing.receipt
    [kept] = standing.receipt.kept.named
    assert (kept.session, "order the purge again" in kept.why) == ("s", True)
    assert (standing.receipt.removed.sessions, len(objects(services, "s"))) == (1, 1)
    again = purge(services, Order.of(session="s"))
    assert again.receipt
    assert (again.state, again.receipt.removed.sessions) == (PurgeState.COMPLETE, 1)
    assert objects(services, "s") == []


@pytest.mark.parametrize("mend", [mend_session, rebuild_session], ids=lambda each: each.__name__)
def test_a_run_that_was_killed_after_the_list_is_continued_when_the_session_can_be_read_again(
    services: Services, mend: Callable[[Services, str], None]
) -> None:
    for session_id in ("s", "t"):
        say(services, session_id, A)
    client, keys = services.sessions.client, services.sessions.deployment.keyspace.of(b"s")
    epoch = raw(client, "HGET", keys.metadata(b"s"), "epoch").decode()
    damage_session(services)
    order = Order.of(owner="ann")
    with killed_at(Failpoint.PURGE_LISTED):
        purge(services, order)
    mend(services, epoch)
    standing = carry_out(services, order.id)
    assert standing.receipt
    assert (standing.state, standing.receipt.removed.sessions) == (PurgeState.COMPLETE, 2)
    assert raw(client, "LLEN", keys.messages(b"s")) == 0


@pytest.mark.parametrize("point", [Failpoint.PURGE_LISTED, Failpoint.PURGE_REMOVED])
def test_a_purge_of_the_archive_alone_removes_the_objects_of_a_session_that_can_be_read_again(
    services: Services, point: Failpoint
) -> None:
    sleep(services, "s", A)
    restore_session(services, "s")
    client, keys = services.sessions.client, services.sessions.deployment.keyspace.of(b"s")
    epoch = raw(client, "HGET", keys.metadata(b"s"), "epoch").decode()
    damage_session(services)
    with at(point, lambda: mend_session(services, epoch)):
        standing = purge(services, Order.of(owner="ann", scope=Scope.ARCHIVE))
    assert standing.receipt
    assert (standing.state, standing.receipt.removed.sessions) == (PurgeState.COMPLETE, 1)
    assert not [name for name in objects(services, "s") if name.endswith(".jsonl.gz")]
    assert raw(client, "LLEN", keys.messages(b"s")) == 1


@of_damages
@pytest.mark.parametrize("scope", Scope)
def test_a_purge_of_an_owner_removes_the_others_and_names_the_session_that_can_t_be_read(
    services: Services, scope: Scope, spoil: Callable[[Services], str]
) -> None:
    for session_id in ("s", "t"):
        sleep(services, session_id, A)
        restore_session(services, session_id)
    told = spoil(services)
    before = objects(services, "s")
    for order in (Order.of(owner="ann", scope=scope), Order.of(session="s", scope=scope)):
        standing = purge(services, order)
        assert (standing.state, standing.error) == (PurgeState.BLOCKED, None)
        assert standing.receipt
        assert standing.receipt.removed.sessions == (1 if order.owner else 0)
        [kept] = standing.receipt.kept.named
        assert (kept.session, told in kept.why, "torpor doctor" in kept.why) == ("s", True, True)
    assert objects(services, "s") == before
    assert services.sessions.claim_one("s", services.settings.lease) is not ClaimOutcome.MISSING


@of_damages
@of_holds
def test_the_page_of_a_session_that_can_t_be_read_says_so_and_names_its_damaged_holds(
    services: Services, torpor: Torpor, console: Console, holds: Holds, spoil: Callable[[Services], str]
) -> None:
    sleep(services, "s", A)
    restore_session(services, "s")
    damage(services, holds)
    told = spoil(services)
    shown = succeed(torpor, "sessions", "--id", "s", "--json")
    assert (shown.json["state"], told in shown.json["error"], names_all(shown.said, holds)) == (
        "unreadable",
        True,
        True,
    )
    page = unescape(console.visitor(OFFICER).get("/session?id=s").text)
    assert (told in page, names_all(page, holds)) == (True, True)
    assert objects(services, "s")[0] in page
