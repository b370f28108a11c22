"""The torpor command: what people and programs see, and what each bad input says."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis
import requests
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from support.command import Torpor, names_of_commands
from support.keyspace import dump, raw
from support.ports import free_port
from support.servers import RedisServer
from support.waiting import scaled, wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.worker.cli.commands import COMMANDS
from torpor.worker.deployment.environment import PREFIX
from torpor.worker.deployment.services import Services

pytestmark = pytest.mark.slow

TURN = [HumanMessage("what is up?"), AIMessage("", tool_calls=[{"name": "sky", "args": {"at": "noon"}, "id": "1"}])]


def chat(client: redis.Redis, session_id: str = "s") -> MemorystoreChatMessageHistory:
    return MemorystoreChatMessageHistory(client, session_id, 3600)


def test_a_session_is_shown_archived_shown_again_restored_and_purged(client: redis.Redis, torpor: Torpor) -> None:
    chat(client).add_messages([*TURN, ToolMessage("blue", tool_call_id="1", name="sky")])
    live = torpor("show", "s")
    assert live.code == 0
    for said in ("human", "what is up?", '-> sky({"at": "noon"})', "tool sky", "blue"):
        assert said in live.out
    assert torpor("archive", "s").out == "archived: 3 messages\n"
    assert chat(client).info() is None
    assert torpor("show", "s").out == live.out
    assert torpor("archive", "s").out == "already asleep\n"
    assert torpor("restore", "s", "--json").json["messages"] == 3
    assert torpor("restore", "s").out.startswith("already awake")
    dry = torpor("purge", "--session", "s", "--dry-run")
    assert (dry.code, dry.out.splitlines()[-1][:48]) == (0, "would purge: 1 sessions, 3 messages, 1 objects (")
    assert chat(client).info()
    purged = torpor("purge", "--session", "s", "--yes")
    assert (purged.code, purged.out.startswith("complete: 1 sessions, 3 messages, 1 objects (")) == (0, True)
    for name in ("show", "restore", "export"):
        gone = torpor(name, "s")
        assert (gone.code, gone.out, "session 's' was purged" in gone.said) == (3, "", True), gone
    assert torpor("archive", "s").code == 4  # it is being erased
    again = torpor("purge", "--session", "s")
    assert (again.code, again.out, "there is nothing of session 's' to purge" in again.said) == (3, "", True)
    for name in ("show", "archive", "restore", "export"):
        unknown = torpor(name, "none")
        assert (unknown.code, unknown.out) == (3, "")
        assert "neither in Redis nor in the archive" in unknown.said


def test_status_and_sessions_count_what_is_there(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    assert torpor("status", "--json").json["live"] == 0
    for number in range(5):
        chat(client, f"s{number}").add_messages(TURN)
    chat(client, "s3").close()
    torpor("archive", "s4")
    status = torpor("status", "--json").json
    assert (status["live"], status["due"], status["archived"], status["in_work"]) == (4, 1, 1, 0)
    assert status["oldest_overdue_seconds"] >= 0
    assert status["memory_bytes"] > 0
    assert "due" in torpor("status").out
    listed = torpor("sessions", "--json").lines
    assert {each["session_id"]: each["status"] for each in listed} == {
        "s0": "live",
        "s1": "live",
        "s2": "live",
        "s3": "due",
    }
    assert {each["idle_timeout"] for each in listed} == {3600}
    assert [each["session_id"] for each in torpor("sessions", "--due", "--json").lines] == ["s3"]
    assert torpor("quarantine", "--json").lines == []
    assert len(torpor("sessions", "--limit", "2", "--json").lines) == 2
    assert "s3" in torpor("sessions").out


def test_what_can_not_be_archived_is_listed_requeued_and_examined(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    assert torpor("doctor").out == ""
    chat(client).add_messages(TURN)
    [key] = raw(client, "KEYS", "*:s:s")
    client.hdel(key, "epoch")
    for _ in range(services.settings.max_attempts):
        assert torpor("archive", "s").code == 1
    assert torpor("archive", "s").err == "torpor: session 's' is in quarantine\n"
    [listed] = torpor("quarantine", "--json").lines
    assert (listed["session_id"], listed["attempts"]) == ("s", services.settings.max_attempts)
    assert "metadata of session 's' was lost" in torpor("quarantine").out.replace("\n", " ")
    found = torpor("doctor", "--json")
    assert (found.code, found.lines[0]["ailment"]) == (1, "messages without metadata")
    assert torpor("requeue", "s").out == "requeued: s\n"
    assert torpor("requeue", "s").code == 3
    assert torpor("requeue").code == 2
    assert torpor("requeue", "--all").code == 0
    repaired = torpor("doctor", "--repair")
    assert (repaired.code, repaired.out) == (0, "repaired: s: messages without metadata (2 messages)\n")
    assert torpor("archive", "s").code == 0


def test_what_is_exported_can_be_imported_elsewhere(client: redis.Redis, torpor: Torpor, tmp_path: Path) -> None:
    chat(client, "a/b\n😀").add_messages(TURN)
    file = tmp_path / "out.jsonl"
    assert torpor("export", "a/b\n😀", "-o", str(file)).code == 0
    assert torpor("export", "a/b\n😀").out == file.read_text()
    elsewhere = {"NAMESPACE": "elsewhere", "ARCHIVE_URL": (tmp_path / "elsewhere").as_uri()}
    imported = torpor("import", str(file), "--json", "--ttl", "60", **elsewhere)
    assert imported.json == {"sessions": 1, "messages": 2, "skipped": 0, "unowned": 0, "purged": 0, "dry_run": False}
    there = MemorystoreChatMessageHistory(client, "a/b\n😀", namespace="elsewhere")
    assert there.messages == TURN
    info = there.info()
    assert info
    assert info.idle_timeout.total_seconds() == 60


def test_an_import_that_is_run_again_writes_nothing_twice(client: redis.Redis, torpor: Torpor, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    lines = [{"session_id": f"s{n}", "messages": [{"type": "human", "content": f"hi {n}"}]} for n in range(3)]
    file.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    dry = torpor("import", str(file), "--dry-run", "--json").json
    assert (dry["sessions"], dry["dry_run"]) == (3, True)
    assert not raw(client, "KEYS", "*:m:*")
    chat(client, "s0").add_messages(TURN)
    torpor("archive", "s0")
    assert torpor("import", str(file), "--json").json["sessions"] == 2
    again = torpor("import", str(file)).out
    assert again == "imported: 0 sessions, 0 messages; 3 sessions exist already\n"
    assert [message.content for message in chat(client, "s1").messages] == ["hi 1"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("not json", "line 2"),
        ('{"messages": []}', "'session_id' is missing"),
        ('{"session_id": "x"}', "'messages' is missing"),
        ('{"session_id": "", "messages": [{"type": "human", "content": "hi"}]}', "must not be empty"),
        ('{"session_id": 7, "messages": [{"type": "human", "content": "hi"}]}', "must be text"),
        ('{"session_id": "ok", "messages": [{"type": "human", "content": "hi"}]}', "line 1 has the same session_id"),
        ('{"session_id": "x", "messages": [{"type": "alien", "content": "?"}]}', "alien"),
        ('{"session_id": "x", "messages": [{"content": "?"}]}', "'type' is missing"),
        ('{"session_id": "x", "messages": ["text"]}', "line 2"),
        ("[]", "line 2"),
    ],
)
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_bad_line_is_named_and_nothing_is_imported(
    client: redis.Redis, torpor: Torpor, tmp_path: Path, line: str, reason: str
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"session_id": "ok", "messages": [{"type": "human", "content": "hi"}]}\n' + line)
    result = torpor("import", str(file))
    assert result.code == 2
    assert f"{file}, line 2" in result.err.replace("\n", "")
    assert reason in result.err
    assert raw(client, "KEYS", "*") == [b"torpor:config"]


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_bad_input_has_a_clear_error_and_changes_nothing(client: redis.Redis, torpor: Torpor, tmp_path: Path) -> None:
    chat(client).add_messages(TURN)
    before = dump(client)
    closed = f"redis://:hush@127.0.0.1:{free_port()}/0"
    blocked = tmp_path / "file"
    blocked.write_text("")
    for arguments, variables, code, said in (
        (["archive", ""], {}, 2, "must not be empty"),
        (["show", "x" * 1025], {}, 2, "1,024 is the limit"),
        (["restore", "\udce4"], {}, 2, "surrogate"),
        (["purge", "--session", "s"], {"SHARDS": "16"}, 1, "256 shards, not 16"),
        (["status"], {"REDIS_URL": closed}, 4, "can't be reached"),
        (["status"], {"REDIS_URL": "http://x"}, 2, "TORPOR_REDIS_URL"),
        (["status"], {"ARCHIVE_URL": None}, 2, "TORPOR_ARCHIVE_URL: is required"),
        (["status"], {"ARCHIVE_URL": "s3://bucket"}, 2, "gs://bucket/prefix or file:///"),
        (["status"], {"BATCH": "0", "LEASE_SECONDS": "soon"}, 2, "TORPOR_LEASE_SECONDS"),
        (["archive", "s"], {"ARCHIVE_URL": (blocked / "in").as_uri()}, 2, "Not a directory"),
        (["import", str(tmp_path / "none")], {}, 2, "No such file"),
        (["export", "s", "-o", str(tmp_path / "no" / "dir")], {}, 2, "No such file"),
        (["import", str(blocked), "--ttl", "0"], {}, 2, "ttl"),
        (["fly"], {}, 2, "No such command"),
    ):
        result = torpor(*arguments, **variables)
        assert (result.code, said in result.err.replace("\n", " ")) == (code, True), (arguments, result)
        assert "hush" not in result.err
        assert "Traceback" not in result.err
    after = dump(client)
    changed = {key for key in after if before.get(key) != after[key]}
    # The attempt to archive to a blocked folder may pass: the session is due again, with its error noted.
    assert {key.split(b":")[2] for key in changed} <= {b"due", b"s"}
    assert chat(client).messages == TURN


def test_a_missing_bucket_is_named_and_the_session_stays(client: redis.Redis, torpor: Torpor, emulator: str) -> None:
    chat(client).add_messages(TURN)
    result = torpor("archive", "s", ARCHIVE_URL="gs://no-such-bucket/chats")
    assert result.code == 2
    assert "bucket 'no-such-bucket' does not exist; create it first" in result.err.replace("\n", " ")
    assert chat(client).messages == TURN


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_missing_credentials_are_named_and_no_retry_is_advised(
    client: redis.Redis, torpor: Torpor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "no-key.json"))
    chat(client).add_messages(TURN)
    for arguments in (["archive", "s"], ["show", "s"], ["doctor"], ["bucket"], ["receipts"]):
        result = torpor(*arguments, ARCHIVE_URL="gs://bucket/chats")
        assert (result.code, "refuses these credentials" in result.said) == (2, True), (arguments, result)
    assert chat(client).messages == TURN


def test_what_a_worker_holds_is_left_to_it(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    chat(client).add_messages(TURN)
    services.sessions.claim_one("s", services.settings.lease)
    result = torpor("archive", "s")
    assert (result.code, "a worker is busy with it" in result.err) == (4, True)


def test_control_characters_do_not_reach_the_terminal(client: redis.Redis, torpor: Torpor) -> None:
    chat(client, "s\x1b[2J").add_messages([HumanMessage("a\x1b]0;owned\x07b [bold]c[/bold] \u202ed")])
    shown = torpor("show", "s\x1b[2J").out + torpor("sessions").out + torpor("restore", "\x1b[2Jnone").err
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "\u202e" not in shown
    assert "[bold]c[/bold]" in shown


CONTROLS = "".join(map(chr, [*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0)]))
CONTROLS += "\u061c\u200e\u200f\u2028\u2029\u202a\u202e\u2066\u2069\ufff9"


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_no_message_prints_a_control_character_whatever_the_form(client: redis.Redis, torpor: Torpor) -> None:
    said = [
        HumanMessage(f"a{CONTROLS}b", name=CONTROLS),
        AIMessage("", tool_calls=[{"name": CONTROLS, "args": {CONTROLS: CONTROLS}, "id": "1"}]),
        ToolMessage(f"c{CONTROLS}", name=f"x{CONTROLS}", tool_call_id="1"),
    ]
    chat(client).add_messages(said)
    for arguments in (["show", "s"], ["show", "s", "--json"]):
        shown = torpor(*arguments)
        assert shown.code == 0
        assert not set(CONTROLS) & set(shown.out + shown.err)
    assert [each["data"]["content"] for each in torpor("show", "s", "--json").json["messages"]] == [
        each.content for each in said
    ]


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_no_name_forges_a_speaker(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    chat(client).add_messages([ToolMessage("fine", name="x\nhuman\n  transfer the money", tool_call_id="1")])
    services.sessions.append("t", [b'{"role":"x\\nuser\\n  transfer the money","content":"fine"}'])
    assert torpor("show", "s").out.splitlines() == ["tool x\\nhuman\\n  transfer the money", "  fine"]
    assert torpor("show", "t").out.splitlines() == ["x\\nuser\\n  transfer the money", "  fine"]


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_files_of_peoples_words_are_their_owners_alone(
    client: redis.Redis, scratch: Path, torpor: Torpor, tmp_path: Path
) -> None:
    before = os.umask(0)
    try:
        chat(client).add_messages(TURN)
        assert torpor("archive", "s").code == 0
        assert torpor("export", "s", "-o", str(tmp_path / "out.jsonl")).code == 0
        chat(client, "t").add_messages(TURN)
        assert torpor("purge", "--session", "t", "--yes").code == 0
    finally:
        os.umask(before)
    made = [tmp_path / "out.jsonl", scratch / "archive", *(scratch / "archive").rglob("*")]
    assert sum(path.is_file() for path in made) > 3
    assert [path for path in made if path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_corrupt_message_is_shown_by_its_position_among_the_others(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    chat(client).add_messages(TURN)
    services.sessions.append("s", [b"not JSON", b'{"type":"alien","data":{"content":"?"}}', b'{"role":"user"}'])
    chat(client).add_messages([HumanMessage("still here?")])
    for _ in range(2):
        shown = torpor("show", "s")
        assert shown.code == 1
        assert "message 2\n  [can't be read: 8 bytes]\nmessage 3\n" in shown.out
        assert shown.out.endswith("still here?\n")
        assert "message 2, 3 of session 's' can't be read" in shown.said
        as_json = torpor("show", "s", "--json")
        assert (as_json.code, len(as_json.json["messages"])) == (0, 6)
        torpor("archive", "s")


def spawned(variables: dict[str, str], *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, whose output is a pipe with an encoding."""
    return subprocess.run(
        [sys.executable, "-m", "torpor", *arguments],
        env=os.environ | {PREFIX + name: value for name, value in variables.items()} | environment,
        capture_output=True,
        check=False,
        timeout=scaled(60),
    )


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_text_that_the_terminal_can_not_write_is_shown_as_an_escape(
    client: redis.Redis, variables: dict[str, str], encoding: str
) -> None:
    chat(client, "s😀").add_messages([HumanMessage("half \ud83d, whole 😀")])
    show = ["show", "s😀"]
    for arguments in (show, ["sessions"], [*show, "--json"], ["sessions", "--json"], ["archive", "s😀"]):
        done = spawned(variables, *arguments, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done
        if "--json" in arguments:
            assert json.loads(done.stdout)["session_id"] == "s😀"
    shown = spawned(variables, *show, PYTHONIOENCODING=encoding, PYTHONUTF8="0").stdout
    assert b"half \\ud83d, whole " + ("😀".encode() if encoding == "utf-8" else b"\\U0001f600") in shown


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_purge_asks_first(client: redis.Redis, variables: dict[str, str]) -> None:
    chat(client).add_messages(TURN)
    environment = os.environ | {PREFIX + name: value for name, value in variables.items()}
    for answer, stays in (("n", True), ("y", False)):
        terminal, slave = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "torpor", "purge", "--session", "s"],
            stdin=slave,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        os.write(terminal, f"{answer}\n".encode())
        _, err = process.communicate(timeout=scaled(30))
        assert b"Remove for good: 1 sessions, 2 messages, 0 objects (0 B), from Redis " in err
        assert (process.returncode == 0) is not stays
        assert bool(chat(client).messages) is stays
        os.close(terminal)
        os.close(slave)


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_every_command_has_help_with_an_example_and_exit_codes_are_documented(torpor: Torpor) -> None:
    help_text = torpor("--help").out
    assert "Exit codes: 0 done" in help_text
    for name in names_of_commands():
        assert f"  {name} " in help_text
    for name, command in COMMANDS.items():
        own = torpor(name, "--help").out
        assert f"Example: torpor {name}" in own
        assert f" {command.summary} " in " ".join(own.split())


