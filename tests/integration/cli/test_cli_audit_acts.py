"""Every act of every command has an entry in the audit trail: the list of them is the table of commands."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from support.backups import copied_archive
from support.cli_sessions import say, sleep
from support.command import Result, Torpor, names_of_commands
from support.jobs import order, theirs
from support.keyspace import raw
from support.objects import content
from support.trail import entries_of
from support.two_sides import contents_of, without_trail
from torpor.history.protocol import Lease
from torpor.worker.archive import names
from torpor.worker.audit.act import Act, NoEntry
from torpor.worker.audit.reading import Entry
from torpor.worker.bulk.works import WORKS
from torpor.worker.cli.commands import COMMANDS, _load
from torpor.worker.deployment.environment import PREFIX
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders
from torpor.worker.erasure.order import Order
from torpor.worker.erasure.purge import purge
from torpor.worker.failpoints import Failpoint
from torpor.worker.jobs import run
from torpor.worker.retention.legal_hold import hold_session

pytestmark = pytest.mark.slow

WHO = ["--by", "dpo@example.com", "--reason", "request 17"]
NOBODY: dict[str, Any] = {"sessions": [], "owner": None, "match": None, "purge": None, "job": None}
IN_FOLDER = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)


@dataclass(frozen=True)
class Call:
    """A call of a command, the act that its entry names, what that is about, and to how many sessions it is done."""

    line: str
    act: Act
    about: dict[str, Any] = field(default_factory=dict)
    count: int = 1
    where: str = "here"
    how: str = "done"

    @property
    def command(self) -> str:
        return self.line.split()[0]


NEW = [f"new-{number}" for number in range(3)]
# An id of a purge or a job that the command makes.
MADE = "made"
ADOPTED = {"match": "user-*", "owner": None}
CALLS = [
    Call("show s", Act.SHOW, {"sessions": ["s"]}),
    Call("export s -o {folder}/s.jsonl", Act.EXPORT, {"sessions": ["s"]}),
    Call("export --all --to langchain-js", Act.EXPORT, count=6),
    Call("export --owner eve -o {folder}/eve", Act.EXPORT, {"owner": "eve"}),
    Call("import {folder}/new.jsonl", Act.IMPORT, {"sessions": NEW}, 3),
    Call("import {folder}/new.jsonl --owner ann", Act.IMPORT, {"sessions": NEW, "owner": "ann"}, 3),
    Call("adopt --match user-* --format memorystore", Act.ADOPT, {**ADOPTED, "job": MADE}, 2),
    Call("adopt --match user-* --format memorystore --detach", Act.ADOPT, {**ADOPTED, "job": MADE}, 0),
    Call("adopt --match user-* --format memorystore --here --owner ann", Act.ADOPT, {**ADOPTED, "owner": "ann"}, 2),
    Call("assign-owner --match free-* --owner eve --yes", Act.ASSIGN_OWNER, {"sessions": ["free-1"], "owner": "eve"}),
    Call("assign-owner {folder}/owners.csv --yes", Act.ASSIGN_OWNER, {"sessions": ["free-1", "s"]}),
    Call("separate shared", Act.SEPARATE, {"sessions": ["shared"]}),
    Call("hold --session s", Act.HOLD, {"sessions": ["s"]}),
    Call("unhold --session held", Act.UNHOLD, {"sessions": ["held"]}),
    Call("purge --session s --yes", Act.PURGE, {"purge": MADE}),
    Call("archive awake", Act.ARCHIVE, {"sessions": ["awake"]}),
    Call("restore s", Act.RESTORE, {"sessions": ["s"]}),
    Call("sweep --once", Act.SWEEP),
    Call("requeue bad", Act.REQUEUE, {"sessions": ["bad"]}),
    Call("doctor --repair", Act.REPAIR, count=1),
    Call("doctor --repair --share", Act.REPAIR, {"job": MADE}, 1),
    Call("doctor --share", Act.EXAMINE, {"job": MADE}, 0),
    Call("doctor --detach", Act.EXAMINE, {"job": MADE}, 0),
    Call("compress", Act.COMPRESS, {"job": MADE}, 0),
    Call("compress --here", Act.COMPRESS, count=0, how="unchanged"),
    Call("jobs --resume {job}", Act.RESUME_JOB, {"job": "{job}"}, 2),
    Call("jobs --cancel {job}", Act.CANCEL_JOB, {"job": "{job}"}, 0),
    Call("bucket --apply", Act.ADD_RULE, count=0),
    Call("deployment move-archive --yes", Act.MOVE_ARCHIVE, count=0, where="copied"),
    Call("deployment fork --yes --force", Act.FORK, count=0, where="copied"),
    Call("deployment recover --yes", Act.RECOVER, count=0, where="lost"),
]
EACH = pytest.mark.parametrize("call", CALLS, ids=lambda call: call.line)
# What has no entry. The pages, the metrics and the demo go on until somebody ends them.
LOOKING = [
    *("status", "top --once", "deployment", "sessions", "purge-status", "receipts", "holds", "audit", "bucket"),
    *("events", "quarantine", "doctor", "jobs", "jobs {job}", "sql duckdb", "scripts append", "sweep --once"),
    "adopt --detect *",
]
LASTING = {"console", "serve-metrics", "demo"}
DRY = [
    "import {folder}/new.jsonl --dry-run",
    "adopt --match user-* --format memorystore --dry-run",
    "assign-owner --match free-* --owner eve --dry-run",
    "purge --session s --dry-run",
    "sweep --dry-run",
    "compress --dry-run",
    "deployment recover --dry-run",
]
# What a person has mistyped.
REFUSED = [
    "show ''",
    "export s --all",
    "import {folder}/wrong.jsonl",
    "import {folder}/taken.jsonl",
    "adopt --match user-* --format memorystore --ttl -1",
    "adopt --match user-* --format memorystore --rate 0",
    "assign-owner {folder}/wrong.jsonl --yes",
    "assign-owner --match free-*",
    "separate ''",
    "hold --session s --owner ann",
    "unhold",
    "purge --session s --idle-for never --yes",
    "archive ''",
    "restore ''",
    "requeue",
    "doctor --rate 3",
    "compress --here --detach",
    "jobs --resume ../x",
    "jobs --cancel ../x",
    "deployment fork --give-up x",
]
# For each act, calls that find nothing to do, and how their entries end; None for no entry at all.
NOTHING_TO_DO: list[tuple[Act, str, str | None]] = [
    (Act.SHOW, "show none", "failed"),
    (Act.EXPORT, "export none -o {folder}/none.jsonl", "failed"),
    (Act.EXPORT, "export --owner nobody -o {folder}/nobody", "failed"),
    (Act.IMPORT, "import {folder}/there.jsonl", "unchanged"),
    (Act.ADOPT, "adopt --match none-* --format memorystore --here", "unchanged"),
    (Act.ASSIGN_OWNER, "assign-owner --match s --owner ann --yes", "unchanged"),
    (Act.SEPARATE, "separate s", "failed"),
    (Act.HOLD, "hold --session {purged}", "failed"),
    (Act.UNHOLD, "unhold --session s", "failed"),
    (Act.UNHOLD, "unhold --owner nobody", "failed"),
    (Act.PURGE, "purge --session none --yes", None),
    (Act.PURGE, "purge --owner nobody --yes", None),
    (Act.PURGE, "purge --resume none", "failed"),
    (Act.PURGE, "purge --resume {purge}", "unchanged"),
    (Act.ARCHIVE, "archive none", "failed"),
    (Act.ARCHIVE, "archive s", "unchanged"),
    (Act.RESTORE, "restore none", "failed"),
    (Act.RESTORE, "restore awake", "unchanged"),
    (Act.REQUEUE, "requeue none", "failed"),
    (Act.REQUEUE, "requeue awake", "failed"),
    (Act.REPAIR, "doctor --repair --no-archive", "unchanged"),
    (Act.COMPRESS, "compress --here", "unchanged"),
    (Act.RESUME_JOB, "jobs --resume none", "failed"),
    (Act.RESUME_JOB, "jobs --resume {finished}", "unchanged"),
    (Act.CANCEL_JOB, "jobs --cancel none", "failed"),
    (Act.CANCEL_JOB, "jobs --cancel {finished}", "unchanged"),
    (Act.ADD_RULE, "bucket --apply", "unchanged"),
    (Act.MOVE_ARCHIVE, "deployment move-archive --yes", None),
    (Act.RECOVER, "deployment recover --yes", None),
    (Act.FORK, "deployment fork --yes", None),
]
# These have always something to do: they look at all sessions.
ALWAYS_DONE = {Act.SWEEP, Act.EXAMINE}
# What a command needs that would meet whatever is in the way of the trail.
BESIDE_IT = {"doctor": "--no-archive", "deployment": "--force"}


@dataclass(frozen=True)
class Scene:
    """A deployment with something to do for each call; `trail` is where the entry of a call must be."""

    torpor: Torpor
    services: Services
    names: dict[str, str]
    trail: Services
    variables: dict[str, str] = field(default_factory=dict)

    def arguments(self, line: str, *more: str) -> list[str]:
        given = [each.format(**self.names) for each in shlex.split(line)]
        needed = ["--reason", "r"] if given[0] == "hold" and "--reason" not in more else []
        return [*given, *needed, *more]

    def run(self, line: str, *more: str, **variables: str) -> Result:
        return self.torpor(*self.arguments(line, *more), **self.variables, **variables)

    def entries(self) -> list[Entry]:
        return entries_of(self.trail)

    def contents(self) -> Any:
        """What is on both sides, without the trail."""
        return without_trail(contents_of(self.services.sessions, self.trail.archive))


@pytest.fixture
def scene(client: redis.Redis, services: Services, torpor: Torpor, tmp_path: Path) -> Scene:
    for session_id, owner in (("s", "ann"), ("held", "ann"), ("theirs", "eve")):
        sleep(client, services, session_id, "the words", owner=owner)
    for session_id in ("awake", "stray", "bad"):
        say(client, session_id)
    say(client, "free-1", owner=None)
    lease = services.sessions.claim_one("bad", timedelta(minutes=1))
    assert isinstance(lease, Lease)
    assert services.sessions.quarantine(lease, "why")
    raw(client, "ZREM", services.sessions.deployment.keyspace.of(b"stray").due, "stray")  # for the doctor
    assert hold_session(services, "held", "case 1")
    theirs(client, 2)
    message = '{"type": "human", "content": "the words"}'
    lines = {
        "new.jsonl": [f'{{"session_id": "{each}", "messages": [{message}]}}' for each in NEW],
        "there.jsonl": [f'{{"session_id": "s", "owner": "ann", "messages": [{message}]}}'],
        "taken.jsonl": [f'{{"session_id": "s", "owner": "eve", "messages": [{message}]}}'],
        "wrong.jsonl": ["no line"],
        "owners.csv": ["session_id,owner", "free-1,eve", "s,ann"],
    }
    for name, text in lines.items():
        (tmp_path / name).write_text("\n".join(text) + "\n")
    return Scene(torpor, services, {"folder": str(tmp_path)}, services)


def prepared(scene: Scene, call: Call) -> Scene:
    """The scene as a call needs it."""
    if "{job}" in call.line:
        scene.names["job"] = order(scene.services)
    if call.act is Act.SEPARATE:
        sleep(scene.services.sessions.client, scene.services, "shared")
        say(scene.services.sessions.client, "shared", owner="mallory")
    if call.where == "lost":
        scene.services.sessions.client.flushall()
    if call.where == "copied":
        copy = copied_archive(scene.services)
        return replace(scene, trail=copy, variables={"ARCHIVE_URL": copy.archive.url})
    return scene


def subject_of(entry: Entry) -> dict[str, Any]:
    """What an entry is about; the ids that the command makes are all the same."""
    return {
        name: MADE if name in ("purge", "job") and value is not None else value
        for name, value in entry.begun.subject.fields().items()
    }


def test_every_act_of_the_table_is_called_here_and_what_has_none_says_why() -> None:
    table = {(name, act) for name, each in COMMANDS.items() if not isinstance(each.acts, NoEntry) for act in each.acts}
    assert {(call.command, call.act) for call in CALLS} == table
    reasons = {name: each.acts.why for name, each in COMMANDS.items() if isinstance(each.acts, NoEntry)}
    assert reasons.keys() <= {line.split()[0] for line in LOOKING} | LASTING
    assert all(reasons.values())
    assert names_of_commands() - COMMANDS.keys() == {"worker", "beat"}, "their tasks are no acts of people"


@pytest.mark.parametrize("name", COMMANDS)
def test_who_and_why_can_be_said_to_every_command_that_has_an_entry_and_to_no_other(name: str) -> None:
    options = {option for each in _load(name).params for option in each.opts}
    is_recorded = not isinstance(COMMANDS[name].acts, NoEntry)
    expected = {"--by", "--reason"} if is_recorded else {"--by"} if name == "audit" else set()  # which looks for who
    assert options & {"--by", "--reason"} == expected
    assert ("--dry-run" in options) == (name in {line.split()[0] for line in DRY})


@EACH
def test_an_act_has_an_entry_that_says_who_what_and_why(scene: Scene, call: Call) -> None:
    scene = prepared(scene, call)
    done = scene.run(call.line, *WHO)
    assert done.code in (0, 1), done
    [entry] = scene.entries()
    begun, ended = entry.begun, entry.ended
    assert (begun.act, begun.by, begun.reason) == (call.act, "dpo@example.com", "request 17")
    about = {name: MADE if name == "job" else value for name, value in call.about.items()}
    assert subject_of(entry) == {**NOBODY, **about}
    assert ended
    is_folder = scene.trail.archive.url.startswith("file:")
    how = "unchanged" if call.act is Act.ADD_RULE and is_folder else call.how  # a folder has no rules
    assert (ended.how, ended.error, ended.sessions) == (how, None, call.count), done
    listed = scene.torpor("audit", "--act", call.act, "--by", "dpo@example.com", **scene.variables)
    assert f" {call.act} " in listed.out
    written = [content(scene.trail.archive, each) for each in scene.trail.archive.list(names.AUDIT)]
    assert len(written) == 2
    assert not [text for text in written if b"the words" in text]


@EACH
@IN_FOLDER
def test_an_act_that_is_killed_at_its_beginning_leaves_an_open_entry_and_has_done_nothing(
    scene: Scene, variables: dict[str, str], call: Call
) -> None:
    scene = prepared(scene, call)
    before = scene.contents()
    dying = (
        "import os\nfrom torpor.worker import cli, failpoints\n"
        f"failpoints.arm(lambda point: point == {Failpoint.AUDIT_BEGUN.value!r} and os.kill(os.getpid(), 9))\n"
        "cli.main()\n"
    )
    given = {PREFIX + name: value for name, value in (variables | scene.variables).items()}
    process = subprocess.run(
        [sys.executable, "-c", dying, *scene.arguments(call.line, *WHO)],
        env=os.environ | given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process
    assert "the words" not in process.stdout
    [entry] = scene.entries()
    assert (entry.begun.act, entry.ended) == (call.act, None)
    assert scene.contents() == before


@EACH
@IN_FOLDER
def test_a_deployment_can_require_who_and_why(scene: Scene, call: Call) -> None:
    scene = prepared(scene, call)
    before = scene.contents()
    for missing in ([], ["--by", "dpo"], ["--by", " ", "--reason", "r"]):
        if call.act is Act.SWEEP and not missing:
            continue  # as a schedule sweeps
        if call.act is Act.HOLD and missing == ["--by", "dpo"]:
            continue  # it always needs a reason
        done = scene.run(call.line, *missing, REQUIRE_REASON="true")
        assert (done.code, "--by and --reason" in done.err, "the words" in done.out) == (2, True, False)
        assert (scene.entries(), scene.contents()) == ([], before)
    assert scene.run(call.line, *WHO, REQUIRE_REASON="true").code in (0, 1)
    assert [each.begun.act for each in scene.entries()] == [call.act]


@EACH
@IN_FOLDER
def test_an_entry_that_can_t_be_written_is_a_warning_or_a_refusal(scene: Scene, call: Call) -> None:
    scene = prepared(scene, call)
    (Path(scene.trail.archive.url.removeprefix("file://")) / "v1/audit").write_text("in the way")
    line = f"{call.line} {BESIDE_IT.get(call.command, '')}"
    before = scene.contents()
    refused = scene.run(line, *WHO, REQUIRE_REASON="true")
    assert (refused.code, "the audit trail can't be written" in refused.err) == (4, True), refused
    assert "the words" not in refused.out
    assert scene.contents() == before
    done = scene.run(line, *WHO)
    assert done.code in (0, 1), done
    assert "this is not in the audit trail: " in done.err


@pytest.mark.parametrize("line", [*LOOKING, *DRY])
@IN_FOLDER
def test_looking_and_a_dry_run_need_no_reason_and_have_no_entry(scene: Scene, line: str) -> None:
    scene.names["job"] = order(scene.services)
    assert scene.run(line, REQUIRE_REASON="true").code in (0, 1)
    assert scene.entries() == []


@pytest.mark.parametrize("line", REFUSED)
@IN_FOLDER
def test_what_was_mistyped_has_no_entry(scene: Scene, line: str) -> None:
    before = scene.contents()
    done = scene.run(line, *WHO)
    assert done.code == 2, done
    assert (scene.entries(), scene.contents()) == ([], before)


def test_the_table_of_what_finds_nothing_to_do_has_every_act() -> None:
    assert {act for act, _, _ in NOTHING_TO_DO} == set(Act) - ALWAYS_DONE


@pytest.mark.parametrize(("act", "line", "how"), NOTHING_TO_DO, ids=str)
@IN_FOLDER
def test_an_act_that_has_done_nothing_says_so(scene: Scene, act: Act, line: str, how: str | None) -> None:
    services = scene.services
    if act in (Act.REPAIR, Act.RESTORE):
        scene.run(line)  # once before
    if "{purge" in line:
        scene.names.update({"purge": purge(services, Order.of(session="theirs")).purge, "purged": "theirs"})
    if "{finished}" in line:
        scene.names["finished"] = run.finish(services, WORKS, order(services)).job
    earlier, before = scene.entries(), scene.contents()
    done = scene.run(line, *WHO)
    assert done.code in (0, 1, 2, 3), done
    new = scene.entries()[len(earlier) :]
    found = [(each.begun.act, end.how, end.sessions, bool(end.error)) for each in new if (end := each.ended)]
    assert found == ([] if how is None else [(act, how, 0, how == "failed")]), done
    assert len(new) == len(found)
    assert scene.contents() == before


def test_to_resume_an_order_that_finds_nothing_and_was_not_finished_is_no_act_without_effect(scene: Scene) -> None:
    placed = orders.place(scene.services, Order.of(session="none"))
    assert scene.run(f"purge --resume {placed.id}").code == 0
    [entry] = scene.entries()
    assert entry.ended
    assert (entry.begun.act, entry.ended.how, entry.ended.sessions) == (Act.PURGE, "done", 0)
