"""A Redis that was restored from a backup recovers: every message is counted, whatever happened since the backup."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
import redis
from langchain_core.messages import HumanMessage

from support.backups import Backup, copied_archive, move_fence
from support.command import Torpor
from support.keyspace import raw
from support.objects import object_names
from support.observed import ObservedArchive
from support.rewinding import killed_at
from support.two_sides import contents_of
from torpor import MemorystoreChatMessageHistory, SessionArchive
from torpor.history.protocol import SessionPurged
from torpor.worker.archive import ownership
from torpor.worker.deployment.identity import State, compare_sides
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders
from torpor.worker.erasure import purge as purging
from torpor.worker.erasure.order import Order, Scope
from torpor.worker.errors import ArchiveUnavailable
from torpor.worker.failpoints import Failpoint
from torpor.worker.ops import catching_up, forks, recovery
from torpor.worker.ops.doctor import examine
from torpor.worker.ops.finding import Ailment
from torpor.worker.ops.reconciling import ReconcileOutcome
from torpor.worker.retention.legal_hold import hold_session
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("as_in_cloud_storage")]

SHARDS = list(range(256))


@dataclass(frozen=True)
class Session:
    """One session and what is done to it."""

    services: Services
    name: str

    def say(self, *texts: str, **options: Any) -> None:
        chat = MemorystoreChatMessageHistory(self.services.sessions.client, self.name, **options)
        chat.add_messages([HumanMessage(text) for text in texts])

    def sleep(self) -> None:
        assert archive_session(self.services, self.name).outcome is Outcome.ARCHIVED

    def wake(self) -> None:
        restore_session(self.services, self.name)

    def clear(self) -> None:
        MemorystoreChatMessageHistory(self.services.sessions.client, self.name).clear()
        drain(self.services, SHARDS)

    def pop(self) -> None:
        page = next(iter(self.services.sessions.pages(self.name, -1)))
        assert self.services.sessions.pop(self.name, page, request=b"12345678")
        drain(self.services, SHARDS)

    def purge(self, scope: Scope = Scope.EVERYWHERE) -> None:
        order = orders.place(self.services, Order.of(session=self.name, scope=scope))
        purging.carry_out(self.services, order.id)

    def fail(self) -> None:
        """Into quarantine."""
        sessions = self.services.sessions
        lease: Any = sessions.claim_one(self.name, self.services.settings.lease)
        sessions.begin_attempts([lease])
        assert sessions.release(lease, None, counted=True, error="why")

    def woken(self, owner: str | None = None) -> list[str]:
        """What an application reads."""
        client = self.services.sessions.client
        archive = SessionArchive(self.services.archive.url)
        chat = MemorystoreChatMessageHistory(client, self.name, owner=owner, archive=archive)
        return [str(message.content) for message in chat.messages]


Act = Callable[[Session], object]


def nothing(_: Session) -> None:
    """Nothing happens to it."""


@dataclass(frozen=True)
class History:
    """What is done before the backup, after it, and after Redis was restored from it; and what a wake must show."""

    expected: str
    outcome: ReconcileOutcome | None
    before: Act = nothing
    between: Act = nothing
    after: Act = nothing
    owner: str | None = None


def say(texts: str, **options: Any) -> Act:
    return lambda session: session.say(*texts, **options)


def in_turn(*acts: Act) -> Act:
    return lambda session: [act(session) for act in acts] and None


def asleep(session: Session) -> None:
    session.sleep()


def awake(session: Session) -> None:
    session.wake()


def cleared(session: Session) -> None:
    session.clear()


def held(session: Session) -> None:
    hold_session(session.services, session.name, "why")


def deleted(session: Session) -> None:
    """By somebody who deletes its keys."""
    sessions, name = session.services.sessions, session.name.encode()
    keys = sessions.deployment.keyspace.of(name)
    raw(sessions.client, "DEL", keys.messages(name))
    raw(sessions.client, "DEL", keys.metadata(name))
    raw(sessions.client, "ZREM", keys.due, name)


def drained(session: Session) -> None:
    drain(session.services, SHARDS)


def used_again(session: Session) -> None:
    """After a purge, in spite of its tombstone."""
    session.say("n", allow_reuse=True)
    drain(session.services, SHARDS)


SLEPT_WITH_MORE = in_turn(say("cd"), asleep)
HISTORIES: dict[str, History] = {
    "awake all the time": History("ab", None, say("ab")),
    "asleep all the time": History("ab", None, in_turn(say("ab"), asleep)),
    "written since the restore": History("abL", None, say("ab"), after=say("L")),
    "new since the restore": History("L", None, after=say("L")),
    "new since the backup, and asleep": History("ab", None, between=in_turn(say("ab"), asleep)),
    "new since the backup, asleep, and written": History(
        "abL", None, between=in_turn(say("ab"), asleep), after=say("L")
    ),
    "asleep since the backup": History("ab", None, say("ab"), asleep),
    "asleep since the backup, and written": History("abL", None, say("ab"), asleep, say("L")),
    "asleep with more": History("abcd", ReconcileOutcome.ASLEEP, say("ab"), SLEPT_WITH_MORE),
    "asleep with more, and written": History("abcdL", ReconcileOutcome.JOINED, say("ab"), SLEPT_WITH_MORE, say("L")),
    "asleep with more, and the same sent again": History("abcd", None, say("ab"), SLEPT_WITH_MORE, say("cd")),
    "asleep with more, and more than the same": History("abcdL", None, say("ab"), SLEPT_WITH_MORE, say("cdL")),
    "asleep with more, written, and somebody's": History(
        "abcdL",
        ReconcileOutcome.JOINED,
        say("ab", owner="ann"),
        in_turn(say("cd", owner="ann"), asleep),
        say("L", owner="ann"),
        owner="ann",
    ),
    "asleep twice": History(
        "abcde", ReconcileOutcome.ASLEEP, say("ab"), in_turn(asleep, awake, say("cd"), asleep, awake, say("e"), asleep)
    ),
    "asleep twice, and written": History(
        "abcdL", ReconcileOutcome.JOINED, say("ab"), in_turn(asleep, awake, say("cd"), asleep), say("L")
    ),
    "asleep twice, and the last part sent again": History(
        "abcd", ReconcileOutcome.ASLEEP, say("ab"), in_turn(asleep, awake, say("cd"), asleep), say("cd")
    ),
    "woken before, asleep with more": History(
        "abcde", ReconcileOutcome.ASLEEP, in_turn(say("ab"), asleep, awake, say("c")), in_turn(say("de"), asleep)
    ),
    "woken before, asleep with more, and written": History(
        "abcdeL",
        ReconcileOutcome.JOINED,
        in_turn(say("ab"), asleep, awake, say("c")),
        in_turn(say("de"), asleep),
        say("L"),
    ),
    "written while it slept, woken and asleep": History(
        "abcd", ReconcileOutcome.ASLEEP, in_turn(say("ab"), asleep, say("c")), in_turn(awake, say("d"), asleep)
    ),
    "written while it slept, asleep, and written": History(
        "abcdL", ReconcileOutcome.JOINED, in_turn(say("ab"), asleep, say("c")), in_turn(say("d"), asleep), say("L")
    ),
    "awake without a message, asleep with some": History(
        "abc",
        ReconcileOutcome.ASLEEP,
        in_turn(say("ab"), asleep, held),
        in_turn(drained, awake, say("c"), asleep),
    ),
    "in quarantine, requeued, asleep with more": History(
        "abcd",
        ReconcileOutcome.ASLEEP,
        in_turn(say("ab"), lambda session: session.fail()),
        in_turn(lambda session: session.services.sessions.requeue(session.name), SLEPT_WITH_MORE),
    ),
    "cleared": History("", ReconcileOutcome.EMPTIED, say("ab"), cleared),
    "cleared and asleep with new ones": History(
        "cd", ReconcileOutcome.EMPTIED, say("ab"), in_turn(cleared, say("cd"), asleep)
    ),
    "cleared before, asleep with new ones": History(
        "cd",
        ReconcileOutcome.ASLEEP,
        in_turn(say("ab"), lambda session: session.services.sessions.clear(session.name)),
        in_turn(drained, say("cd"), asleep),
    ),
    "a message taken back, and asleep": History(
        "ac",
        ReconcileOutcome.EMPTIED,
        in_turn(say("ab"), awake),
        in_turn(lambda session: session.pop(), say("c"), asleep),
    ),
    "purged": History("", ReconcileOutcome.PURGED, say("ab"), lambda session: session.purge()),
    "purged asleep": History("", ReconcileOutcome.PURGED, in_turn(say("ab"), asleep), lambda session: session.purge()),
    "purged, used again, and asleep": History(
        "n", ReconcileOutcome.EMPTIED, say("ab"), in_turn(lambda session: session.purge(), used_again, asleep)
    ),
    "purged in Redis alone": History(
        "ab",
        ReconcileOutcome.EMPTIED,
        in_turn(say("ab"), asleep, awake, say("c")),
        lambda session: session.purge(Scope.LIVE),
    ),
    "purged in the archive alone, and asleep": History(
        "abc",
        ReconcileOutcome.EMPTIED,
        in_turn(say("ab"), asleep, awake),
        in_turn(
            lambda session: session.purge(Scope.ARCHIVE),
            drained,
            say("c"),
            asleep,
        ),
    ),
}


@pytest.fixture
def behind(client: redis.Redis, services: Services) -> Services:
    """A Redis that was restored from a backup, and all that happened before and since."""
    move_fence(services, 2)
    everybody = {name: Session(services, name) for name in HISTORIES}
    for name, history in HISTORIES.items():
        history.before(everybody[name])
    backup = Backup.of(client)
    move_fence(services, 3)
    for name, history in HISTORIES.items():
        history.between(everybody[name])
    backup.restore(client)
    for name, history in HISTORIES.items():
        history.after(everybody[name])
    assert compare_sides(services.sessions, services.archive).is_behind
    return services


def check_all(services: Services) -> None:
    """Every session shows each of its messages once and in order."""
    assert compare_sides(services.sessions, services.archive).state is State.AGREE
    shown = {name: "".join(Session(services, name).woken(history.owner)) for name, history in HISTORIES.items()}
    assert shown == {name: history.expected for name, history in HISTORIES.items()}
    for name, history in HISTORIES.items():
        if history.outcome is ReconcileOutcome.PURGED:
            with pytest.raises(SessionPurged):
                Session(services, name).say("late")


EXPECTED = {name: history.outcome for name, history in HISTORIES.items()}


@pytest.mark.parametrize("then", ["a wake", "sleep and a wake"])
def test_every_message_is_there_once_and_in_order_after_a_recovery(behind: Services, torpor: Torpor, then: str) -> None:
    names = object_names(behind.archive)
    dry = torpor("deployment", "recover", "--dry-run", "--force", "--json")
    assert dry.code == 0, dry
    assert {each["session_id"]: each["outcome"] for each in dry.json["sessions"]} == {
        name: outcome for name, outcome in EXPECTED.items() if outcome
    }
    assert object_names(behind.archive) == names
    assert compare_sides(behind.sessions, behind.archive).is_behind
    done = torpor("deployment", "recover", "--yes", "--force", "--json")
    assert (done.code, done.json["sessions"]) == (0, dry.json["sessions"])
    if then != "a wake":
        for name in HISTORIES:
            behind.sessions.close(name)
        drain(behind, SHARDS)
        assert behind.sessions.sessions(quarantined=True) is not None
        assert list(behind.sessions.sessions(quarantined=True)) == []
    check_all(behind)
    move_fence(behind, 3)


@pytest.fixture
def copies(behind: Services) -> Services:
    """A copy of Redis, and a copy of the archive that was made later."""
    return copied_archive(behind)


@pytest.mark.parametrize("then", ["a wake", "sleep and a wake"])
def test_every_message_is_there_once_and_in_order_in_a_fork(
    behind: Services, copies: Services, torpor: Torpor, then: str
) -> None:
    there = {"ARCHIVE_URL": copies.archive.url}
    original = [(each.name, each.generation, each.metageneration) for each in behind.archive.list("")]
    before = contents_of(copies.sessions, copies.archive)
    dry = torpor("deployment", "fork", "--dry-run", "--force", "--json", **there)
    assert {each["session_id"]: each["outcome"] for each in dry.json["sessions"]} == {
        name: outcome for name, outcome in EXPECTED.items() if outcome
    }
    assert dry.json["missing"] is None
    assert contents_of(copies.sessions, copies.archive) == before
    done = torpor("deployment", "fork", "--yes", "--force", "--json", **there)
    assert (done.code, done.json["sessions"]) == (0, dry.json["sessions"])
    if then != "a wake":
        for name in HISTORIES:
            copies.sessions.close(name)
        drain(copies, SHARDS)
        assert list(copies.sessions.sessions(quarantined=True)) == []
    check_all(copies)
    assert ownership.read(copies.archive).forked
    move_fence(copies, 3)
    assert [(each.name, each.generation, each.metageneration) for each in behind.archive.list("")] == original


FAILPOINTS = [
    (Failpoint.DEPLOYMENT_REBUILT, 1),
    (Failpoint.TOMBSTONE_REBUILT, 1),
    (Failpoint.TOMBSTONE_REBUILT, 2),
    (Failpoint.SESSION_REJOINED, 1),
    (Failpoint.SESSION_REJOINED, 7),
    (Failpoint.DEPLOYMENT_WRITTEN, 1),
]


def recover(services: Services) -> catching_up.Survey:
    return recovery.recover(services, catching_up.survey(services), force=True)


def test_a_recovery_that_is_killed_at_each_step_is_finished_by_the_next(behind: Services) -> None:
    for failpoint, times in FAILPOINTS[:-1]:
        with killed_at(failpoint, times):
            recover(behind)
        assert compare_sides(behind.sessions, behind.archive).state is State.DISAGREE
        if failpoint is Failpoint.TOMBSTONE_REBUILT:
            break
    with killed_at(Failpoint.SESSION_REJOINED, 2):
        recover(behind)
    with killed_at(Failpoint.DEPLOYMENT_WRITTEN):
        recover(behind)
    recover(behind)
    check_all(behind)


def test_a_fork_that_is_killed_at_each_step_is_finished_by_the_next(copies: Services) -> None:
    for failpoint in (
        Failpoint.DEPLOYMENT_REBUILT,
        Failpoint.TOMBSTONE_REBUILT,
        Failpoint.SESSION_REJOINED,
        Failpoint.DEPLOYMENT_WRITTEN,
    ):
        with killed_at(failpoint):
            fork(copies)
        assert compare_sides(copies.sessions, copies.archive).state is State.DISAGREE
    fork(copies)
    check_all(copies)


def fork(services: Services) -> catching_up.Survey:
    return forks.fork(services, catching_up.survey(services), force=True)


@pytest.mark.parametrize("calls", [3, 40, 90, 150])
def test_a_recovery_that_loses_the_archive_at_any_request_is_finished_by_the_next(behind: Services, calls: int) -> None:
    made = 0

    class Failing:
        def make(self, _: object, act: Callable[[], Any]) -> Any:
            nonlocal made
            made += 1
            if made == calls:
                raise ArchiveUnavailable("the archive is down")
            return act()

    surveyed = catching_up.survey(behind)
    cut = replace(behind, archive=ObservedArchive(behind.archive, Failing()))
    with pytest.raises(ArchiveUnavailable):
        recovery.recover(cut, surveyed, force=True)
    assert compare_sides(behind.sessions, behind.archive).state is State.DISAGREE
    recover(behind)
    check_all(behind)


# What nobody can tell, or not now

UNCLEAR: dict[str, tuple[History, str]] = {
    "cleared, and written to since": (History("abL", None, say("ab"), cleared, say("L")), "cleared, and written"),
    "a message taken back": (
        History("ab", None, in_turn(say("ab"), awake), lambda session: session.pop()),
        "a message was taken back",
    ),
    "another owner's": (
        History("ab", None, say("ab", owner="ann"), in_turn(deleted, say("cd", owner="eve"), asleep)),
        "owner",
    ),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_what_nobody_can_tell_stays_as_it_is_and_is_named(
    client: redis.Redis, services: Services, torpor: Torpor, name: str
) -> None:
    history, why = UNCLEAR[name]
    move_fence(services, 2)
    session = Session(services, "s")
    history.before(session)
    backup = Backup.of(client)
    move_fence(services, 3)
    history.between(session)
    backup.restore(client)
    history.after(session)
    before = raw(client, "LRANGE", services.sessions.deployment.keyspace.of(b"s").messages(b"s"), 0, -1)
    done = torpor("deployment", "recover", "--yes", "--force", "--json")
    assert done.code == 0
    [found] = done.json["sessions"]
    assert (found["session_id"], found["outcome"], found["dropped"]) == ("s", "unclear", 0)
    assert why in found["detail"]
    assert raw(client, "LRANGE", services.sessions.deployment.keyspace.of(b"s").messages(b"s"), 0, -1) == before


def test_a_session_that_a_worker_had_leased_at_the_backup_is_waited_for(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    move_fence(services, 2)
    session = Session(services, "s")
    session.say("a")
    lease: Any = services.sessions.claim_one("s", timedelta(minutes=10))
    services.sessions.begin_attempts([lease])
    backup = Backup.of(client)
    move_fence(services, 3)
    assert services.sessions.release(lease, timedelta(), counted=False)
    session.say("b")
    session.sleep()
    backup.restore(client)
    done = torpor("deployment", "recover", "--yes", "--force")
    assert (done.code, "leased by workers" in done.said) == (4, True)
    assert compare_sides(services.sessions, services.archive).state is State.DISAGREE
    end_lease(services, "s", lease)
    assert torpor("deployment", "recover", "--yes", "--force").code == 0
    assert session.woken() == ["a", "b"]


def end_lease(services: Services, session_id: str, lease: Any) -> None:
    """The lease's time is over."""
    keys = services.sessions.deployment.keyspace.of(session_id.encode())
    past = b"1600000000000.5"
    raw(services.sessions.client, "ZADD", keys.due, past, session_id)
    raw(services.sessions.client, "HSET", keys.metadata(session_id.encode()), "attempt", past)
    assert lease.token != past


