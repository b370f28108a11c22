"""The answer to a request for access: a person's sessions, awake and asleep, in a folder, with a manifest."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
from langchain_core.messages import HumanMessage

from support.cli_sessions import say, sleep
from support.command import Torpor
from support.graphs import begin
from support.keyspace import dump
from torpor import MemorystoreChatMessageHistory, MemorystoreSaver
from torpor.history.protocol import Expiry
from torpor.worker.access import answer as answering
from torpor.worker.access.answer import answer
from torpor.worker.access.manifest import Manifest
from torpor.worker.deployment.environment import PREFIX
from torpor.worker.deployment.services import Services
from torpor.worker.erasure.inventory import Tally
from torpor.worker.erasure.order import Order
from torpor.worker.erasure.purge import preview
from torpor.worker.erasure.receipts import standing
from torpor.worker.failpoints import Failpoint
from torpor.worker.sleep.attempt import archive_session

IN_FOLDER = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)


def copy(services: Services, folder: Path, owner: str = "ann") -> Manifest:
    return answer(services, owner, folder, by="dpo", reason="request 17", progress=lambda _: None)


def lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [
        json.loads(line) for path in sorted(folder.glob(f"{kind}-*.jsonl")) for line in path.read_bytes().splitlines()
    ]


def found_by_a_purge(services: Services, owner: str = "ann") -> Tally:
    return sum((each.found.tally for each in preview(services, Order.of(owner=owner))), Tally())


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "_BATCH", 2)


@pytest.fixture
def people(client: redis.Redis, services: Services) -> None:
    """Ann's chats, three awake and three asleep, of which one was continued, and one of bob's."""
    for number in range(3):
        say(client, f"awake-{number}", "hello", "and more")
        sleep(client, services, f"asleep-{number}", "good night")
    say(client, "asleep-1", "good morning")
    say(client, "bobs", "bob's own words", owner="bob")


@pytest.mark.usefixtures("people", "small_batches")
def test_all_of_a_person_s_sessions_are_copied_and_the_manifest_is_what_a_purge_finds(
    services: Services, torpor: Torpor, tmp_path: Path
) -> None:
    expected = found_by_a_purge(services)
    done = torpor("export", "--owner", "ann", "-o", str(tmp_path / "out"), "--by", "dpo", "--reason", "r")
    assert (done.code, done.err) == (0, "")
    manifest = json.loads((tmp_path / "out/manifest.json").read_bytes())
    dry = torpor("purge", "--owner", "ann", "--dry-run", "--json").lines
    names = [f"{kind}-{number}" for kind in ("asleep", "awake") for number in range(3)]
    noted = lines(tmp_path / "out", "manifest")
    assert [each["found"]["session"] for each in noted] == names
    assert sorted((each["session"], each["messages"], len(each["objects"])) for each in dry) == [
        (each["found"]["session"], each["found"]["messages"], len(each["found"]["objects"])) for each in noted
    ]
    assert [each["found"] for each in noted] == sorted(
        ({key: each[key] for key in noted[0]["found"]} for each in dry), key=lambda each: str(each["session"])
    )
    assert (manifest["found"]["sessions"], manifest["found"]["messages"]) == (6, 10)
    assert (manifest["copied"]["sessions"], manifest["copied"]["messages"], manifest["omitted"]) == (6, 10, 0)
    assert Tally(**manifest["found"]) == expected
    assert (manifest["owner"], manifest["by"], manifest["reason"]) == ("ann", "dpo", "r")
    purged = torpor("purge", "--owner", "ann", "--yes", "--json").json
    receipt = standing(services, purged["purge"]).receipt
    assert receipt
    assert receipt.found == expected


@pytest.mark.usefixtures("people", "small_batches")
@IN_FOLDER
def test_the_copies_have_all_words_and_their_checksums(services: Services, torpor: Torpor, tmp_path: Path) -> None:
    before = dump_of(services)
    manifest = copy(services, tmp_path / "out")
    assert dump_of(services) == before, "nothing was woken or changed"
    copies = {each["session_id"]: each for each in lines(tmp_path / "out", "sessions")}
    said = {name: [each["data"]["content"] for each in copied["messages"]] for name, copied in copies.items()}
    assert said["asleep-1"] == ["good night", "good morning"]
    assert said["awake-0"] == ["hello", "and more"]
    text = "".join(path.read_text() for path in sorted((tmp_path / "out").glob("*.txt")))
    assert "session asleep-1\n\nhuman\n  good night\nhuman\n  good morning\n" in text
    assert "bob" not in text + json.dumps(copies)
    for each in lines(tmp_path / "out", "manifest"):
        written = (tmp_path / "out" / each["file"]).read_bytes().splitlines(keepends=True)
        assert each["sha256"] in {hashlib.sha256(line).hexdigest() for line in written}
        assert (each["kind"], each["messages"]) == ("chat", each["found"]["messages"])
        assert each["created"] <= each["last_active"] <= each["copied_at"]
    assert {file.name for file in manifest.files} | {"manifest.json"} == {
        path.name for path in (tmp_path / "out").iterdir()
    }
    for file in manifest.files:
        body = (tmp_path / "out" / file.name).read_bytes()
        assert (file.bytes, file.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "out").iterdir()} == {0}
    # Programs read the lines as any export.
    assert torpor("import", str(tmp_path / "out/sessions-000001.jsonl"), "--dry-run").code == 0


def dump_of(services: Services) -> Any:
    objects = [(each.name, each.generation, each.metageneration) for each in services.archive.list("")]
    infos = services.sessions.infos(sorted(services.sessions.sessions()))
    return objects, infos


@IN_FOLDER
def test_items_of_agents_and_threads_are_copied_and_can_be_read(
    client: redis.Redis, services: Services, tmp_path: Path
) -> None:
    item = b'{"type":"message","role":"user","content":"an agent was asked"}'
    services.sessions.append("agents", [item], owner="ann", expiry=Expiry())
    begin("agent", MemorystoreSaver(client, owner="ann"), "thread")
    for session_id in ("agents", "thread"):
        archive_session(services, session_id)
    manifest = copy(services, tmp_path / "out")
    assert (manifest.copied.sessions, manifest.unreadable) == (2, 0)
    assert {each["found"]["session"]: each["kind"] for each in lines(tmp_path / "out", "manifest")} == {
        "agents": "chat",
        "thread": "thread",
    }
    text = (tmp_path / "out/sessions-000001.txt").read_text()
    assert "an agent was asked" in text
    assert "I want my money back" in text


@IN_FOLDER
def test_what_can_t_be_shown_is_counted_and_copied(client: redis.Redis, services: Services, tmp_path: Path) -> None:
    elements = [b"not JSON", b'{"role":"user","content":"said\\u001b[2J"}']
    services.sessions.append("s", elements, owner="ann", expiry=Expiry())
    manifest = copy(services, tmp_path / "out")
    assert (manifest.copied.messages, manifest.unreadable) == (2, 1)
    assert lines(tmp_path / "out", "sessions")[0]["messages"][0] == {"raw": "bm90IEpTT04="}
    assert "\x1b" not in (tmp_path / "out/sessions-000001.txt").read_text()


@pytest.mark.usefixtures("people", "small_batches")
@IN_FOLDER
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_run_that_is_killed_is_continued_after_its_last_batch(
    client: redis.Redis, torpor: Torpor, variables: dict[str, str], tmp_path: Path, batch: int
) -> None:
    folder = tmp_path / "out"
    dying = (
        "import os\nfrom torpor.worker import cli, failpoints\nfrom torpor.worker.access import answer\n"
        "answer._BATCH, copied = 2, []\n"
        f"die = lambda point: point == {Failpoint.ANSWER_COPIED.value!r} and (copied.append(1) or "
        f"len(copied) == {batch} and os.kill(os.getpid(), 9))\n"
        "failpoints.arm(die)\ncli.main()\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", dying, "export", "--owner", "ann", "-o", str(folder), "--by", "dpo"],
        env=os.environ | {PREFIX + name: value for name, value in variables.items()},
        check=False,
        capture_output=True,
    )
    assert process.returncode == -signal.SIGKILL
    assert len(list(folder.glob("manifest-*.jsonl"))) == batch
    assert not (folder / "manifest.json").exists()
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*-*")}
    (folder / ".sessions-000009.jsonl.tmp").write_text("left behind")
    say(client, "asleep-0", "later words")
    assert torpor("export", "--owner", "ann", "-o", str(folder)).code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what was copied is copied once"
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert (manifest["copied"]["sessions"], manifest["by"]) == (6, "dpo")
    assert [each["found"]["session"] for each in lines(folder, "manifest")] == sorted(
        f"{kind}-{number}" for kind in ("asleep", "awake") for number in range(3)
    )
    assert not [path for path in folder.iterdir() if path.name.startswith(".") or "incomplete" in path.name]


@pytest.mark.usefixtures("people")
@IN_FOLDER
def test_wrong_inputs_are_refused_and_change_nothing(
    client: redis.Redis, services: Services, torpor: Torpor, tmp_path: Path
) -> None:
    full, done, file = tmp_path / "full", tmp_path / "done", tmp_path / "file"
    full.mkdir()
    (full / "other").write_text("of somebody")
    file.write_text("a file")
    copy(services, done)
    before = dump(client)
    for arguments, code, word in (
        (["--owner", "ann"], 2, "--output"),
        (["--owner", ""], 2, ""),
        (["--owner", "ann", "--all"], 2, "--owner can't be given with --all"),
        (["--owner", "ann", "s"], 2, "--owner can't be given with SESSION"),
        (["--owner", "ann", "--parquet", "x"], 2, "--output"),
        (["--owner", "ann", "--to", "memorystore"], 2, "--output"),
        (["--owner", "ann", "-o", str(full)], 2, "has files already"),
        (["--owner", "ann", "-o", str(file)], 2, "can't be written"),
        (["--owner", "ann", "-o", str(file / "below")], 2, "can't be written"),
        (["--owner", "ann", "-o", str(done)], 2, "complete already"),
        (["--owner", "anne", "-o", str(tmp_path / "new")], 3, "nothing is known of owner 'anne'"),
    ):
        refused = torpor("export", *arguments)
        assert (refused.code, refused.out, word in refused.err) == (code, "", True), (arguments, refused)
    assert dump(client) == before
    assert not (tmp_path / "new").exists()
    assert [path.name for path in full.iterdir()] == ["other"]


@pytest.mark.usefixtures("people", "small_batches")
@IN_FOLDER
def test_a_folder_of_another_owner_or_that_was_changed_is_refused(
    services: Services, torpor: Torpor, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    copy(services, folder, "bob")
    (folder / "manifest.json").unlink()
    (folder / "incomplete.json").write_text(
        json.dumps(
            {
                "owner": "bob",
                "deployment": services.sessions.identity().deployment,
                "archive": services.archive.url,
                "by": "",
                "reason": "",
                "begun_at": "2026-11-29T00:00:00Z",
            }
        )
    )
    assert "another owner" in torpor("export", "--owner", "ann", "-o", str(folder)).err
    (folder / "manifest-000001.jsonl").write_text("changed\n")
    assert "was changed" in torpor("export", "--owner", "bob", "-o", str(folder)).err
    (folder / "incomplete.json").write_text("changed")
    assert "was changed" in torpor("export", "--owner", "bob", "-o", str(folder)).err


@pytest.mark.usefixtures("people")
@IN_FOLDER
def test_two_commands_do_not_write_to_one_folder(torpor: Torpor, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with (folder / "incomplete.json").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        refused = torpor("export", "--owner", "ann", "-o", str(folder))
    assert (refused.code, "another process" in refused.err) == (4, True)
    assert torpor("export", "--owner", "ann", "-o", str(folder)).code == 0


@IN_FOLDER
def test_a_session_that_can_t_be_read_is_named_and_the_others_are_copied(
    client: redis.Redis, services: Services, torpor: Torpor, tmp_path: Path
) -> None:
    for name in ("broken", "sound"):
        sleep(client, services, name, "the words")
    [segment] = [
        path
        for path in Path(services.archive.url.removeprefix("file://")).glob("v1/*/broken/*/*.jsonl.gz")
        if path.is_file()
    ]
    segment.write_bytes(b"damaged")
    done = torpor("export", "--owner", "ann", "-o", str(tmp_path / "out"))
    assert (done.code, done.out.split(",")[0]) == (1, "copied: 1 sessions")
    assert "1 sessions were omitted" in done.err
    broken, sound = lines(tmp_path / "out", "manifest")
    assert (broken["sha256"], broken["messages"], sound["omitted"]) == (None, 0, None)
    assert broken["omitted"]
    manifest = json.loads((tmp_path / "out/manifest.json").read_bytes())
    assert (manifest["found"]["sessions"], manifest["copied"]["sessions"], manifest["omitted"]) == (2, 1, 1)


@IN_FOLDER
def test_nobody_gets_the_words_of_another_owner_of_the_same_id(
    client: redis.Redis, services: Services, tmp_path: Path
) -> None:
    sleep(client, services, "shared", "ann's secret", owner="ann")
    MemorystoreChatMessageHistory(client, "shared", owner="bob").add_messages([HumanMessage("bob's secret")])
    for owner, other in (("ann", "bob"), ("bob", "ann")):
        manifest = copy(services, tmp_path / owner, owner)
        assert (manifest.found.sessions, manifest.omitted) == (1, 1)
        everything = b"".join(path.read_bytes() for path in (tmp_path / owner).iterdir())
        assert f"{other}'s secret".encode() not in everything
    assert "torpor separate" in lines(tmp_path / "bob", "manifest")[0]["omitted"]
