"""Owners travel with their sessions: into files and out of them, and from another library; a purge then finds them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage

from support.command import Result, Torpor
from support.foreign import LAYOUTS, Foreign
from support.keyspace import dump
from support.servers import RedisServer
from torpor import MemorystoreChatMessageHistory, MemorystoreSession
from torpor.history import calls
from torpor.history.adoption import Adoption
from torpor.history.protocol import OwnerMismatch, SessionStore
from torpor.worker.archive import names
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.transfer import adopt as adopting
from torpor.worker.wake.restore import restore_session

TURN = [HumanMessage("what is up?"), AIMessage("the sky")]
OWNERS = [None, "ann", 'o/"\n%é\\', "x" * 300]
FLAT = [{"type": "human", "content": "hi"}]

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("archive_url", ["folder"], indirect=True)]


def say(services: Services, session_id: str, owner: str | None) -> None:
    MemorystoreChatMessageHistory(services.sessions.client, session_id, owner=owner).add_messages(TURN)


def sleep(services: Services, session_id: str, owner: str | None) -> None:
    say(services, session_id, owner)
    archive_session(services, session_id)


def wake(services: Services, session_id: str, owner: str | None) -> None:
    sleep(services, session_id, owner)
    restore_session(services, session_id)


def go_on(services: Services, session_id: str, owner: str | None) -> None:
    """The new turn does not name the owner, whom only the archive knows."""
    sleep(services, session_id, owner)
    say(services, session_id, None)


def write_odd(services: Services, session_id: str, owner: str | None) -> None:
    services.sessions.append(session_id, [b"\xff no message"], owner=owner)


STATES: list[Callable[[Services, str, str | None], None]] = [say, sleep, wake, go_on, write_odd]


@pytest.fixture
def bring(torpor: Torpor, tmp_path: Path) -> Callable[..., Result]:
    """Import lines; the options come after them."""

    def run(lines: list[dict[str, Any]], *options: str) -> Result:
        file = tmp_path / "in.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return torpor("import", str(file), *options)

    return run


def owner_of(store: SessionStore, session_id: str) -> str | None:
    found = store.info(session_id)
    assert found, session_id
    return found.owner


def test_owners_make_the_round_and_a_purge_finds_all_of_their_sessions(
    client: redis.Redis, redis_server: RedisServer, services: Services, torpor: Torpor, tmp_path: Path
) -> None:
    expected: dict[str, str | None] = {}
    for state in STATES:
        for number, owner in enumerate(OWNERS):
            expected[f"{state.__name__}-{number}"] = owner
            state(services, f"{state.__name__}-{number}", owner)

    async def use_agents() -> None:
        async with redis_server.asyncio_client() as connected:
            await MemorystoreSession(connected, "agents", owner="ann").add_items([{"role": "user", "content": "hi"}])

    asyncio.run(use_agents())
    expected["agents"] = "ann"
    file = tmp_path / "all.jsonl"
    assert torpor("export", "--all", "-o", str(file)).code == 0
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert {line["session_id"]: line.get("owner") for line in lines} == expected
    assert not any(line["owner"] is None for line in lines if "owner" in line)
    assert torpor("show", "sleep-1", "--json").json["owner"] == "ann"

    elsewhere = {"NAMESPACE": "elsewhere", "ARCHIVE_URL": (tmp_path / "new").as_uri()}
    assert torpor("import", str(file), "--json", **elsewhere).json["sessions"] == len(expected)
    there = SessionStore(client, namespace="elsewhere")
    assert {session_id: owner_of(there, session_id) for session_id in expected} == expected
    for number, session_id in enumerate(sorted(expected)):
        if number % 2:
            assert torpor("archive", session_id, **elsewhere).code == 0
    again = torpor("export", "--all", **elsewhere).out
    assert sorted(again.splitlines()) == sorted(file.read_text().splitlines())
    for owner in OWNERS[1:]:
        assert owner is not None
        of_owner = [session_id for session_id, each in expected.items() if each == owner]
        purged = torpor("purge", "--owner", owner, "--yes", "--json", **elsewhere)
        assert (purged.code, purged.json["receipt"]["removed"]["sessions"]) == (0, len(of_owner))
        expected = {session_id: each for session_id, each in expected.items() if each != owner}
    left = [json.loads(line)["session_id"] for line in torpor("export", "--all", **elsewhere).out.splitlines()]
    assert sorted(left) == sorted(expected)


@pytest.mark.parametrize("state", [say, sleep, wake, go_on])
@pytest.mark.parametrize("options", [[], ["--dry-run"]], ids=["run", "dry run"])
def test_a_line_with_another_owner_than_its_session_is_named_and_nothing_is_imported(
    client: redis.Redis, services: Services, bring: Callable[..., Result], state: Any, options: list[str]
) -> None:
    state(services, "s", "ann")
    state(services, "nobodys", None)

    def imported(owner: str | None, *more: str) -> Result:
        lines = [
            {"session_id": "new", "owner": "bob", "messages": FLAT},
            {"session_id": "s", "owner": owner, "messages": FLAT},
            {"session_id": "nobodys", "owner": "bob", "messages": FLAT},
        ]
        return bring(lines, *options, *more)

    before = dump(client)
    refused = imported("bob")
    assert (refused.code, refused.out) == (2, "")
    assert "in.jsonl, line 2: session 's' exists, and belongs to another owner than 'bob'" in refused.said
    assert dump(client) == before
    for same in ("ann", None):
        done = imported(same, "--json")
        assert (done.code, done.json["unowned"]) == (0, 1)
        assert done.json["skipped"] == (3 if services.sessions.info("new") and same is None else 2)
        assert "1 of the sessions that exist have no owner: see torpor assign-owner" in imported(same).err


@pytest.mark.parametrize(
    ("line", "options", "expected"),
    [
        ({}, [], None),
        ({"owner": None}, [], None),
        ({"owner": "ann"}, [], "ann"),
        ({"owner": 42}, [], "42"),
        ({}, ["--owner", "ann"], "ann"),
        ({"owner": "ann"}, ["--owner", "ann"], "ann"),
        ({"user": "ann"}, ["--owner-field", "user"], "ann"),
        ({"user": "ann", "owner": "ann"}, ["--owner-field", "user"], "ann"),
        ({"owner": ""}, [], "must not be empty"),
        ({"owner": True}, [], "'owner' must be an owner as text, not bool"),
        ({"owner": ["ann"]}, [], "'owner' must be an owner as text, not list"),
        ({"owner": "x" * 1025}, [], "1,024"),
        ({"owner": "bob"}, ["--owner", "ann"], "names 2 owners: 'ann', 'bob'"),
        ({"user": "bob", "owner": "ann"}, ["--owner-field", "user"], "names 2 owners: 'ann', 'bob'"),
        ({"owner": "ann"}, ["--owner-field", "user"], "'user' is missing"),
        ({"user": None}, ["--owner-field", "user"], "'user' is missing"),
        ({"user": 1.5}, ["--owner-field", "user"], "'user' must be an owner as text, not float"),
    ],
)
def test_an_owner_comes_from_the_line_or_from_an_option(
    services: Services, bring: Callable[..., Result], line: Any, options: list[str], expected: str | None
) -> None:
    good = {"session_id": "good", "messages": FLAT, "user": "ann"}
    result = bring([good, {"session_id": "s", "messages": FLAT, **line}], *options)
    if expected in (None, "ann", "42"):
        assert (result.code, owner_of(services.sessions, "s")) == (0, expected)
        assert not expected or "s" in services.sessions.owned(expected)
    else:
        assert (result.code, "line 2: " in result.said, str(expected) in result.said) == (2, True, True), result
        assert services.sessions.info("good") is None


# Adoption


def test_an_adopted_session_has_the_owner_that_an_option_names(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    for session_id in ("ann:1", "ann:2", "bob:1", "nobody", ":empty", "taken:1", "asleep:1"):
        Foreign(client, LAYOUTS["memorystore"], session_id).add(*TURN)
    say(services, "taken:1", "other")
    sleep(services, "asleep:1", "other")
    command = ("adopt", "--match", "*", "--format", "memorystore", "--owner-pattern", "([^:]*):", "--json")
    before = dump(client)
    planned = torpor(*command, "--dry-run").json
    assert dump(client) == before
    assert {each["session_id"]: each["owner"] for each in planned["planned"]} == {
        "ann:1": "ann",
        "ann:2": "ann",
        "bob:1": "bob",
    }
    done = torpor(*command).json
    assert done["sessions"] == 3
    assert done["left"] == planned["left"]
    counts = {reason: left["count"] for reason, left in done["left"].items()}
    assert counts == {
        "its id does not match the pattern of owners": 2,
        "its session belongs to another owner": 2,
    }
    assert sorted(services.sessions.owned("ann")) == ["ann:1", "ann:2"]
    assert torpor(
        "adopt", "--match", "nobody", "--format", "memorystore", "--owner", "zoe", "--dry-run"
    ).out.startswith("nobody: of owner zoe, 2 messages")
    assert torpor("adopt", "--match", "nobody", "--format", "memorystore", "--owner", "zoe").code == 0
    archive_session(services, "nobody")
    assert torpor("purge", "--owner", "zoe", "--yes", "--json").json["receipt"]["removed"]["sessions"] == 1
    assert torpor("purge", "--owner", "ann", "--yes", "--json").json["receipt"]["removed"]["sessions"] == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--owner", ""], "owner must not be empty"),
        (["--owner", "ann", "--owner-pattern", "(.*)"], "give only one of --owner and --owner-pattern"),
        (["--owner-pattern", "("], "is not a regular expression"),
        (["--owner-pattern", ".*"], "must have one group"),
        (["--owner-pattern", "(a)(b)"], "must have one group"),
    ],
)
def test_a_wrong_rule_of_owners_is_told_and_nothing_is_adopted(
    client: redis.Redis, torpor: Torpor, options: list[str], said: str
) -> None:
    Foreign(client, LAYOUTS["memorystore"], "s").add(*TURN)
    before = dump(client)
    result = torpor("adopt", "--match", "*", "--format", "memorystore", *options)
    assert (result.code, said in result.said) == (2, True), result
    assert dump(client) == before


@pytest.mark.parametrize("taken", [False, True])
def test_whoever_finishes_an_adoption_that_was_killed_gives_its_owner(
    client: redis.Redis, services: Services, torpor: Torpor, *, taken: bool
) -> None:
    layout = LAYOUTS["memorystore"]
    Foreign(client, layout, "s").add(*TURN)
    store = services.sessions
    begun = store.run(
        calls.begin_adoption(store.deployment, Adoption.new("s", layout, "ann"), owner="ann", allow_reuse=False)
    )
    if taken:
        store.run(calls.take_list("torpor", "s", layout, "0a", 2))
    assert torpor("purge", "--owner", "ann", "--dry-run").code == 0  # known, though nothing is written yet
    with pytest.raises(OwnerMismatch):
        store.adopt("s", layout, owner="bob")
    assert next(iter(store.adoptions())) == begun
    if taken:
        adopting.finish(services)
    else:
        store.adopt("s", layout)
    assert owner_of(store, "s") == "ann"
    assert torpor("purge", "--owner", "ann", "--yes").out.startswith("complete: 1 sessions")
    assert not [each.name for each in services.archive.list("v1/owners/")]
    assert list(services.archive.list(names.PURGES.orders)) == []
