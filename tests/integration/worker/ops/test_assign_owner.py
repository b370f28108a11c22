"""A session that is given an owner: found by a purge at once, kept by the owner's hold, and otherwise as it was."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import redis

from support.keyspace import dump, raw
from support.sessions import purge_session, with_settings
from support.transcripts import read_transcript
from support.waiting import wait_until
from torpor.history.protocol import ClaimOutcome, Expiry, RestoreTicket, SessionDamaged
from torpor.worker import failpoints
from torpor.worker.archive import contents, names, transcript
from torpor.worker.deployment import catalog
from torpor.worker.deployment.services import Services
from torpor.worker.erasure.order import Order
from torpor.worker.erasure.purge import purge
from torpor.worker.erasure.receipt import PurgeState
from torpor.worker.failpoints import Failpoint
from torpor.worker.ops.assign_owner import Verdict, assign, judge
from torpor.worker.retention import legal_hold
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.read import open_transcript
from torpor.worker.wake.restore import restore_session

pytestmark = pytest.mark.slow

A, B, C = b'{"a":1}', b'{"b":2}', b'{"c":3}'
OWN = Expiry(timedelta(hours=1), timedelta(days=2), timedelta(days=90))
State = Callable[[Services], None]


class Killed(BaseException):
    """Ends the process here."""


def live(services: Services) -> None:
    services.sessions.append("s", [A, B], expiry=OWN)


def asleep(services: Services) -> None:
    live(services)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED


def woken(services: Services) -> None:
    asleep(services)
    restore_session(services, "s")


def asleep_again(services: Services) -> None:
    """Several epochs, and a segment without messages that records another expiry."""
    woken(services)
    services.sessions.append("s", [C])
    archive_session(services, "s")
    restore_session(services, "s")
    services.sessions.update("s", idle=timedelta(hours=2))
    archive_session(services, "s")


def partly_awake(services: Services) -> None:
    asleep(services)
    services.sessions.append("s", [C])


def grown_during_an_attempt(services: Services) -> None:
    live(services)

    def grow(at: Failpoint) -> None:
        if at is Failpoint.ARCHIVE_VERIFIED:
            services.sessions.append("s", [C])

    failpoints.arm(grow)
    assert archive_session(services, "s").outcome is Outcome.KEPT
    failpoints.arm()


def cleared_and_used(services: Services) -> None:
    asleep(services)
    services.sessions.clear("s")
    live(services)


def in_quarantine(services: Services) -> None:
    woken(services)
    lease = services.sessions.claim_one("s", timedelta(minutes=1))
    assert not isinstance(lease, ClaimOutcome)
    services.sessions.quarantine(lease, "why")


def held_asleep(services: Services) -> None:
    asleep(services)
    legal_hold.hold_session(services, "s", "case 12")
    legal_hold.hold_session(services, "s", None)


STATES: list[State] = [
    live, asleep, woken, asleep_again, partly_awake, grown_during_an_attempt, cleared_and_used, in_quarantine,
    held_asleep,
]  # fmt: skip
ASLEEP: list[State] = [asleep, asleep_again, held_asleep]


def of_owner(services: Services, owner: str = "ann") -> set[str]:
    return set(catalog.owned(services, owner))


def named(client: redis.Redis, services: Services, owner: str = "ann") -> list[object]:
    """The keys in Redis, and the objects, that name an owner; receipts apart."""
    keys = list(raw(client, "KEYS", f"*:o:{owner}"))
    objects = [
        stored.name
        for stored in services.archive.list("v1/", generations=True)
        if not stored.name.startswith(names.PURGES.work)
        and (f"/{owner}/" in stored.name or stored.metadata.get("owner") == owner)
    ]
    return keys + objects


def owner_of(services: Services) -> str | None:
    """The session's owner, as an export of it has."""
    with open_transcript(services, "s") as transcript:
        return transcript.owner


def expiry_of(services: Services) -> Expiry:
    """The session's own expiry, as it is awake or would wake up."""
    info = services.sessions.info("s")
    if info and info.message_count:
        return info.expiry
    return transcript.plan(services.archive, contents.look(services.archive, "s")).origin.expiry


