"""Legal holds whose records in Redis are damaged, one or two at once: they stand, are named, and can be mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from support.command import Torpor, succeed
from support.consoles import OFFICER, Console, Visitor, served
from support.damaged import NAMES, Holds, damage, names_all, of, of_holds, of_redis
from support.held import A, B, C, chat, held, objects, say, settle, sleep
from support.keyspace import raw
from support.transcripts import read_transcript
from torpor.history.protocol import HoldKind, Lease, SessionHeld, Status
from torpor.worker.archive.contents import look
from torpor.worker.deployment.services import Services
from torpor.worker.erasure.order import Order, Scope
from torpor.worker.erasure.purge import purge
from torpor.worker.erasure.receipt import PurgeState
from torpor.worker.ops.doctor import examine
from torpor.worker.ops.finding import Ailment, Finding
from torpor.worker.retention import legal_hold
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session

# Records that hold no moment, and moments that nobody can read.
of_values = pytest.mark.parametrize("value", ["yesterday:case 8", "", "-5:case 8", "999999999999999:case 8"])


@pytest.fixture
def console(services: Services) -> Iterator[Console]:
    with served(services) as running:
        yield running


@of_holds
@pytest.mark.parametrize("is_awake", [False, True])
def test_nothing_that_is_under_a_damaged_hold_is_erased(
    services: Services, torpor: Torpor, console: Console, holds: Holds, *, is_awake: bool
) -> None:
    sleep(services, "s", A)
    if is_awake:
        restore_session(services, "s")
        say(services, "s", B)
    damage(services, holds)
    before = objects(services, "s"), read_transcript(services, "s")

    for whom in (["--session", "s"], ["--owner", "ann"]):
        planned = torpor("purge", *whom, "--dry-run", "--json")
        assert (planned.code, names_all(planned.lines[0]["kept"], holds)) == (0, True), planned
        done = torpor("purge", *whom, "--yes")
        assert (done.code, "blocked" in done.said, names_all(done.said, holds)) == (1, True, True), done
    assert [line["state"] for line in torpor("receipts", "--json").lines] == ["blocked", "blocked"]
    assert torpor("purge-status", "--json").lines == []
    for query in ("session=s", "owner=ann"):
        assert names_all(console.visitor(OFFICER).get(f"/erase?{query}").text, holds)
    with pytest.raises(SessionHeld, match="is damaged; the hold stands"):
        chat(services).clear()
    settle(services)
    assert (objects(services, "s"), read_transcript(services, "s")) == before


@of_holds
@pytest.mark.parametrize("scope", Scope)
def test_a_purge_of_an_owner_removes_the_sessions_that_no_damaged_hold_keeps(
    services: Services, holds: Holds, scope: Scope
) -> None:
    for session_id in ("s", "u"):
        sleep(services, session_id, A)
        restore_session(services, session_id)
        say(services, session_id, B)
    damage(services, holds)
    standing = purge(services, Order.of(owner="ann", scope=scope))
    assert (standing.state, standing.error) == (PurgeState.BLOCKED, None)
    assert standing.receipt
    assert standing.receipt.removed.sessions == (0 if HoldKind.OWNER in holds else 1)
    [kept] = [each for each in standing.receipt.kept.named if each.session == "s"]
    assert names_all(kept.why, holds)
    assert read_transcript(services, "s") == [A, B]


@of_holds
def test_a_session_under_damaged_holds_lives_on_and_all_of_its_objects_are_held(
    services: Services, torpor: Torpor, holds: Holds
) -> None:
    sleep(services, "s", A)
    restore_session(services, "s")
    say(services, "s", B)
    damage(services, holds)
    info = chat(services).info()
    assert info
    assert info.hold
    assert (info.hold.since, "is damaged; the hold stands" in (info.hold.damage or "")) == (None, True)

    assert torpor("archive", "s").code == 0
    assert held(services, "s") == [True, True]
    settle(services)
    assert restore_session(services, "s").messages == 2
    say(services, "s", C)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert (held(services, "s"), read_transcript(services, "s")) == ([True] * 3, [A, B, C])
    assert torpor("quarantine", "--json").lines == []
    assert wrong(services) == []


def wrong(services: Services) -> list[Finding]:
    """What doctor finds; the elements of these tests are no messages."""
    return [each for each in examine(services, repair=False) if each.ailment is not Ailment.CORRUPT]


@of_holds
@pytest.mark.parametrize("is_awake", [False, True])
def test_the_page_and_the_facts_of_a_session_name_its_damaged_holds(
    services: Services, torpor: Torpor, console: Console, holds: Holds, *, is_awake: bool
) -> None:
    (say if is_awake else sleep)(services, "s", A)
    damage(services, holds)
    visitor = console.visitor(OFFICER)
    for arguments in (["sessions", "--id", "s"], ["sessions", "--id", "s", "--json"], ["holds"]):
        assert names_all(succeed(torpor, *arguments).said, holds), arguments
    for path in ("/session?id=s", "/holds"):
        assert names_all(visitor.get(path).text, holds), path
    for kind in holds:
        assert names_all(visitor.get(f"/hold?{kind}={NAMES[kind]}").text, (kind,))
    listed = "is damaged; the hold stands" if is_awake else '"asleep"'
    assert listed in succeed(torpor, "sessions", "--owner", "ann", "--json").said


def release(visitor: Visitor, torpor: Torpor, kind: HoldKind) -> None:
    succeed(torpor, "unhold", f"--{kind}", NAMES[kind])


def release_on_the_console(visitor: Visitor, torpor: Torpor, kind: HoldKind) -> None:
    page = visitor.get(f"/hold?{kind}={NAMES[kind]}")
    assert "The legal hold is released." in visitor.submit(page, "/hold/release", reason="case closed").text


of_releases = pytest.mark.parametrize("release", [release, release_on_the_console], ids=lambda each: each.__name__)


@of_holds
@of_releases
@pytest.mark.parametrize("is_awake", [False, True])
def test_each_damaged_hold_can_be_released_on_its_own(
    services: Services,
    torpor: Torpor,
    console: Console,
    holds: Holds,
    release: Callable[[Visitor, Torpor, HoldKind], None],
    *,
    is_awake: bool,
) -> None:
    sleep(services, "s", A)
    if is_awake:
        restore_session(services, "s")
    damage(services, holds)
    for done, kind in enumerate(holds, 1):
        release(console.visitor(OFFICER), torpor, kind)
        left = holds[done:]
        assert [each["kind"] for each in torpor("holds", "--json").lines] == list(left)
        assert held(services, "s") == [bool(left)]
        assert torpor("purge", "--session", "s", "--yes").code == (1 if left else 0)
    assert objects(services, "s") == []


@of_holds
@of_values
def test_damaged_holds_that_are_set_anew_are_sound_and_end_with_their_release(
    services: Services, torpor: Torpor, holds: Holds, value: str
) -> None:
    sleep(services, "s", A)
    for kind in holds:  # an earlier hold, whose release the objects must not take for that of the damaged one
        succeed(torpor, "hold", f"--{kind}", NAMES[kind], "--reason", "case 7")
        succeed(torpor, "unhold", f"--{kind}", NAMES[kind])
    damage(services, holds, value)
    settle(services)
    assert torpor("purge", "--session", "s", "--yes").code == 1
    for kind in holds:
        succeed(torpor, "hold", f"--{kind}", NAMES[kind], "--reason", "case 9")
    assert {(each["reason"], each["damage"]) for each in torpor("holds", "--json").lines} == {("case 9", None)}
    assert "legal hold: case 9" in torpor("purge", "--session", "s", "--dry-run").said
    assert held(services, "s") == [True]
    for kind in holds:
        succeed(torpor, "unhold", f"--{kind}", NAMES[kind])
    assert held(services, "s") == [False]
    assert torpor("purge", "--session", "s", "--yes").code == 0
    assert objects(services, "s") == []


@of_holds
def test_the_objects_note_a_damaged_hold_until_it_is_released(services: Services, torpor: Torpor, holds: Holds) -> None:
    sleep(services, "s", A)
    damage(services, holds)
    for kind in holds:
        settle(services)
        assert held(services, "s") == [True]
        succeed(torpor, "unhold", f"--{kind}", NAMES[kind])
    assert held(services, "s") == [False]
    assert wrong(services) == []
    assert torpor("purge", "--session", "s", "--yes").code == 0


@of_holds
@pytest.mark.parametrize("value", ["yesterday", "9" * 15])
def test_a_release_whose_record_is_damaged_counts_for_nothing_and_the_next_release_mends_it(
    services: Services, torpor: Torpor, holds: Holds, value: str
) -> None:
    sleep(services, "s", A)
    keyspace = services.sessions.deployment.keyspace
    for kind in holds:
        succeed(torpor, "hold", f"--{kind}", NAMES[kind], "--reason", "case 8")
        succeed(torpor, "unhold", f"--{kind}", NAMES[kind])
        succeed(torpor, "hold", f"--{kind}", NAMES[kind], "--reason", "case 9")
        key = keyspace.of(NAMES[kind].encode()).holds
        of_redis(services, key, f"{'S' if kind is HoldKind.SESSION else 'O'}{NAMES[kind]}", value)
    assert held(services, "s") == [True]
    assert torpor("purge", "--session", "s", "--yes").code == 1
    for kind in holds:
        succeed(torpor, "unhold", f"--{kind}", NAMES[kind])
    assert held(services, "s") == [False]
    assert torpor("purge", "--session", "s", "--yes").code == 0


@of_holds
def test_a_session_in_quarantine_is_held_by_damaged_holds_and_can_be_taken_out(
    services: Services, torpor: Torpor, holds: Holds
) -> None:
    sleep(services, "s", A)
    restore_session(services, "s")
    lease = services.sessions.claim_one("s", services.settings.lease)
    assert isinstance(lease, Lease)
    assert services.sessions.quarantine(lease, "it is broken")
    damage(services, holds)
    settle(services)
    assert held(services, "s") == [True]
    assert "it is broken" in torpor("quarantine").said
    succeed(torpor, "requeue", "s")
    info = chat(services).info()
    assert info
    assert info.status is not Status.QUARANTINED
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED


def test_a_hold_that_is_set_anew_mends_the_note_of_an_object_that_can_t_be_read(
    services: Services, torpor: Torpor
) -> None:
    sleep(services, "s", A)
    succeed(torpor, "hold", "--session", "s", "--reason", "case 8")
    for segment in look(services.archive, "s").segments:
        services.archive.amend(segment.stored, held=True, entries={"session_hold": "yesterday", "owner_hold": None})
    succeed(torpor, "hold", "--session", "s", "--reason", "case 9")
    succeed(torpor, "unhold", "--session", "s")
    assert held(services, "s") == [False]
    assert torpor("purge", "--session", "s", "--yes").code == 0


def test_a_hold_of_an_owner_that_is_damaged_in_one_shard_is_named_there_and_set_anew_in_all(
    services: Services, torpor: Torpor
) -> None:
    sleep(services, "s", A)
    legal_hold.hold_owner(services, "ann", "case 8")
    of_redis(services, services.sessions.deployment.keyspace.of(b"s").holds, "oann", "yesterday:case 8")
    for arguments in (["sessions", "--id", "s"], ["purge", "--session", "s", "--dry-run"]):
        assert names_all(succeed(torpor, *arguments).said, (HoldKind.OWNER,))
    assert torpor("purge", "--owner", "ann", "--yes").code == 1
    succeed(torpor, "hold", "--owner", "ann", "--reason", "case 9")
    assert "legal hold: case 9" in succeed(torpor, "purge", "--session", "s", "--dry-run").said
    succeed(torpor, "unhold", "--owner", "ann")
    assert held(services, "s") == [False]
    assert torpor("purge", "--owner", "ann", "--yes").code == 0


@of_values
@pytest.mark.parametrize("shard", range(4))
def test_a_hold_of_an_owner_that_is_damaged_in_one_shard_is_listed_as_damaged_once(
    services: Services, torpor: Torpor, console: Console, shard: int, value: str
) -> None:
    sleep(services, "s", A)
    legal_hold.hold_owner(services, "ann", "case 8")
    legal_hold.hold_owner(services, "bob", "case 7")
    legal_hold.hold_session(services, "s", "case 6")
    of_redis(services, services.sessions.deployment.keyspace.shard(shard).holds, "oann", value)
    listed = {each["id"]: each for each in succeed(torpor, "holds", "--json").lines}
    assert len(listed) == len(succeed(torpor, "holds", "--json").lines) == 3
    assert of(HoldKind.OWNER) in listed["ann"]["damage"]
    assert {each: listed[each]["damage"] for each in ("bob", "s")} == {"bob": None, "s": None}
    officer = console.visitor(OFFICER)
    for page in ("/holds", "/hold?owner=ann", "/person?owner=ann"):
        assert names_all(officer.get(page).text, (HoldKind.OWNER,)), page
    succeed(torpor, "hold", "--owner", "ann", "--reason", "case 9")
    assert {each["id"]: each["damage"] for each in succeed(torpor, "holds", "--json").lines}["ann"] is None
    assert not names_all(officer.get("/hold?owner=ann").text, (HoldKind.OWNER,))


def test_a_shard_whose_holds_can_t_be_read_hides_no_owner_s_hold_in_the_others(
    services: Services, console: Console
) -> None:
    sleep(services, "s", A)
    legal_hold.hold_owner(services, "ann", "case 8")
    keyspace, client = services.sessions.deployment.keyspace, services.sessions.client
    raw(client, "DEL", keyspace.shard(0).holds)
    raw(client, "SET", keyspace.shard(0).holds, "another program's")
    of_redis(services, keyspace.shard(1).holds, "oann", "yesterday:case 8")
    assert names_all(console.visitor(OFFICER).get("/hold?owner=ann").text, (HoldKind.OWNER,))