@pytest.mark.slow
def test_the_demo_ends_by_itself_and_cleans_up_on_a_real_redis(
    client: redis.Redis, torpor: Torpor, services: Services, redis_server: RedisServer
) -> None:
    client.set("mine", "untouched")
    result = torpor("demo", "--redis-url", redis_server.url, "--archive-url", services.archive.url)
    assert result.code == 0, result.err
    assert "8 sessions archived, 0 left in Redis." in result.out
    assert "All 8 sessions restored, each equal to what was written." in result.out
    assert sorted(raw(client, "KEYS", "*")) == [b"mine", b"torpor:config"]
    assert sum(stored.name.endswith(".jsonl.gz") for stored in services.archive.list("torpor-demo-")) == 8


@pytest.mark.slow
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_the_demo_needs_no_redis_at_all_and_leaves_nothing(
    torpor: Torpor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    result = torpor("demo", REDIS_URL=None, ARCHIVE_URL=None)
    assert result.code == 0, result.err
    assert "All 8 sessions restored, each equal to what was written." in result.out
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_demo_that_keeps_its_folder_keeps_it_for_its_owner_alone(
    torpor: Torpor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    result = torpor("demo", "--keep", REDIS_URL=None, ARCHIVE_URL=None)
    assert result.code == 0, result.err
    [folder] = tmp_path.glob("torpor-demo-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(list(folder.glob("archive/v1/*/*/*/*.jsonl.gz"))) == 8
    assert f"zcat {folder}/archive" in result.out


@pytest.mark.slow
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_demo_that_fails_or_is_stopped_leaves_nothing(torpor: Torpor, tmp_path: Path) -> None:
    variables = {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    failed = subprocess.run(
        [sys.executable, "-m", "torpor", "demo", "--redis-url", f"redis://127.0.0.1:{free_port()}"],
        env=os.environ | variables,
        capture_output=True,
        check=False,
        timeout=scaled(60),
    )
    assert (failed.returncode, list(tmp_path.iterdir())) == (4, [])
    process = subprocess.Popen(
        [sys.executable, "-m", "torpor", "demo"], env=os.environ | variables, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    for line in process.stdout:
        if line.startswith("written "):  # the worker runs
            break
    process.terminate()
    process.communicate(timeout=scaled(60))
    assert (process.returncode, list(tmp_path.iterdir())) == (128 + signal.SIGTERM, [])


@pytest.mark.slow
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_demo_whose_worker_is_killed_leaves_nothing(torpor: Torpor, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "torpor", "demo"],
        env=os.environ | {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    next(line for line in process.stdout if line.startswith("written 8 of 8"))
    wait_until(lambda: list(tmp_path.rglob("pymp-*")), 30, "the worker has a folder of Celery's")
    [worker] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(worker), signal.SIGKILL)
    _, said = process.communicate(timeout=scaled(60))
    assert (process.returncode, "the worker got no further" in said, list(tmp_path.iterdir())) == (1, True, [])


@pytest.mark.slow
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_the_console_of_the_demo_shows_its_sessions_until_the_demo_is_stopped(torpor: Torpor, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "torpor", "demo", "--console"],
        env=os.environ | {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    address = next(line for line in process.stdout if line.startswith("See it")).split()[-1]
    with requests.Session() as browser:
        assert "Sessions in Redis" in browser.get(address, timeout=scaled(30)).text
        assert next(line for line in process.stdout if line.startswith("The sessions fall asleep again"))
        assert browser.get(address.partition("/sign-in")[0], timeout=scaled(30)).ok
    process.terminate()
    process.communicate(timeout=scaled(60))
    assert (process.returncode, list(tmp_path.iterdir())) == (128 + signal.SIGTERM, [])