@pytest.mark.parametrize("state", STATES)
def test_a_purge_finds_the_session_from_then_on_and_it_is_otherwise_as_it_was(
    client: redis.Redis, services: Services, state: State
) -> None:
    state(services)
    before, expiry, info = (
        read_transcript(services, "s"),
        expiry_of(services),
        services.sessions.info("s"),
    )
    objects = {each.name for each in services.archive.list("v1/")}
    assert judge(services, "s", "ann") is Verdict.ASSIGNED
    assert {each.name for each in services.archive.list("v1/")} == objects
    assert owner_of(services) is None

    assert assign(services, "s", "ann") is Verdict.ASSIGNED

    assert of_owner(services) == {"s"}
    assert (read_transcript(services, "s"), owner_of(services)) == (before, "ann")
    assert expiry_of(services) == expiry
    now = services.sessions.info("s")
    if state in ASLEEP:
        assert (now, of_owner(services)) == (None, {"s"})
    else:
        assert info
        assert now
        assert (now.due_at, now.last_active, now.status) == (info.due_at, info.last_active, info.status)
    assert assign(services, "s", "ann") is Verdict.ALREADY
    assert assign(services, "s", "bob") is Verdict.OTHER
    # It stays the owner's however often it wakes up and falls asleep.
    services.sessions.requeue("s")
    for _ in range(2):
        assert archive_session(services, "s").outcome in (Outcome.ARCHIVED, Outcome.MISSING)
        assert (services.sessions.info("s"), of_owner(services)) == (None, {"s"})
        restore_session(services, "s")
        assert (owner_of(services), expiry_of(services)) == ("ann", expiry)
        assert services.sessions.messages("s") == before
    services.sessions.append("s", [C], owner="ann")
    archive_session(services, "s")
    assert purge(services, Order.of(owner="ann")).state is PurgeState.COMPLETE
    assert named(client, services) == []


@pytest.mark.parametrize("state", ASLEEP)
def test_an_assignment_is_no_activity_of_a_sleeping_session(services: Services, state: State) -> None:
    state(services)
    objects = list(services.archive.list(names.session_prefix("s")))
    active = contents.last_active(objects)
    assign(services, "s", "ann")
    found = contents.look(services.archive, "s")
    assert contents.last_active([each.stored for each in found.segments]) == active
    assert len({each.stored.custom_time for each in found.segments}) == 1


@pytest.mark.parametrize("state", [asleep, live, woken, partly_awake])
def test_a_session_of_another_owner_keeps_it(client: redis.Redis, services: Services, state: State) -> None:
    services.sessions.append("s", [A], owner="bob")
    if state is not live:
        archive_session(services, "s")
    if state is woken:
        restore_session(services, "s")
    if state is partly_awake:
        services.sessions.append("s", [B])  # only the archive knows whose it is
    before = dump(client), [each.name for each in services.archive.list("v1/")]
    assert judge(services, "s", "ann") is assign(services, "s", "ann") is Verdict.OTHER
    assert (dump(client), [each.name for each in services.archive.list("v1/")]) == before
    assert of_owner(services) == set()


def test_there_is_nobody_to_assign_a_purged_or_an_unknown_session_to(client: redis.Redis, services: Services) -> None:
    asleep(services)
    purge_session(services, "s")
    before = dump(client)
    assert (judge(services, "s", "ann"), assign(services, "s", "ann")) == (Verdict.PURGED, Verdict.PURGED)
    assert (judge(services, "none", "ann"), assign(services, "none", "ann")) == (Verdict.UNKNOWN, Verdict.UNKNOWN)
    assert dump(client) == before


def test_nobody_is_made_the_owner_of_messages_whose_metadata_was_lost(client: redis.Redis, services: Services) -> None:
    live(services)
    [key] = raw(client, "KEYS", "*:s:s")
    raw(client, "DEL", key)
    before = dump(client)
    with pytest.raises(SessionDamaged, match="torpor doctor"):
        assign(services, "s", "ann")
    assert dump(client) == before


# Faults


def assigned(services: Services) -> None:
    assert assign(services, "s", "ann") is Verdict.ASSIGNED


STEPS = [
    Failpoint.OWNER_ASSIGNED, Failpoint.ARCHIVE_BEGUN, Failpoint.ARCHIVE_MARKED, Failpoint.ARCHIVE_SENT,
    Failpoint.ARCHIVE_VERIFIED, Failpoint.ARCHIVE_COMMITTED,
]  # fmt: skip


def killed(services: Services, step: Failpoint) -> None:
    def die(at: Failpoint) -> None:
        if at is step:
            raise Killed

    failpoints.arm(die)
    with pytest.raises(Killed):
        assign(services, "s", "ann")
    failpoints.arm()


