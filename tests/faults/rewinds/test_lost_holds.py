"""Legal holds that Redis has forgotten in a failover: nothing is destroyed until somebody has decided."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import pytest
import redis

from support.backups import Backup
from support.command import Torpor
from support.damaged import of_redis
from support.held import SHARDS, A, B, Killed, chat, objects, say, settle, sleep
from support.observed import watch
from support.rewinding import at
from support.sessions import with_settings
from support.transcripts import read_transcript
from support.waiting import wait_until
from torpor.history.protocol import SessionHeld, SessionStore
from torpor.worker.archive import contents, names
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders
from torpor.worker.erasure.order import Order, Scope
from torpor.worker.erasure.purge import carry_out, preview, purge
from torpor.worker.erasure.receipt import PurgeState
from torpor.worker.errors import PurgeOvertaken
from torpor.worker.failpoints import Failpoint
from torpor.worker.ops.doctor import examine
from torpor.worker.ops.finding import Ailment, Finding
from torpor.worker.retention import hold_notes, legal_hold, lost_holds
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session

LOST = "its objects are under a legal hold that Redis lacks: torpor doctor --repair, or torpor unhold"


@pytest.fixture(params=["folder", "a bucket", "a bucket that ignores holds"])
def archive_url(request: pytest.FixtureRequest) -> str:
    """An empty archive: a folder, a bucket that enforces holds, and one that does not, as the emulator."""
    if request.param == "folder":
        return f"{request.getfixturevalue('scratch').as_uri()}/archive"
    if request.param == "a bucket":
        request.getfixturevalue("proxy")
    return f"gs://{request.getfixturevalue('bucket')}/chats"


@pytest.fixture
def sessions(client: redis.Redis) -> SessionStore:
    return SessionStore(client, shards=4)


Set = Callable[[Services, str | None], object]
HOLDERS: dict[str, Set] = {
    "the session": lambda services, reason: legal_hold.hold_session(services, "s", reason),
    "its owner": lambda services, reason: legal_hold.hold_owner(services, "ann", reason),
}
ORDERS: dict[str, Callable[[], Order]] = {
    "of the session": lambda: Order.of(session="s"),
    "of the owner": lambda: Order.of(owner="ann"),
    "of idle sessions": lambda: Order.of(idle=timedelta(seconds=1)),
    "of the archive": lambda: Order.of(session="s", scope=Scope.ARCHIVE),
    "of Redis": lambda: Order.of(session="s", scope=Scope.LIVE),
}
of_holders = pytest.mark.parametrize("holder", HOLDERS)


def lose_hold(client: redis.Redis, services: Services, set_hold: Set) -> None:
    """Set a hold, and fail over to a replica that does not know of it."""
    replica = Backup.of(client)
    set_hold(services, "case 12")
    settle(services)
    replica.restore(client)
    assert services.sessions.find_holds([("s", ["ann"])]) == [None]


def findings(services: Services, *, repair: bool = False) -> list[Finding]:
    """What doctor says of holds; the elements of these tests are no messages."""
    return [each for each in examine(services, repair=repair) if each.ailment is Ailment.HOLD_LOST]


def noted(services: Services) -> list[bool]:
    return [bool(hold_notes.notes_of(each.stored)) for each in contents.look(services.archive, "s").segments]


@of_holders
@pytest.mark.parametrize("awake", [False, True], ids=["asleep", "awake"])
@pytest.mark.parametrize("order", ORDERS)
def test_a_purge_destroys_nothing_of_a_session_whose_hold_redis_has_forgotten(
    client: redis.Redis, services: Services, holder: str, order: str, *, awake: bool
) -> None:
    services = with_settings(services, tombstone_seconds=1)
    sleep(services, "s", A)
    if awake:
        restore_session(services, "s")
        say(services, "s", B)
    lose_hold(client, services, HOLDERS[holder])
    before = read_transcript(services, "s"), objects(services, "s")
    wanted = ORDERS[order]()
    if not awake and wanted.scope is Scope.LIVE:
        assert list(preview(services, wanted)) == []
        return
    wait_until(lambda: list(preview(services, wanted)), what="the session has been idle for long enough")
    assert [each.kept for each in preview(services, wanted)] == [LOST]

    standing = purge(services, wanted)

    assert standing.state is PurgeState.BLOCKED
    assert standing.receipt
    assert [(each.session, each.why) for each in standing.receipt.kept.named] == [("s", LOST)]
    assert (standing.receipt.removed.sessions, standing.receipt.found.sessions) == (0, 1)
    assert (read_transcript(services, "s"), objects(services, "s")) == before


@of_holders
def test_doctor_puts_a_forgotten_hold_back(
    client: redis.Redis, services: Services, torpor: Torpor, holder: str
) -> None:
    sleep(services, "s", A)
    sleep(services, "hers", A)
    sleep(services, "free", A, owner="bob")
    lose_hold(client, services, HOLDERS[holder])
    assert Ailment.HOLD_LOST in torpor("doctor", "--no-messages").out
    held = {"s"} if holder == "the session" else {"s", "hers"}
    assert {(each.session_id, each.ailment, each.repaired) for each in findings(services)} == {
        (session, Ailment.HOLD_LOST, False) for session in held
    }

    assert torpor("doctor", "--no-messages", "--repair").code == 0

    assert findings(services) == []
    settle(services)
    with pytest.raises(SessionHeld, match=lost_holds.REASON):
        chat(services).clear()
    if holder == "its owner":
        say(services, "later", A)
        with pytest.raises(SessionHeld):
            chat(services, "later").clear()
    assert purge(services, Order.of(session="s")).state is PurgeState.BLOCKED
    assert purge(services, Order.of(owner="bob")).state is PurgeState.COMPLETE
    HOLDERS[holder](services, None)
    assert purge(services, Order.of(session="s")).state is PurgeState.COMPLETE
    assert objects(services, "s") == []


@of_holders
def test_a_hold_after_a_release_by_a_clock_that_was_ahead_is_missed_when_redis_forgets_it(
    client: redis.Redis, services: Services, holder: str
) -> None:
    sleep(services, "s", A)
    for reason in ("case 11", None):
        HOLDERS[holder](services, reason)
        settle(services)
    in_a_year = (time.time_ns() // 1_000_000) + 365 * 86_400_000
    field = {"the session": "Ss", "its owner": "Oann"}[holder]
    of_redis(services, services.sessions.deployment.keyspace.of(b"s").holds, field, str(in_a_year))
    lose_hold(client, services, HOLDERS[holder])
    assert [each.kept for each in preview(services, Order.of(session="s"))] == [LOST]


@of_holders
def test_a_forgotten_hold_can_be_released(client: redis.Redis, services: Services, holder: str) -> None:
    sleep(services, "s", A)
    lose_hold(client, services, HOLDERS[holder])
    assert HOLDERS[holder](services, None)
    settle(services)
    assert HOLDERS[holder](services, None) is None
    assert (noted(services), findings(services)) == ([False], [])
    assert purge(services, Order.of(owner="ann")).state is PurgeState.COMPLETE


@of_holders
@pytest.mark.parametrize("told", [False, True], ids=["before the objects were told", "after that"])
def test_a_release_that_is_lost_leaves_the_session_held(
    client: redis.Redis, services: Services, holder: str, *, told: bool
) -> None:
    sleep(services, "s", A)
    HOLDERS[holder](services, "case 12")
    settle(services)
    replica = Backup.of(client)
    if told:
        HOLDERS[holder](services, None)
    elif holder == "the session":
        services.sessions.release_hold("s")
    else:
        services.sessions.hold_owner("ann", None)
    replica.restore(client)
    assert purge(services, Order.of(session="s")).state is PurgeState.BLOCKED
    assert read_transcript(services, "s") == [A]
    assert HOLDERS[holder](services, None)
    assert purge(services, Order.of(session="s")).state is PurgeState.COMPLETE


@of_holders
def test_a_hold_that_came_after_a_release_is_no_released_one(
    client: redis.Redis, services: Services, holder: str
) -> None:
    """Redis knows the release, and has forgotten the hold that came after it."""
    sleep(services, "s", A)
    for reason in ("case 12", None):
        HOLDERS[holder](services, reason)
        settle(services)
    lose_hold(client, services, HOLDERS[holder])
    assert purge(services, Order.of(session="s")).state is PurgeState.BLOCKED
    assert read_transcript(services, "s") == [A]


@pytest.mark.parametrize("lost", HOLDERS)
def test_a_forgotten_hold_outlives_the_release_of_the_other_one(
    client: redis.Redis, services: Services, lost: str
) -> None:
    [other] = HOLDERS.keys() - {lost}
    sleep(services, "s", A)
    HOLDERS[other](services, "case 13")
    lose = HOLDERS[lost]
    replica = Backup.of(client)
    lose(services, "case 12")
    settle(services)
    replica.restore(client)
    settle(services)
    HOLDERS[other](services, None)
    settle(services)
    assert purge(services, Order.of(session="s")).state is PurgeState.BLOCKED
    assert read_transcript(services, "s") == [A]
    assert lose(services, None)
    assert purge(services, Order.of(session="s")).state is PurgeState.COMPLETE


@of_holders
def test_a_purge_that_has_seen_the_hold_keeps_the_session_if_redis_then_forgets_it(
    client: redis.Redis, services: Services, holder: str
) -> None:
    sleep(services, "s", A)
    replica = Backup.of(client)
    HOLDERS[holder](services, "case 12")
    settle(services)
    order = Order.of(owner="ann")
    assert [each.kept for each in preview(services, order)] == ["legal hold: case 12"]
    with at(Failpoint.PURGE_LISTED, lambda: replica.restore(client)), pytest.raises(PurgeOvertaken):
        purge(services, order)  # its lock is lost too
    assert carry_out(services, order.id).state is PurgeState.BLOCKED
    assert read_transcript(services, "s") == [A]


@of_holders
def test_a_purge_that_was_killed_keeps_what_was_held_since(
    client: redis.Redis, services: Services, holder: str
) -> None:
    sleep(services, "s", A)
    order = Order.of(session="s")

    def die() -> None:
        raise Killed

    with at(Failpoint.PURGE_LISTED, die), pytest.raises(Killed):
        purge(services, order)
    lose_hold(client, services, HOLDERS[holder])
    assert list(orders.open_orders(services)) == [order.id]
    assert carry_out(services, order.id).state is PurgeState.BLOCKED
    assert read_transcript(services, "s") == [A]


@of_holders
def test_the_objects_of_a_session_that_was_cleared_because_redis_forgot_its_hold_stay(
    client: redis.Redis, services: Services, holder: str
) -> None:
    sleep(services, "s", A)
    lose_hold(client, services, HOLDERS[holder])
    there = objects(services, "s")
    chat(services).clear()
    assert drain(services, SHARDS)[Outcome.FAILED] == 1
    assert objects(services, "s") == there
    assert [each.ailment for each in findings(services, repair=True)] == [Ailment.HOLD_LOST]
    assert archive_session(services, "s").outcome is Outcome.FAILED
    assert objects(services, "s") == there
    HOLDERS[holder](services, None)
    archive_session(services, "s")
    assert objects(services, "s") == []


@of_holders
def test_a_worker_that_archives_the_session_again_leaves_the_note(
    client: redis.Redis, services: Services, holder: str
) -> None:
    """The session is in Redis again, and its segment is put again, by a worker that does not know of the hold."""
    say(services, "s", A)
    replica = Backup.of(client)
    archive_session(services, "s")
    HOLDERS[holder](services, "case 12")
    settle(services)
    replica.restore(client)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert noted(services) == [True]
    assert purge(services, Order.of(session="s")).state is PurgeState.BLOCKED
    assert read_transcript(services, "s") == [A]


@of_holders
@pytest.mark.parametrize("archive_url", ["folder", "a bucket"], indirect=True)
def test_an_upload_that_arrives_after_its_hold_was_released_is_erased(services: Services, holder: str) -> None:
    say(services, "s", A)
    HOLDERS[holder](services, "case 12")
    settle(services)
    watched, points = watch(services)

    def release() -> None:
        HOLDERS[holder](services, None)
        drain(services, SHARDS)

    def die() -> None:
        raise Killed

    points.at("before put segment", release)
    points.at("after put segment", die)
    with pytest.raises(Killed):
        archive_session(watched, "s")
    assert noted(services) == [True]
    assert findings(services) == []
    assert purge(services, Order.of(session="s")).found.objects >= 1
    assert objects(services, "s") == []


def test_the_release_of_an_owner_that_is_killed_is_finished_by_the_next(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed when all shards have released the hold, and before that is noted."""
    sleep(services, "s", A)
    legal_hold.hold_owner(services, "ann", "case 12")
    settle(services)

    def die(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr("torpor.history.calls.note_owner_release", die)
    with pytest.raises(Killed):
        legal_hold.hold_owner(services, "ann", None)
    monkeypatch.undo()
    assert purge(services, Order.of(session="s")).state is PurgeState.BLOCKED
    assert legal_hold.hold_owner(services, "ann", None)
    assert purge(services, Order.of(session="s")).state is PurgeState.COMPLETE


def test_the_release_of_a_purged_session_is_forgotten_with_its_tombstone(services: Services) -> None:
    services = with_settings(services, tombstone_seconds=1)
    sleep(services, "s", A)
    legal_hold.hold_session(services, "s", "case 12")
    settle(services)
    services.sessions.release_hold("s")
    [before] = services.sessions.hold_records([("s", [])])
    assert before.own.released
    assert purge(services, Order.of(session="s")).state is PurgeState.COMPLETE
    assert objects(services, "s") == []
    end_tombstone(services)
    [after] = services.sessions.hold_records([("s", [])])
    assert after.own.released is None


def end_tombstone(services: Services) -> None:
    def ended() -> bool:
        drain(services, SHARDS)
        return services.sessions.info("s") is None

    wait_until(ended)


def test_a_hold_that_nobody_noted_is_not_taken_off(services: Services) -> None:
    """Somebody has put it on the object by other means, or an older version has."""
    sleep(services, "s", A)
    [segment] = contents.look(services.archive, "s").segments
    services.archive.amend(segment.stored, held=True)
    if not any(each.held for each in services.archive.list(names.session_prefix("s"))):
        pytest.skip("the emulator ignores holds")
    standing = purge(services, Order.of(session="s"))
    assert standing.state is PurgeState.BLOCKED
    assert standing.receipt
    assert [each.object for each in standing.receipt.kept.named] == [segment.stored.name]
    assert objects(services, "s") == [segment.stored.name]
