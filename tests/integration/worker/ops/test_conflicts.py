"""What somebody else writes to the id of a session that sleeps is kept apart, and the id stays its owner's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from langchain_core.messages import BaseMessage, HumanMessage

from support.transcripts import read_transcript
from torpor import MemorystoreChatMessageHistory, SessionArchive
from torpor.history.protocol import OwnerMismatch, OwnerMissing, TorporError
from torpor.worker import failpoints
from torpor.worker.deployment.services import Services
from torpor.worker.erasure.order import Order, Scope
from torpor.worker.erasure.purge import purge
from torpor.worker.erasure.receipt import PurgeState
from torpor.worker.failpoints import Failpoint
from torpor.worker.ops import conflicts
from torpor.worker.ops.conflicts import Conflict, Place, Side
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session

pytestmark = pytest.mark.slow

ANNS: list[BaseMessage] = [HumanMessage("where is my order"), HumanMessage("hello?")]
MALLORYS: list[BaseMessage] = [HumanMessage("let me in")]


class Killed(BaseException):
    """The process dies."""


def refuse(session_id: str, error: TorporError) -> NoReturn:
    raise error


@pytest.fixture
def archive_url(scratch: Path) -> str:
    """One kind of store is enough here."""
    return (scratch / "archive").as_uri()


@pytest.fixture
def opened(services: Services) -> SessionArchive:
    return SessionArchive(services.archive.url)


def chat(services: Services, owner: str | None, archive: SessionArchive | None = None) -> MemorystoreChatMessageHistory:
    return MemorystoreChatMessageHistory(services.sessions.client, "s", owner=owner, archive=archive)


def asleep(services: Services, owner: str | None = "ann") -> None:
    chat(services, owner).add_messages(ANNS)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED


def settle(services: Services) -> None:
    """Let the worker look at every session until nothing is left in Redis."""
    for _ in range(5):
        for session_id in list(services.sessions.sessions()):
            archive_session(services, session_id)
    assert list(services.sessions.sessions()) == []


def only_conflict(services: Services) -> Conflict:
    [conflict] = conflicts.find(services, refuse)
    return conflict


def check_both_sides(services: Services, opened: SessionArchive) -> None:
    """Ann has her messages under her id, Mallory's are under another one, and he is refused."""
    conflict = only_conflict(services)
    assert (conflict.session, conflict.own.owner, conflict.own.messages) == ("s", "ann", 2)
    assert (conflict.other.owner, conflict.other.messages) == ("mallory", 1)
    assert conflict.other.session != "s"
    assert len(read_transcript(services, conflict.other.session)) == 1
    with pytest.raises(OwnerMismatch):
        _ = chat(services, "mallory", opened).messages
    assert chat(services, "ann", opened).messages == ANNS


def ann_reads(services: Services, opened: SessionArchive) -> None:
    assert chat(services, "ann", opened).messages == ANNS


def mallory_reads(services: Services, opened: SessionArchive) -> None:
    with pytest.raises(OwnerMismatch):
        _ = chat(services, "mallory", opened).messages


def a_worker_wakes_it(services: Services, opened: SessionArchive) -> None:
    assert restore_session(services, "s").messages == 2


def a_worker_archives_it(services: Services, opened: SessionArchive) -> None:
    assert archive_session(services, "s").outcome is Outcome.SUPERSEDED


def ann_holds_it(services: Services, opened: SessionArchive) -> None:
    chat(services, "ann", opened).hold("a dispute")
    assert chat(services, "ann", opened).release_hold()


FINDERS = [ann_reads, mallory_reads, a_worker_wakes_it, a_worker_archives_it, ann_holds_it]


@pytest.mark.parametrize("find", FINDERS, ids=lambda find: find.__name__)
def test_what_another_owner_writes_while_a_session_sleeps_is_put_aside(
    services: Services, opened: SessionArchive, find: Callable[[Services, SessionArchive], None]
) -> None:
    asleep(services)
    chat(services, "mallory").add_messages(MALLORYS)  # an application that has no archive at hand

    find(services, opened)

    check_both_sides(services, opened)
    settle(services)
    assert only_conflict(services).other.place is Place.ARCHIVE
    check_both_sides(services, opened)


