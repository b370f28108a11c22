"""torpor hold and unhold, and harmless output for any id or reason."""

from __future__ import annotations

import pytest
import redis

from support.cli_sessions import harmless, say, sleep, the_id
from support.command import Result, Torpor
from support.keyspace import dump
from torpor.worker.deployment.services import Services
from torpor.worker.erasure.order import Order
from torpor.worker.erasure.purge import purge

NASTY = "s\x1b[2J\x9b31m\u202e\n[bold]x[/bold]"


# Legal holds


def test_a_session_is_held_and_released(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    sleep(client, services, "s", "one")
    assert torpor("hold", "--session", "s", "--reason", "case 12", "--json").json == {"sessions": 1, "objects": 2}
    assert torpor("hold", "--session", "s", "--reason", "case 13").out.startswith("held: 1 sessions, ")
    [found] = services.sessions.find_holds([("s", [])])
    assert found
    assert found.reason == "case 13"
    assert torpor("purge", "--session", "s", "--yes").code == 1
    released = torpor("unhold", "--session", "s")
    assert (released.code, released.out.startswith("released: 1 sessions, ")) == (0, True)
    unknown = torpor("unhold", "--session", "s")
    assert (unknown.code, unknown.err) == (3, "torpor: there is no legal hold of session 's'\n")
    assert services.sessions.find_holds([("s", [])]) == [None]


def test_an_owner_is_held_and_released(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    sleep(client, services, "s")
    say(client, "t")
    held = torpor("hold", "--owner", "ann", "--reason", "case 12")
    assert (held.code, held.out) == (0, "held: 2 sessions, 2 objects changed\n")
    shown = torpor("purge", "--owner", "ann", "--dry-run").out
    assert shown.count("kept: legal hold: case 12") == 2
    assert torpor("unhold", "--owner", "ann", "--json").json["sessions"] == 2
    unknown = torpor("unhold", "--owner", "ann")
    assert (unknown.code, unknown.err) == (3, "torpor: there is no legal hold of owner 'ann'\n")
    # An owner without sessions can be held too.
    early = torpor("hold", "--owner", "bob", "--reason", "whatever comes")
    assert (early.code, early.out) == (0, "held: 0 sessions, 0 objects changed\n")
    assert early.err == "nothing is known of owner 'bob' yet: the hold is for sessions to come\n"
    say(client, "bobs", owner="bob")
    assert torpor("purge", "--session", "bobs", "--yes").code == 1


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_wrong_usage_of_a_hold_is_told_and_holds_nothing(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    say(client, "s")
    before = dump(client)
    for arguments, said in (
        (["hold", "--session", "s"], "--reason"),
        (["hold", "--reason", "case 12"], "give --session, or --owner"),
        (["hold", "--session", "s", "--owner", "ann", "--reason", "case 12"], "--owner can't be given"),
        (["hold", "--session", "s", "--reason", " "], "a legal hold needs a --reason"),
        (["hold", "--owner", "ann", "--reason", ""], "a legal hold needs a --reason"),
        (["hold", "--session", "", "--reason", "case 12"], "session id must not be empty"),
        (["hold", "--owner", "", "--reason", "case 12"], "owner must not be empty"),
        (["unhold"], "give --session, or --owner"),
        (["unhold", "--session", "s", "--owner", "ann"], "--owner can't be given with --session"),
    ):
        result = torpor(*arguments)
        assert (result.code, result.out, said in result.said) == (2, "", True), (arguments, result)
    assert dump(client) == before
    purge(services, Order.of(session="s"))
    late = torpor("hold", "--session", "s", "--reason", "too late")
    assert (late.code, "was purged: nothing of it is left to hold" in late.err) == (3, True)


# Control characters


def test_ids_and_reasons_with_control_characters_are_printed_harmlessly(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    results: list[Result] = []

    def run(*arguments: str, code: int = 0) -> Result:
        results.append(torpor(*arguments))
        assert results[-1].code == code, results[-1]
        return results[-1]

    sleep(client, services, NASTY, owner=NASTY)
    run("hold", "--session", NASTY, "--reason", NASTY)
    for option in ("--session", "--owner"):
        shown = run("purge", option, NASTY, "--dry-run")
        assert "s\\x1b[2J\\x9b31m\\u202e\\n[bold]x[/bold]: 1 sessions" in shown.out
        assert run("purge", option, NASTY, "--dry-run", "--json").lines[0]["session"] == NASTY
    run("purge", "--session", NASTY, "--by", NASTY, "--reason", NASTY, "--yes", code=1)
    blocked = the_id(services)
    run("purge-status", blocked)
    assert run("purge-status", blocked, "--json").json["order"]["reason"] == NASTY
    assert run("receipts", blocked).json["kept"]["named"][0]["session"] == NASTY
    run("receipts")
    run("receipts", "--json")
    run("unhold", "--session", NASTY)
    run("unhold", "--session", NASTY, code=3)
    run("hold", "--owner", NASTY, "--reason", NASTY)
    run("unhold", "--owner", NASTY)
    run("unhold", "--owner", NASTY, code=3)
    run("purge", "--owner", NASTY, "--by", NASTY, "--yes")
    run("hold", "--session", NASTY, "--reason", NASTY, code=3)
    run("purge-status", NASTY, code=2)
    run("purge", "--idle-for", NASTY, code=2)
    assert harmless(*results)
