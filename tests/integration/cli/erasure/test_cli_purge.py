"""torpor purge, purge-status and receipts: what people and programs see."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from support.backups import Backup
from support.cli_sessions import chat, harmless, say, sleep, the_id
from support.command import Result, Torpor
from support.keyspace import dump, raw
from support.rewinding import killed_at
from support.waiting import wait_until
from torpor.history.protocol import ClaimOutcome
from torpor.worker.archive import names
from torpor.worker.archive.contents import look
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders
from torpor.worker.erasure.order import Order, Scope
from torpor.worker.erasure.purge import carry_out, purge
from torpor.worker.errors import ArchiveRefused, ArchiveUnavailable
from torpor.worker.failpoints import Failpoint
from torpor.worker.retention import legal_hold
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session

pytestmark = pytest.mark.slow


def idle(client: redis.Redis, services: Services, session_id: str, seconds: float) -> None:
    """Move a session's last activity into the past."""
    key = services.sessions.deployment.keyspace.of(session_id.encode()).metadata(session_id.encode())
    client.hset(key, "active", round((time.time() - seconds) * 1000))


def stored(services: Services) -> list[tuple[str, int]]:
    return [(each.name, each.generation) for each in services.archive.list("", generations=True)]


def segments(services: Services, session_id: str) -> list[str]:
    return [segment.stored.name for segment in look(services.archive, session_id).segments]