@pytest.mark.parametrize("which", ["ann's", "mallory's"])
def test_each_side_of_a_conflict_is_purged_alone(services: Services, opened: SessionArchive, which: str) -> None:
    asleep(services)
    chat(services, "mallory").add_messages(MALLORYS)
    ann_reads(services, opened)
    settle(services)
    other = only_conflict(services).other.session

    owner = "ann" if which == "ann's" else "mallory"
    standing = purge(services, Order.of(owner=owner))

    assert standing.state is PurgeState.COMPLETE
    assert standing.receipt is not None
    assert (standing.receipt.removed.sessions, standing.receipt.removed.messages) == (1, 2 if owner == "ann" else 1)
    if owner == "ann":
        assert len(read_transcript(services, other)) == 1
    else:
        assert chat(services, "ann", opened).messages == ANNS


@pytest.mark.parametrize("owner", ["mallory", None])
def test_a_clear_by_another_owner_erases_nothing_of_a_session_that_sleeps(
    services: Services, opened: SessionArchive, owner: str | None
) -> None:
    asleep(services)
    chat(services, owner).clear()
    settle(services)
    assert chat(services, "ann", opened).messages == ANNS


def test_the_owner_reads_a_session_that_another_one_has_cleared_before_any_worker_comes(
    services: Services, opened: SessionArchive
) -> None:
    asleep(services)
    chat(services, "mallory").clear()
    assert chat(services, "ann", opened).messages == ANNS
    settle(services)
    assert chat(services, "ann", opened).messages == ANNS


def test_a_clear_by_the_owner_erases_a_session_that_sleeps(services: Services, opened: SessionArchive) -> None:
    asleep(services)
    chat(services, "ann").clear()
    settle(services)
    assert chat(services, "ann", opened).messages == []


@pytest.mark.parametrize("owner", ["mallory", None])
def test_a_hold_by_another_owner_does_not_keep_a_session_that_sleeps(
    services: Services, opened: SessionArchive, owner: str | None
) -> None:
    asleep(services)
    chat(services, owner).hold("mine")
    settle(services)
    chat(services, "ann", opened).clear()
    settle(services)
    assert chat(services, "ann", opened).messages == []


def test_an_owner_is_not_claimed_for_what_sleeps_without_one(services: Services, opened: SessionArchive) -> None:
    asleep(services, owner=None)
    chat(services, "mallory").add_messages(MALLORYS)
    settle(services)
    assert chat(services, None, opened).messages == ANNS
    with pytest.raises(OwnerMissing):
        _ = chat(services, "mallory", opened).messages
    assert (only_conflict(services).own.owner, only_conflict(services).other.owner) == (None, "mallory")


@pytest.mark.parametrize("state", ["awake", "asleep"])
def test_an_owner_is_assigned_if_the_application_says_so(
    services: Services, opened: SessionArchive, state: str
) -> None:
    asleep(services, owner=None)
    if state == "awake":
        restore_session(services, "s")
    anns = MemorystoreChatMessageHistory(services.sessions.client, "s", owner="ann", assign_owner=True, archive=opened)
    assert anns.messages == ANNS
    settle(services)
    with pytest.raises(OwnerMismatch):
        _ = chat(services, None, opened).messages
    assert chat(services, "ann", opened).messages == ANNS
    assert list(conflicts.find(services, refuse)) == []


def old_archive(services: Services) -> None:
    """The archive of an older version, which put the messages of two owners under one id."""
    asleep(services)
    hidden = {}
    for stored in list(services.archive.list("v1/")):
        if stored.name.endswith(".jsonl.gz"):
            path = Path(services.archive.url.removeprefix("file://")) / stored.name
            for each in path.parent.glob(path.name + "*"):
                hidden[each] = each.read_bytes()
                each.unlink()
    chat(services, "mallory").add_messages(MALLORYS)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    for path, content in hidden.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_the_first_owner_reads_an_old_archive_of_two(services: Services, opened: SessionArchive) -> None:
    old_archive(services)
    conflict = only_conflict(services)
    assert (conflict.own.owner, conflict.own.messages) == ("ann", 2)
    assert (conflict.other.session, conflict.other.owner, conflict.other.messages) == ("s", "mallory", 1)
    assert len(read_transcript(services, "s")) == 2
    mallory_reads(services, opened)
    ann_reads(services, opened)


@pytest.mark.parametrize("point", [None, Failpoint.PART_COPIED, Failpoint.ARCHIVE_COMMITTED, Failpoint.PART_DELETED])
def test_an_old_archive_of_two_is_separated(
    services: Services, opened: SessionArchive, point: Failpoint | None
) -> None:
    old_archive(services)

    def die(reached: Failpoint) -> None:
        if reached is point:
            raise Killed

    if point is not None:
        failpoints.arm(die)
        with pytest.raises(Killed):
            conflicts.separate(services, "s")
        failpoints.arm()
    conflicts.separate(services, "s")

    check_both_sides(services, opened)
    assert conflicts.separate(services, "s") == []
    settle(services)
    chat(services, "ann", opened).clear()
    settle(services)
    assert len(read_transcript(services, only_conflict(services).other.session)) == 1