@pytest.mark.parametrize("again", ["assign", "worker", "purge", "clear"])
@pytest.mark.parametrize("step", STEPS)
def test_an_assignment_that_was_killed_is_found_and_is_finished(
    client: redis.Redis, services: Services, step: Failpoint, again: str
) -> None:
    quick = with_settings(services, lease_seconds=1, tombstone_seconds=1)
    asleep_again(quick)
    before = read_transcript(quick, "s")
    killed(quick, step)
    assert of_owner(quick) == {"s"}
    assert read_transcript(quick, "s") == before
    if again == "assign":
        assert assign(quick, "s", "ann") in (Verdict.ASSIGNED, Verdict.ALREADY)
    if again == "clear":
        quick.sessions.clear("s", owner="ann")
    if again == "purge":
        assert purge(quick, Order.of(owner="ann")).state in (PurgeState.COMPLETE, PurgeState.RUNNING)
    wait_until(lambda: drain(quick, range(256)) is not None and not raw(client, "KEYS", "*:s:s"), 20, "all is done")
    if again in ("assign", "worker"):
        assert (of_owner(quick), owner_of(quick)) == ({"s"}, "ann")
        assert read_transcript(quick, "s") == before
    else:
        assert named(client, quick) == []
    assert raw(client, "KEYS", "*:o:ann") == []


@pytest.mark.parametrize("state", [live, woken, partly_awake])
@pytest.mark.parametrize("step", [Failpoint.ARCHIVE_BEGUN, Failpoint.ARCHIVE_SENT, Failpoint.ARCHIVE_VERIFIED])
def test_a_worker_that_archives_the_session_meanwhile_does_not_lose_its_owner(
    services: Services, state: State, step: Failpoint
) -> None:
    state(services)
    before = read_transcript(services, "s")
    verdicts: list[Verdict] = []

    def meanwhile(at: Failpoint) -> None:
        if at is step and not verdicts:
            verdicts.append(Verdict.FAILED)
            verdicts[0] = assign(services, "s", "ann")

    failpoints.arm(meanwhile)
    archive_session(services, "s")
    failpoints.arm()
    assert of_owner(services) == ({"s"} if verdicts else set())
    archive_session(services, "s")
    assert (services.sessions.info("s"), read_transcript(services, "s")) == (None, before)
    assert of_owner(services) == ({"s"} if verdicts == [Verdict.ASSIGNED] else set())
    assert verdicts == [Verdict.ASSIGNED] or (state is woken and step is Failpoint.ARCHIVE_SENT)


@pytest.mark.parametrize("ends", ["finished", "abandoned"])
@pytest.mark.parametrize("state", ASLEEP)
def test_a_session_that_wakes_up_meanwhile_has_its_owner(
    client: redis.Redis, services: Services, state: State, ends: str
) -> None:
    state(services)
    before = read_transcript(services, "s")
    if ends == "finished":
        failpoints.arm(lambda at: assigned(services) if at is Failpoint.RESTORE_READ else None)
        restore_session(services, "s")
        failpoints.arm()
        info = services.sessions.info("s")
        assert info
        assert (info.owner, services.sessions.messages("s")) == ("ann", before)
    else:
        ticket = services.sessions.begin_restore("s", timedelta(minutes=1))
        assert isinstance(ticket, RestoreTicket)
        assigned(services)
        services.sessions.abandon(ticket)
    assert of_owner(services) == {"s"}
    archive_session(services, "s")
    assert (services.sessions.info("s"), of_owner(services)) == (None, {"s"})
    assert (read_transcript(services, "s"), owner_of(services)) == (before, "ann")
    assert raw(client, "KEYS", "*:o:ann") == []


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)  # the emulator ignores temporary holds
@pytest.mark.parametrize("state", [live, asleep, woken, partly_awake, in_quarantine])
def test_a_legal_hold_of_the_owner_that_was_set_before_keeps_the_session(services: Services, state: State) -> None:
    legal_hold.hold_owner(services, "ann", "case 12")
    state(services)
    assert assign(services, "s", "ann") is Verdict.ASSIGNED
    drain(services, range(256))
    found = contents.look(services.archive, "s").segments
    assert [each.stored.held for each in found] == [True] * len(found)
    assert bool(found) is (state is not live)
    before = read_transcript(services, "s")
    standing = purge(services, Order.of(owner="ann"))
    assert standing.state is PurgeState.BLOCKED
    assert read_transcript(services, "s") == before
    legal_hold.hold_owner(services, "ann", None)
    assert purge(services, Order.of(owner="ann")).state is PurgeState.COMPLETE


def test_a_clear_after_an_assignment_leaves_nothing_that_names_the_owner(
    client: redis.Redis, services: Services
) -> None:
    asleep(services)
    assign(services, "s", "ann")
    assert named(client, services)
    services.sessions.clear("s")
    archive_session(services, "s")
    assert named(client, services) == []