# What would go


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_requester_that_has_no_utf_8_form_is_refused(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    say(client, "s")
    done = torpor("purge", "--session", "s", "--yes", "--by", "\udcff")
    assert (done.code, "surrogate" in done.err) == (2, True)
    assert services.sessions.infos(["s"]) != [None]
    assert torpor("receipts", "--json").lines == torpor("purge-status", "--json").lines == []


def test_a_dry_run_lists_exactly_what_would_go_and_changes_nothing(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    sleep(client, services, "both", "one", "two")
    restore_session(services, "both")
    say(client, "both", "three")
    sleep(client, services, "asleep", "one")
    say(client, "live", "one", "two")
    sleep(client, services, "kept", "one")
    legal_hold.hold_session(services, "kept", "case 12")
    archive_session(services, "kept")
    sleep(client, services, "bobs", owner="bob")
    before = dump(client), stored(services)

    listed = torpor("purge", "--owner", "ann", "--dry-run", "--json")
    told = torpor("purge", "--owner", "ann", "--dry-run")

    assert (dump(client), stored(services)) == before
    assert (listed.code, told.code) == (0, 0)
    by_session = {line["session"]: line for line in listed.lines}
    assert by_session.keys() == {"both", "asleep", "live", "kept"}
    for session_id, live, messages in (("both", 3, 3), ("asleep", 0, 1), ("live", 2, 2), ("kept", 0, 1)):
        line = by_session[session_id]
        assert (line["live_messages"], line["messages"]) == (live, messages)
        assert [each["name"] for each in line["objects"]] == segments(services, session_id)
        assert line["hold"] == ("case 12" if session_id == "kept" else None)
        assert line["owners"] == ["ann"]
        assert sum(each["size"] for each in line["objects"]) == sum(
            segment.stored.size for segment in look(services.archive, session_id).segments
        )
    assert "both: 1 sessions, 3 messages, 1 objects (" in told.out
    assert ", 3 of the messages in Redis\n" in told.out
    assert "kept: legal hold: case 12" in told.out
    assert told.out.splitlines()[-1].startswith("would purge: 3 sessions, 6 messages, 2 objects (")
    purged = torpor("purge", "--owner", "ann", "--yes", "--json")
    assert purged.json["receipt"]["removed"] == {
        "sessions": 3,
        "messages": 6,
        "objects": 2,
        "bytes": sum(each["size"] for name in ("both", "asleep") for each in by_session[name]["objects"]),
    }


def test_a_dry_run_and_the_question_tell_that_a_session_is_kept_because_it_is_another_owners_too(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    sleep(client, services, "s", "one", "two", owner="ann")
    say(client, "s", "three", owner="bob")
    why = "another owner has used the session's id, see torpor sessions --conflicts: torpor separate"
    told = torpor("purge", "--owner", "ann", "--dry-run")
    assert told.code == 0
    assert f"; kept: {why}\n" in told.out
    assert told.out.splitlines()[-1].startswith("would purge: 0 sessions, 0 messages, 0 objects (0 B)")
    [line] = torpor("purge", "--owner", "ann", "--dry-run", "--json").lines
    assert (line["kept"], line["hold"]) == (why, None)
    asked = torpor("purge", "--owner", "ann", answer="n\n")
    assert f"1 sessions are kept: {why}" in asked.err
    assert "Remove for good: 0 sessions, 0 messages" in asked.err
    purged = torpor("purge", "--owner", "ann", "--yes", "--json")
    assert (purged.code, purged.json["receipt"]["removed"]["sessions"]) == (1, 0)
    assert purged.json["receipt"]["kept"]["named"][0]["why"] == why


@pytest.mark.parametrize("backup", [False, True], ids=["upload was not committed", "Redis is behind"])
def test_messages_that_redis_and_the_archive_have_count_once(
    client: redis.Redis, services: Services, torpor: Torpor, *, backup: bool
) -> None:
    sleep(client, services, "s", "one", "two")
    restore_session(services, "s")
    say(client, "s", "three", "four", "five")
    if backup:
        before = Backup.of(client)
        assert archive_session(services, "s").outcome is Outcome.ARCHIVED
        before.restore(client)
    else:
        with killed_at(Failpoint.ARCHIVE_VERIFIED):
            archive_session(services, "s")
    say(client, "s", "six")
    [line] = torpor("purge", "--owner", "ann", "--dry-run", "--json").lines
    assert (line["live_messages"], line["messages"], len(line["objects"])) == (6, 6, 2)
    purged = torpor("purge", "--owner", "ann", "--scope", "everywhere", "--yes", "--json")
    assert purged.json["found"]["messages"] == 6


@pytest.mark.parametrize(
    ("scope", "named", "messages", "objects"),
    [
        ("live", {"both", "live"}, 5, 0),
        ("archive", {"both", "asleep"}, 3, 2),
        ("everywhere", {"both", "asleep", "live"}, 6, 2),
    ],
)
def test_the_scope_tells_where_from(
    client: redis.Redis,
    services: Services,
    torpor: Torpor,
    *,
    scope: str,
    named: set[str],
    messages: int,
    objects: int,
) -> None:
    sleep(client, services, "both", "one", "two")
    restore_session(services, "both")
    say(client, "both", "three")
    sleep(client, services, "asleep", "one")
    say(client, "live", "one", "two")

    listed = torpor("purge", "--owner", "ann", "--scope", scope, "--dry-run", "--json").lines
    purged = torpor("purge", "--owner", "ann", "--scope", scope, "--yes", "--json")

    assert {line["session"] for line in listed} == named
    assert purged.code == 0
    removed = purged.json["receipt"]["removed"]
    assert (removed["sessions"], removed["messages"], removed["objects"]) == (len(listed), messages, objects)
    assert bool(chat(client, "live").messages) is (scope == "archive")
    assert bool(segments(services, "asleep")) is (scope == "live")
    again = torpor("purge", "--owner", "ann", "--scope", scope, "--dry-run")
    if scope == "everywhere":
        assert (again.code, again.out) == (3, "")
    else:
        assert again.out.startswith("would purge: 0 sessions, 0 messages, 0 objects (0 B), from Redis ")


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
@pytest.mark.parametrize(
    ("span", "seconds"),
    [("90d", 90 * 86_400), ("12h", 43_200), ("30m", 1_800), ("45s", 45), ("2w", 14 * 86_400), ("45", 45)],
)
def test_what_has_been_idle_for_a_span_is_purged(
    client: redis.Redis, services: Services, torpor: Torpor, span: str, seconds: int
) -> None:
    for session_id, owner, since in (("old", "ann", 2), ("bobs", "bob", 2), ("new", "ann", -20)):
        say(client, session_id, owner=owner)
        idle(client, services, session_id, seconds + since)

    listed = torpor("purge", "--idle-for", span, "--dry-run", "--json").lines
    assert {line["session"] for line in listed} == {"old", "bobs"}
    assert torpor("purge", "--idle-for", span, "--owner", "ann", "--yes").code == 0

    left = [each for each in ("old", "bobs", "new") if services.sessions.messages(each, touch=False)]
    assert left == ["bobs", "new"]
    assert torpor("receipts", the_id(services)).json["target"] == {"owner": "ann", "idle_seconds": seconds}


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_wrong_usage_is_told_and_places_no_order(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    say(client, "s")
    before = dump(client)
    for arguments, said in (
        ([], "give --resume, or --session, or --owner, or --idle-for"),
        (["--session", "s", "--owner", "ann"], "--owner can't be given with --session"),
        (["--session", "s", "--idle-for", "1d"], "--idle-for can't be given with --session"),
        (["--session", "s", "--session", "t"], "a purge has one --session: order one for each"),
        (["--owner", "ann", "--owner", "bob"], "a purge has one --owner: order one for each"),
        (["--session", ""], "session id must not be empty"),
        (["--owner", ""], "owner must not be empty"),
        (["--owner", "\udce4"], "surrogate"),
        (["--idle-for", ""], "'' is not a span such as 90d"),
        (["--idle-for", "soon"], "'soon' is not a span such as 90d, 12h, 30m or 45s"),
        (["--idle-for", "1.5h"], "is not a span"),
        (["--idle-for", "-3d"], "is not a span"),
        (["--idle-for", "5y"], "is not a span"),
        (["--idle-for", "1d 2h"], "is not a span"),
        (["--idle-for", "0s"], "from 1 second to 100 years"),
        (["--idle-for", "10w0"], "is not a span"),
        (["--idle-for", "36501d"], "from 1 second to 100 years"),
        (["--idle-for", "999999999w"], "longer than any session"),
        (["--session", "s", "--scope", "moon"], "moon"),
        (["--resume", "x", "--session", "s"], "--session can't be given with --resume"),
        (["--resume", "x", "--dry-run"], "--dry-run can't be given with --resume"),
        (["--resume", "../x"], "a purge id is 1 to 100 letters"),
        (["--resume", "\udce4"], "a purge id is 1 to 100 letters"),
        (["s"], "unexpected extra argument"),
    ):
        for confirmed in ([], ["--yes"]):
            result = torpor("purge", *arguments, *confirmed)
            assert (result.code, result.out, said in result.said) == (2, "", True), (arguments, result)
            assert "Traceback" not in result.err
    assert dump(client) == before
    assert not list(orders.open_orders(services))


# Asking


@pytest.mark.parametrize("target", [["--session", "s"], ["--owner", "ann"], ["--owner", "ann", "--idle-for", "1s"]])
def test_a_purge_that_is_not_confirmed_changes_nothing(
    client: redis.Redis, services: Services, torpor: Torpor, target: list[str]
) -> None:
    sleep(client, services, "s", "one", "two")
    restore_session(services, "s")
    idle(client, services, "s", 60)
    before = dump(client), [each for each in stored(services) if each[0] != names.DEPLOYMENT]

    for answer in ("n\n", "\n", ""):
        result = torpor("purge", *target, answer=answer)
        assert (result.code, result.out.strip()) == (1, "")
        assert "Remove for good: 1 sessions, 2 messages, 1 objects (" in result.err

    assert (dump(client), [each for each in stored(services) if each[0] != names.DEPLOYMENT]) == before
    assert torpor("purge", *target, answer="y\n").code == 0
    assert segments(services, "s") == []


def test_a_purge_proves_who_asked_and_why_and_what_is_gone(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    sleep(client, services, "s", "one", "two")
    [name] = segments(services, "s")
    done = torpor("purge", "--session", "s", "--by", "dpo@example.com", "--reason", "request 17", "--yes", "--json")

    assert done.code == 0
    standing = done.json
    purge_id = standing["purge"]
    assert (standing["state"], standing["error"]) == ("complete", None)
    shown = torpor("receipts", purge_id)
    assert shown.code == 0
    assert shown.json == standing["receipt"]
    assert (shown.json["requested_by"], shown.json["reason"]) == ("dpo@example.com", "request 17")
    assert (shown.json["target"], shown.json["scope"]) == ({"session": "s"}, "everywhere")
    assert "one" not in shown.out
    told = torpor("purge-status", purge_id)
    assert told.code == 0
    for said in ("complete", "dpo@example.com", "request 17", "session: s", "1 sessions, 2 messages"):
        assert said in told.said, said
    assert name not in [each for each, _ in stored(services)]


NOBODY = {
    "a session": ["--session", "none"],
    "an owner": ["--owner", "An"],
    "an owner, idle": ["--owner", "An", "--idle-for", "1s"],
    "an owner, live": ["--owner", "An", "--scope", "live"],
    "an owner, archived": ["--owner", "An", "--scope", "archive"],
    "a held owner": ["--owner", "held"],
}


@pytest.mark.parametrize("options", [[], ["--yes"], ["--json", "--yes"], ["--dry-run"], ["--dry-run", "--json"]])
@pytest.mark.parametrize("target", NOBODY.values(), ids=NOBODY)
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_purge_of_whom_nothing_is_known_is_refused_and_leaves_no_receipt(
    client: redis.Redis, services: Services, torpor: Torpor, target: list[str], options: list[str]
) -> None:
    say(client, "anns")
    torpor("hold", "--owner", "held", "--reason", "comes first")
    before = dump(client)
    result = torpor("purge", *target, *options)
    assert (result.code, result.out) == (3, ""), result
    assert "nothing" in result.err
    assert target[1] in result.err
    assert dump(client) == before
    assert not list(services.archive.list(names.PURGES.orders))
    assert not list(services.archive.list(names.PURGES.work))


@pytest.mark.parametrize("target", NOBODY.values(), ids=NOBODY)
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_that_nothing_was_found_is_recorded_on_request(
    client: redis.Redis, services: Services, torpor: Torpor, target: list[str]
) -> None:
    say(client, "anns")
    done = torpor("purge", *target, "--record-nothing-found", "--json")
    assert (done.code, done.err) == (0, ""), done  # and nobody was asked
    receipt = torpor("receipts", done.json["purge"]).json
    assert (receipt["state"], receipt["found"]) == ("complete", dict.fromkeys(receipt["found"], 0))
    assert torpor("purge", *target, "--record-nothing-found", "--yes").out.startswith("complete: 0 sessions")
    assert torpor("purge", *target, "--record-nothing-found", "--dry-run").code == 0
    assert torpor("purge", "--owner", "ann", "--yes").out.startswith("complete: 1 sessions")
    assert torpor("purge", "--owner", "ann", "--yes").code == 3


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
@pytest.mark.parametrize("asleep", [False, True])
def test_an_owner_is_known_by_any_session_in_the_scope_of_the_purge_or_not(
    client: redis.Redis, services: Services, torpor: Torpor, *, asleep: bool
) -> None:
    (sleep(client, services, "s") if asleep else say(client, "s"))
    other = "live" if asleep else "archive"
    for options in (["--scope", other], ["--idle-for", "90d"], ["--scope", other, "--idle-for", "90d"]):
        for dry in (["--dry-run"], ["--yes"]):
            done = torpor("purge", "--owner", "ann", *options, *dry)
            assert (done.code, ": 0 sessions" in done.out) == (0, True), done
    assert torpor("purge", "--idle-for", "90d", "--yes").code == 0  # names nobody


def test_a_second_purge_of_an_owner_waits_for_the_first_to_end(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    say(client, "s")
    assert not isinstance(services.sessions.claim_one("s", timedelta(seconds=4)), ClaimOutcome)
    assert torpor("purge", "--owner", "ann", "--yes").code == 4
    first = the_id(services)
    for options in (["--yes"], ["--yes", "--record-nothing-found"], ["--dry-run"]):
        again = torpor("purge", "--owner", "ann", *options)
        assert (again.code, f"torpor purge --resume {first}" in again.err) == (4, True), again
    assert the_id(services) == first
    wait_until(lambda: torpor("purge", "--resume", first).code == 0)
    assert torpor("purge", "--owner", "ann", "--yes").code == 3


def test_a_purge_of_what_is_held_is_blocked(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    sleep(client, services, "kept")
    sleep(client, services, "free")
    legal_hold.hold_session(services, "kept", "case 12")

    for arguments in (["--session", "kept", "--yes"], ["--owner", "ann", "--yes", "--json"]):
        result = torpor("purge", *arguments)
        assert result.code == 1
        assert "some of it may not be removed (" in result.err
    standing = result.json
    assert (standing["state"], standing["receipt"]["removed"]["sessions"]) == ("blocked", 1)
    told = torpor("purge-status", standing["purge"])
    assert (told.code, "blocked" in told.said) == (0, True)
    [named] = torpor("receipts", standing["purge"]).json["kept"]["named"]
    assert named == {"session": "kept", "object": None, "why": "legal hold: case 12", "until": None}
    asked = torpor("purge", "--session", "kept", answer="y\n")
    assert (asked.code, "Remove for good: 0 sessions" in asked.err) == (1, True)
    assert segments(services, "kept")


@pytest.mark.parametrize("scope", [Scope.EVERYWHERE, Scope.ARCHIVE])
def test_a_purge_of_what_the_archive_refuses_to_delete_is_blocked(
    client: redis.Redis, services: Services, torpor: Torpor, monkeypatch: pytest.MonkeyPatch, *, scope: Scope
) -> None:
    sleep(client, services, "s")
    [name] = segments(services, "s")
    restore_session(services, "s")
    until = datetime(2999, 1, 2, tzinfo=UTC)
    delete = type(services.archive).delete

    def refuse(archive: Any, stored: Any) -> bool:
        if stored.name == name:
            raise ArchiveRefused("a retention policy \x1b[2J keeps it", until=until)
        return bool(delete(archive, stored))

    with monkeypatch.context() as patched:
        patched.setattr(type(services.archive), "delete", refuse)
        result = torpor("purge", "--session", "s", "--scope", scope, "--yes", "--json")
    assert result.code == 1, result
    assert result.json["state"] == "blocked"
    shown = torpor("receipts", result.json["purge"])
    [named] = shown.json["kept"]["named"]
    assert (named["session"], named["object"], named["until"]) == ("s", name, until.isoformat(timespec="milliseconds"))
    assert harmless(result, shown, torpor("purge-status", result.json["purge"]))
    assert torpor("purge", "--session", "s", "--scope", scope, "--yes").code == 0


def test_a_purge_that_waits_for_a_worker_is_running_and_can_be_resumed(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    say(client, "s")
    assert not isinstance(services.sessions.claim_one("s", timedelta(seconds=4)), ClaimOutcome)

    begun = torpor("purge", "--session", "s", "--by", "dpo", "--yes")

    purge_id = the_id(services)
    assert begun.code == 4
    assert begun.out.startswith("running: 1 sessions, 1 messages, 0 objects (0 B)")
    assert f"torpor purge --resume {purge_id}" in begun.said
    assert chat(client, "s").messages == []
    told = torpor("purge-status", purge_id, "--json").json
    assert (told["state"], told["receipt"], told["order"]["requested_by"]) == ("running", None, "dpo")
    listed = torpor("purge-status")
    assert (listed.code, "running" in listed.out) == (0, True)
    assert torpor("purge-status", "--json").json["purge"] == purge_id
    assert torpor("status", "--json").json["tombstones"] == 1
    unfinished = torpor("receipts", purge_id)
    assert (unfinished.code, unfinished.out) == (4, "")
    assert f"purge {purge_id} is running: it has no receipt yet" in unfinished.said

    def resumed() -> Result | None:
        result = torpor("purge", "--resume", purge_id, "--json")
        assert result.json["state"] == ("running" if result.code == 4 else "complete")
        return None if result.code == 4 else result

    done = wait_until(resumed)
    assert done.code == 0
    assert done.json["receipt"]["requested_by"] == "dpo"
    assert torpor("purge-status", "--json").out == ""
    again = torpor("purge", "--resume", purge_id)
    assert (again.code, again.out.startswith("complete: 1 sessions")) == (0, True)


# Where a purge stands


def test_the_status_tells_what_is_queued_what_failed_and_what_nobody_knows(
    client: redis.Redis, services: Services, torpor: Torpor, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(client, "s", "one", "two")
    order = orders.place(services, Order.of(owner="ann", requested_by="dpo", scope=Scope.EVERYWHERE))
    queued = torpor("purge-status", order.id)
    assert (queued.code, "queued" in queued.said, "owner: ann" in queued.said) == (0, True, True)
    assert torpor("purge-status", order.id, "--json").json["found"]["sessions"] == 0

    def down(*_: Any, **__: Any) -> Any:
        raise ArchiveUnavailable("the bucket \x1b[2J is down")

    with monkeypatch.context() as patched:
        patched.setattr("torpor.worker.erasure.erase.below_floor", down)
        failing = torpor("purge", "--resume", order.id)
    assert failing.code == 4
    assert "the bucket \\x1b[2J is down" in failing.said
    assert f"torpor purge --resume {order.id}" in failing.said
    failed = torpor("purge-status", order.id, "--json").json
    assert (failed["state"], failed["found"]["messages"]) == ("failed", 2)
    assert failed["error"] == "the bucket \x1b[2J is down"
    told = torpor("purge-status", order.id)
    assert "the bucket \\x1b[2J is down" in told.said
    assert harmless(failing, told, torpor("purge-status", order.id, "--json"))

    for command in (["purge-status"], ["receipts"], ["purge", "--resume"]):
        unknown = torpor(*command, "nobody-knows-it")
        assert (unknown.code, unknown.out) == (3, "")
        assert unknown.err.endswith("torpor: there is no purge 'nobody-knows-it'\n")
        for wrong in ("../x", "", "a/b", "x\0y", "\udce4", "x" * 101):
            refused = torpor(*command, wrong)
            assert (refused.code, refused.out) == (2, ""), wrong
            assert "a purge id is 1 to 100 letters, digits, '-' or '_'" in refused.said


def test_receipts_are_listed(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    assert torpor("receipts", "--json").out == ""
    assert torpor("receipts").code == 0
    for number in range(3):
        sleep(client, services, f"s{number}")
        purge(services, Order.of(session=f"s{number}", id=f"purge-{number}", requested_by="dpo" * number))
    orders.place(services, Order.of(owner="ann", id="purge-9"))

    listed = torpor("receipts", "--json").lines
    assert [each["purge"] for each in listed] == ["purge-0", "purge-1", "purge-2"]
    assert listed == [torpor("receipts", each["purge"]).json for each in listed]
    table = torpor("receipts").out
    assert table.split()[:3] == ["purge", "state", "target"]
    assert [line.split()[:2] for line in table.splitlines()[1:] if line.startswith("purge-")] == [
        [f"purge-{number}", "complete"] for number in range(3)
    ]
    carry_out(services, "purge-9")
    assert len(torpor("receipts", "--json").lines) == 4


def test_what_a_purge_leaves_in_redis_is_the_tombstone_and_counts_that_name_nobody(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    say(client, "needle", owner="ann-needle")
    torpor("purge", "--session", "needle", "--yes")
    kept = {key for key in raw(client, "KEYS", "*") if b"}:" in key and not key.endswith(b"}:l")}
    assert {key.split(b":")[2] for key in kept} == {b"s", b"due", b"t", b"measures"}
    [measures] = [key for key in kept if key.endswith(b":measures")]
    assert b"needle" not in b" ".join(raw(client, "HGETALL", measures))


def test_of_a_purge_that_nobody_ordered_no_sweep_is_promised(torpor: Torpor) -> None:
    resumed = torpor("purge", "--resume", "nobody-s")
    assert (resumed.code, resumed.err) == (3, "torpor: there is no purge 'nobody-s'\n")