def test_a_purge_of_an_owner_in_an_old_archive_of_two_takes_nothing_of_the_other(
    services: Services, opened: SessionArchive
) -> None:
    old_archive(services)
    assert purge(services, Order.of(owner="mallory")).state is PurgeState.BLOCKED
    ann_reads(services, opened)


def test_a_clear_of_an_old_archive_of_two_waits_until_it_is_separated(
    services: Services, opened: SessionArchive
) -> None:
    old_archive(services)
    chat(services, "ann", opened).clear()
    assert isinstance(archive_session(services, "s").error, OwnerMismatch)
    [side] = conflicts.separate(services, "s")
    services.sessions.requeue("s")
    settle(services)
    assert len(read_transcript(services, side.session)) == 1
    assert chat(services, "ann", opened).messages == []


def mallory_wrote(services: Services) -> None:
    """What Mallory has written to ann's sleeping session is in Redis, and nobody has met it yet."""
    asleep(services)
    chat(services, "mallory").add_messages(MALLORYS)


@pytest.mark.parametrize("owner", ["mallory", None])
def test_what_somebody_else_has_just_written_is_listed_and_separated(
    services: Services, opened: SessionArchive, owner: str | None
) -> None:
    asleep(services)
    looked: list[int] = []
    assert list(conflicts.find(services, refuse, looked.append)) == []
    assert looked == [1]
    chat(services, owner).add_messages(MALLORYS)

    conflict = only_conflict(services)
    assert (conflict.own.owner, conflict.own.messages, conflict.own.place) == ("ann", 2, Place.ARCHIVE)
    assert conflict.other == Side("s", owner, 1, Place.REDIS)

    [side] = conflicts.separate(services, "s")
    assert side == only_conflict(services).other
    assert (side.owner, side.place) == (owner, Place.REDIS)
    assert len(read_transcript(services, side.session)) == 1
    assert conflicts.separate(services, "s") == []
    ann_reads(services, opened)


def test_what_an_owner_writes_to_her_own_sleeping_session_and_a_hold_are_no_conflict(services: Services) -> None:
    asleep(services)
    chat(services, "bob").hold("a dispute")
    assert list(conflicts.find(services, refuse)) == []
    services.sessions.release_hold("s")
    settle(services)
    chat(services, "ann").add_messages(ANNS)
    assert list(conflicts.find(services, refuse)) == []


@pytest.mark.parametrize("two", [old_archive, mallory_wrote])
@pytest.mark.parametrize("scope", [Scope.EVERYWHERE, Scope.ARCHIVE])
def test_a_purge_by_the_id_of_two_owners_takes_nothing_until_they_are_separated(
    services: Services, opened: SessionArchive, two: Callable[[Services], None], scope: Scope
) -> None:
    two(services)
    standing = purge(services, Order.of(session="s", scope=scope))
    assert standing.state is PurgeState.BLOCKED
    assert standing.receipt is not None
    assert standing.receipt.removed.sessions == 0
    assert "torpor separate" in standing.receipt.kept.named[0].why
    assert only_conflict(services).own.messages == 2
    assert only_conflict(services).other.messages == 1

    [side] = conflicts.separate(services, "s")
    standing = purge(services, Order.of(session="s", scope=scope))
    assert standing.state is PurgeState.COMPLETE
    assert standing.receipt is not None
    assert (standing.receipt.removed.sessions, standing.receipt.removed.messages) == (1, 2)
    assert len(read_transcript(services, side.session)) == 1


@pytest.mark.parametrize("named", [{"session": "s"}, {"owner": "ann"}])
def test_what_another_owner_writes_while_a_purge_runs_is_not_taken(services: Services, named: dict[str, str]) -> None:
    asleep(services)

    def write(reached: Failpoint) -> None:
        if reached is Failpoint.PURGE_LISTED:
            chat(services, "mallory").add_messages(MALLORYS)

    failpoints.arm(write)
    standing = purge(services, Order.of(**named))  # type: ignore[arg-type] # mypy takes the values for any argument's
    failpoints.arm()
    assert standing.state is PurgeState.BLOCKED
    assert len(services.sessions.messages("s")) == 1
