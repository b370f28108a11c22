"""Options that would have no effect are refused by the command itself, and nothing is done."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import redis

from support.cli_sessions import say, sleep
from support.command import Torpor
from support.trail import entries_of
from support.two_sides import contents_of
from torpor.worker.cli.commands import COMMANDS, _load, name_of
from torpor.worker.deployment.services import Services

pytestmark = pytest.mark.slow

IN_FOLDER = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)

# Each has a first option that would have no effect beside the others, or because another one is missing.
IDLE = {
    "sessions --count-asleep --limit 5": "--limit",
    "sessions --id s --limit 5": "--limit",
    "sessions --id s --rate 5": "--rate",
    "sessions --conflicts --rate 5": "--rate",
    "sessions --owner ann --rate 5": "--rate",
    "sessions --all --due": "--due",
    "top --json --interval 5": "--interval",
    "top --once --interval 5": "--interval",
    "deployment --force": "--force",
    "deployment show --by dpo": "--by",
    "deployment --dry-run": "--dry-run",
    "purge --resume p --scope archive": "--scope",
    "purge --resume p --record-nothing-found": "--record-nothing-found",
    "bucket --by dpo": "--by",
    "doctor --reason r": "--reason",
    "jobs --by dpo": "--by",
    "jobs p --reason r": "--reason",
    "export s --here": "--here",
    "export --owner ann -o {folder}/ann --here": "--here",
    "export --all --here": "--here",
    "adopt --detect * --owner ann": "--owner",
    "adopt --detect * --dry-run": "--dry-run",
    "adopt --detect * --rate 5": "--rate",
    "--redis-url redis://elsewhere demo": "--redis-url",
    "--namespace theirs scripts": "--namespace",
    "--redis-url redis://elsewhere sql duckdb": "--redis-url",
    "--namespace theirs sql duckdb": "--namespace",
}


# No session, owner, purge, job, cursor or deployment is like this.
MALFORMED = "no id/" * 400
# The options and arguments that name one, of each command, with the others that the command needs then.
NAMING = {
    ("deployment", "--give-up"): "recover",
    ("sessions", "--id"): "",
    ("sessions", "--owner"): "",
    ("sessions", "--cursor"): "",
    ("show", "SESSION"): "",
    ("archive", "SESSION"): "",
    ("restore", "SESSION"): "",
    ("purge", "--session"): "--yes",
    ("purge", "--owner"): "--yes",
    ("purge", "--resume"): "",
    ("purge-status", "ID"): "",
    ("receipts", "ID"): "",
    ("hold", "--session"): "--reason r",
    ("hold", "--owner"): "--reason r",
    ("unhold", "--session"): "",
    ("unhold", "--owner"): "",
    ("audit", "--session"): "",
    ("audit", "--owner"): "",
    ("audit", "--purge"): "",
    ("audit", "--job"): "",
    ("requeue", "SESSION"): "",
    ("import", "--owner"): "{folder}/one.jsonl",
    ("export", "SESSION"): "",
    ("export", "--owner"): "-o {folder}/copy",
    ("jobs", "ID"): "",
    ("jobs", "--cancel"): "",
    ("jobs", "--resume"): "",
    ("adopt", "--owner"): "--match * --format memorystore",
    ("assign-owner", "--owner"): "--match * --yes",
    ("separate", "SESSION"): "",
}


def test_each_option_that_names_something_is_in_the_table() -> None:
    names = {name for _, name in NAMING}
    found = {(command, name_of(each)) for command in COMMANDS for each in _load(command).params}
    assert {(command, name) for command, name in found if name in names} == NAMING.keys()


@IN_FOLDER
@pytest.mark.parametrize("naming", NAMING, ids=" ".join)
def test_a_malformed_name_or_cursor_is_refused_and_nothing_is_done(
    client: redis.Redis, services: Services, torpor: Torpor, tmp_path: Path, naming: tuple[str, str]
) -> None:
    sleep(client, services, "s", owner="ann")
    (tmp_path / "one.jsonl").write_text('{"session_id": "new", "messages": [{"type": "human", "content": "hi"}]}\n')
    before = contents_of(services.sessions, services.archive)
    command, name = naming
    given = [name, MALFORMED] if name.startswith("--") else [MALFORMED]
    done = torpor(command, *shlex.split(NAMING[naming].format(folder=tmp_path)), *given)
    assert (done.code, done.out) == (2, ""), done
    assert contents_of(services.sessions, services.archive) == before


@IN_FOLDER
@pytest.mark.parametrize("line", IDLE)
def test_an_option_without_an_effect_is_refused_and_nothing_is_done(
    client: redis.Redis, services: Services, torpor: Torpor, line: str, tmp_path: Path
) -> None:
    sleep(client, services, "s", owner="ann")
    say(client, "awake")
    before = contents_of(services.sessions, services.archive)
    done = torpor(*shlex.split(line.format(folder=tmp_path)))
    assert (done.code, done.out) == (2, "")
    [told] = done.err.splitlines()
    assert told.startswith(f"torpor: {IDLE[line]} ")
    assert contents_of(services.sessions, services.archive) == before
    assert entries_of(services) == []
