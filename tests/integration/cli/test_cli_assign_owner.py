"""torpor assign-owner: from a file or by a pattern, for sessions awake and asleep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from support.command import Torpor
from support.keyspace import dump, raw
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveUnavailable
from torpor.worker.sleep.attempt import archive_session

LINES = [{"session_id": "live", "owner": "ann"}, {"session_id": "asleep", "owner": "ann"}]

pytestmark = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "owners"


def say(services: Services, session_id: str, owner: str | None = None, *, asleep: bool = False) -> None:
    services.sessions.append(session_id, [b'{"type":"human","data":{"content":"hi"}}'], owner=owner)
    if asleep:
        archive_session(services, session_id)


def in_json(lines: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


def in_csv(lines: list[dict[str, Any]]) -> str:
    return "owner,more,session_id\r\n" + "".join(f'"{each["owner"]}",x,{each["session_id"]}\r\n' for each in lines)


def objects(services: Services) -> list[str]:
    return [each.name for each in services.archive.list("v1/") if each.name != "v1/deployment"]


def counts(**given: int) -> dict[str, Any]:
    names = ("assigned", "already", "other", "purged", "unknown", "failed")
    return {name: given.get(name, 0) for name in names} | {"dry_run": False}


@pytest.mark.parametrize("write", [in_json, in_csv])
def test_sessions_get_the_owners_that_a_file_names_and_a_purge_finds_them(
    client: redis.Redis, services: Services, torpor: Torpor, file: Path, write: Any
) -> None:
    say(services, "live")
    say(services, "asleep", asleep=True)
    file.write_text("\N{BYTE ORDER MARK}" + write([*LINES, LINES[0]]))
    before = dump(client), objects(services)
    planned = torpor("assign-owner", str(file), "--dry-run", "--json")
    assert (planned.code, planned.json) == (0, {**counts(assigned=2), "dry_run": True})
    assert torpor("assign-owner", str(file), "--dry-run").out.startswith("would assign: 2 sessions; 0 have the owner")
    for answer in ("n\n", ""):
        refused = torpor("assign-owner", str(file), answer=answer)
        assert (refused.code, "Give an owner to 2 sessions?" in refused.err) == (1, True)
    assert (dump(client), objects(services)) == before

    assert torpor("assign-owner", str(file), "--json", answer="y\n").json == counts(assigned=2)
    assert torpor("assign-owner", str(file), "--json").json == counts(already=2)  # and nobody is asked
    assert services.sessions.info("asleep") is None
    assert torpor("purge", "--owner", "ann", "--yes").out.startswith("complete: 2 sessions, 2 messages")


def test_sessions_that_must_not_be_assigned_are_named_and_counted_and_the_others_are_assigned(
    client: redis.Redis, services: Services, torpor: Torpor, file: Path
) -> None:
    for session_id, owner in (("new", None), ("anns", "ann"), ("bobs", "bob"), ("purged", None), ("damaged", None)):
        say(services, session_id, owner)
    say(services, "bob asleep", "bob", asleep=True)
    assert torpor("purge", "--session", "purged", "--yes").code == 0
    [key] = raw(client, "KEYS", "*:s:damaged")
    raw(client, "DEL", key)
    ids = ["new", "anns", "bobs", "bob asleep", "purged", "damaged", "unknown"]
    file.write_text(in_json([{"session_id": each, "owner": "ann"} for each in ids]))
    expected = counts(assigned=1, already=1, other=2, purged=1, unknown=1, failed=1)
    for options in (["--dry-run"], ["--yes"]):
        result = torpor("assign-owner", str(file), "--json", *options)
        assert (result.code, result.json) == (1, {**expected, "dry_run": "--dry-run" in options})
        for session_id, reason in (
            ("bobs", "it belongs to another owner"),
            ("bob asleep", "it belongs to another owner"),
            ("unknown", "it is neither in Redis nor in the archive"),
            ("damaged", "the metadata of session 'damaged' was lost"),
        ):
            assert f"not assigned: {session_id}: {reason}" in result.err
        assert "4 sessions were refused" in result.err
    assert sorted(services.sessions.owned("ann")) == ["anns", "new"]
    assert list(services.sessions.owned("bob")) == ["bobs"]


def test_sessions_are_assigned_by_a_pattern_of_their_ids(services: Services, torpor: Torpor) -> None:
    for number, session_id in enumerate(("ann:1", "ann:2", "bob:1", "nobody", "zoe")):
        say(services, session_id, asleep=bool(number % 2))
    one = ("assign-owner", "--match", "ann:*", "--owner", "ann", "--yes", "--json")
    assert torpor(*one).json == counts(assigned=2)
    every = ("assign-owner", "--match", "*", "--owner-pattern", "([^:]+):", "--yes", "--json")
    assert torpor(*every).json == counts(assigned=1, already=2)
    for owner, sessions in (("ann", 2), ("bob", 1)):
        purged = torpor("purge", "--owner", owner, "--yes", "--json").json
        assert purged["receipt"]["removed"]["sessions"] == sessions
    none = torpor("assign-owner", "--match", "x*", "--owner", "ann", "--yes")
    assert (none.code, none.err.strip()) == (3, "torpor: no session matches 'x*'")


def test_empty_lines_are_passed_over(services: Services, torpor: Torpor, file: Path) -> None:
    say(services, "live")
    file.write_text('\n \n{"session_id": "live", "owner": "ann"}\n\n')
    assert torpor("assign-owner", str(file), "--yes", "--json").json == counts(assigned=1)


def test_what_was_assigned_before_an_outage_stays_and_the_next_run_goes_on(
    services: Services, torpor: Torpor, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"s{number}" for number in range(6)]
    for session_id in ids:
        say(services, session_id, asleep=True)
    file.write_text(in_json([{"session_id": each, "owner": "ann"} for each in ids]))
    archive = type(services.archive)
    put, puts = archive.put, iter(range(100))

    def fail(self: Any, *arguments: Any, **given: Any) -> Any:
        if next(puts) >= 4:
            raise ArchiveUnavailable("the archive is away")
        return put(self, *arguments, **given)

    with monkeypatch.context() as patched:
        patched.setattr(archive, "put", fail)
        stopped = torpor("assign-owner", str(file), "--yes")
    assert (stopped.code, "the archive is away" in stopped.err) == (4, True)
    done = torpor("assign-owner", str(file), "--yes", "--json")
    assert (done.code, done.json["assigned"] + done.json["already"]) == (0, 6)
    assert torpor("purge", "--owner", "ann", "--yes").out.startswith("complete: 6 sessions, 6 messages")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"session_id": "live"}\n', "line 1: expected a session_id and an owner"),
        ('{"session_id": "live", "owner": "ann"}\n{"session_id": "", "owner": "ann"}\n', "line 2: session id must not"),
        ('{"session_id": "live", "owner": ""}\n', "line 1: owner must not be empty"),
        ('{"session_id": "live", "owner": true}\n', "line 1: expected a session_id and an owner"),
        ('{"session_id": "live", "owner": "ann"}\n[]\n', "line 2: expected an object, not list"),
        ('{"session_id": "live", "owner": "ann"}\n{\n', "line 2: "),
        (in_json([LINES[0], {**LINES[0], "owner": "bob"}]), "line 2: line 1 names another owner of the session"),
        ("session,owner\nlive,ann\n", "line 1: expected JSON lines, or the columns session_id and owner"),
        ("session_id,owner\nlive,ann\nasleep\n", "line 3: expected a session_id and an owner"),
        ('session_id,owner\nlive,"ann\n', "line 2: "),
        ("session_id,owner\nlive,ann,bob\n", "line 2: it has more values than the header has columns"),
        ("", "line 1: expected JSON lines"),
    ],
)
def test_a_wrong_line_is_told_and_nothing_is_assigned(
    services: Services, torpor: Torpor, file: Path, text: str, said: str
) -> None:
    say(services, "live")
    file.write_text(text)
    for options in (["--yes"], ["--dry-run"], []):
        result = torpor("assign-owner", str(file), *options)
        assert (result.code, result.out, said in result.said) == (2, "", True), result
    assert list(services.sessions.owned("ann")) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give FILE, or --match and --owner, or --match and --owner-pattern"),
        (["--match", "*"], "give FILE, or --match and --owner"),
        (["--owner", "ann"], "give FILE, or --match and --owner"),
        (["file", "--match", "*", "--owner", "ann"], "--match can't be given with FILE"),
        (["file", "--owner", "ann"], "--owner can't be given with FILE"),
        (["--match", "*", "--owner", ""], "owner must not be empty"),
        (["--match", "*", "--owner", "ann", "--owner-pattern", "(.)"], "--owner-pattern can't be given with --match"),
        (["/no/such/file"], "can't be read: No such file"),
    ],
)
def test_wrong_usage_is_told_and_nothing_is_assigned(
    services: Services, torpor: Torpor, arguments: list[str], said: str
) -> None:
    say(services, "live")
    result = torpor("assign-owner", *arguments, "--yes")
    assert (result.code, result.out, said in result.said) == (2, "", True), result
    assert list(services.sessions.owned("ann")) == []