# Legal holds and purges that the backup does not know


def test_holds_that_were_set_since_the_backup_stand_and_those_that_were_released_are_named(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    move_fence(services, 2)
    sessions = {name: Session(services, name) for name in ("held", "released", "both", "free")}
    for name, session in sessions.items():
        session.say("a")
        if name in ("released", "both"):
            held(session)
    drain(services, SHARDS)
    backup = Backup.of(client)
    move_fence(services, 3)
    held(sessions["held"])
    hold_session(services, "released", None)
    drain(services, SHARDS)
    for session in sessions.values():
        session.say("b")
        session.sleep()
    backup.restore(client)
    dry = torpor("deployment", "recover", "--dry-run", "--force", "--json")
    assert (dry.json["held_sessions"], dry.json["perhaps_released"]) == (["held"], ["released"])
    done = torpor("deployment", "recover", "--yes", "--force")
    assert (done.code, "may have been released" in done.said, "4 sessions have messages" in done.said) == (
        0,
        True,
        True,
    )
    for name, session in sessions.items():
        assert session.woken() == ["a", "b"]
        assert torpor("purge", "--session", name, "--yes").code == (0 if name == "free" else 1)


@pytest.mark.parametrize("lost", ["everything", "what came since the backup"])
def test_the_tombstones_of_purges_stand_again_until_their_time_is_over(
    client: redis.Redis, services: Services, torpor: Torpor, lost: str
) -> None:
    move_fence(services, 2)
    sessions = {name: Session(services, name) for name in ("awake", "asleep", "used again", "kept")}
    for session in sessions.values():
        session.say("a")
    sessions["asleep"].sleep()
    backup = Backup.of(client)
    move_fence(services, 3)
    for name in ("awake", "asleep", "used again"):
        sessions[name].purge()
    used_again(sessions["used again"])
    sessions["used again"].sleep()
    sessions["kept"].sleep()
    if lost == "everything":
        client.flushall()
    else:
        backup.restore(client)
    with killed_at(Failpoint.TOMBSTONE_REBUILT):
        recover(services)
    done = torpor("deployment", "recover", "--yes", "--force", "--json")
    entombed = {each["session_id"] for each in done.json["sessions"] if each["outcome"] == "purged"}
    assert (done.code, entombed | {"awake", "asleep"}) == (0, {"awake", "asleep"})
    for name in ("awake", "asleep"):
        with pytest.raises(SessionPurged):
            sessions[name].say("late")
        assert sessions[name].woken() == []
    assert sessions["used again"].woken() == ["n"]
    assert sessions["kept"].woken() == ["a"]
    info = services.sessions.info("awake")
    assert info
    assert info.due_at
    left = info.due_at - services.sessions.now()
    assert abs(left - timedelta(seconds=services.settings.tombstone_seconds)) < timedelta(minutes=5)


@pytest.mark.parametrize("killed", [False, True])
def test_messages_that_a_tombstone_removes_are_counted_by_session(
    client: redis.Redis, services: Services, torpor: Torpor, *, killed: bool
) -> None:
    """Also by the run that finishes one that was killed."""
    move_fence(services, 2)
    sessions = {name: Session(services, name) for name in ("written since", "as before")}
    for session in sessions.values():
        session.say("a")
    backup = Backup.of(client)
    move_fence(services, 3)
    for session in sessions.values():
        session.purge()
    backup.restore(client)
    sessions["written since"].say("b")
    if killed:
        with killed_at(Failpoint.TOMBSTONE_REBUILT, times=2):
            recover(services)
    dry = torpor("deployment", "recover", "--dry-run", "--force", "--json").json["sessions"]
    dropped = {each["session_id"]: (each["outcome"], each["dropped"]) for each in dry}
    assert dropped == {"written since": ("purged", 2), "as before": ("purged", 1)}
    told = torpor("deployment", "recover", "--yes", "--force").out
    assert "session written since loses 2 messages in Redis by that\n" in told
    assert "session as before loses 1 messages in Redis by that\n" in told


# The doctor


def test_the_doctor_finds_and_repairs_what_redis_lacks(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    session = Session(services, "s")
    session.say("a")
    assert torpor("doctor").code == 0
    backup = Backup.of(client)
    session.say("b")
    session.sleep()
    backup.restore(client)
    session.say("L")
    found = torpor("doctor", "--json")
    [finding] = found.lines
    assert (found.code, finding["ailment"], finding["repaired"]) == (1, str(Ailment.BEHIND), False)
    assert "keeps 1" in finding["detail"]
    assert torpor("doctor", "--no-archive").code == 0
    repaired = torpor("doctor", "--repair", "--json")
    assert (repaired.code, [each["repaired"] for each in repaired.lines]) == (0, [True])
    assert list(examine(services)) == []
    assert session.woken() == ["a", "b", "L"]


@pytest.mark.parametrize("name", [name for name, each in HISTORIES.items() if each.after is nothing])
def test_the_doctor_finds_nothing_in_a_redis_that_lost_nothing(services: Services, name: str) -> None:
    session = Session(services, "s")
    for act in (HISTORIES[name].before, HISTORIES[name].between):
        act(session)
        assert [each for each in examine(services) if each.ailment is Ailment.BEHIND] == []
