"""The audit trail: an entry for each act of a person, written before the act, whatever happens then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import redis

from support.cli_sessions import chat, say, sleep
from support.command import Torpor
from support.keyspace import raw
from torpor.worker import failpoints
from torpor.worker.archive import names, ownership
from torpor.worker.archive.stores import StoredObject
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.audit import reading, trail
from torpor.worker.audit.entry import MOST_SESSIONS, Act, Ended, How, Subject, begin
from torpor.worker.audit.reading import Entry
from torpor.worker.audit.trail import Who, recorded
from torpor.worker.deployment.identity import new_id
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import PREFIX
from torpor.worker.errors import DocumentDamaged
from torpor.worker.failpoints import Failpoint

pytestmark = pytest.mark.slow

BY = ["--by", "dpo@example.com", "--reason", "request 17"]
IN_FOLDER = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)


def acts(torpor: Torpor, *options: str) -> list[tuple[Any, ...]]:
    done = torpor("audit", "--json", *options)
    assert (done.code, done.err) == (0, "")
    return [
        (each["act"], each["subject"]["sessions"] or each["subject"]["owner"] or [], _ended(each))
        for each in done.lines
    ]


def _ended(entry: dict[str, Any]) -> tuple[Any, ...] | None:
    ended = entry["ended"]
    return ended and (ended["how"], ended["sessions"], ended["error"])


def raising(error: DocumentDamaged) -> None:
    raise error


def entries(services: Services) -> list[Entry]:
    return list(reading.entries(services, raising))


def folder(services: Services) -> Path:
    return Path(services.archive.url.removeprefix("file://"))


def test_each_act_of_a_person_has_an_entry(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    for session_id in ("s", "t"):
        sleep(client, services, session_id)
    say(client, "bad")
    raw(client, "HDEL", services.sessions.deployment.keyspace.of(b"bad").metadata(b"bad"), "epoch")
    for _ in range(services.settings.max_attempts):
        torpor("archive", "bad")
    for arguments in (
        ["show", "s"],
        ["export", "s", "t"],
        ["export", "--all"],
        ["hold", "--session", "s", "--by", "dpo@example.com", "--reason", "request 17"],
        ["unhold", "--session", "s"],
        ["hold", "--owner", "ann", "--by", "dpo@example.com", "--reason", "request 17"],
        ["unhold", "--owner", "ann"],
        ["restore", "s"],
        ["requeue", "bad"],
        ["doctor", "--repair"],
        ["purge", "--session", "s", "--yes"],
    ):
        assert torpor(*arguments, *([] if "--by" in arguments else BY)).code == 0, arguments
    for harmless in (["sessions"], ["status"], ["purge", "--session", "t", "--dry-run"], ["audit"], ["holds"]):
        assert torpor(*harmless).code == 0
    assert acts(torpor) == [
        ("show", ["s"], ("done", 1, None)),
        ("export", ["s", "t"], ("done", 2, None)),
        ("export", [], ("done", 3, None)),
        ("hold", ["s"], ("done", 1, None)),
        ("unhold", ["s"], ("done", 1, None)),
        ("hold", "ann", ("done", 3, None)),
        ("unhold", "ann", ("done", 3, None)),
        ("restore", ["s"], ("done", 1, None)),
        ("requeue", ["bad"], ("done", 1, None)),
        ("repair", [], ("done", 1, None)),
        ("purge", [], ("done", 1, None)),
    ]
    lines = torpor("audit", "--json").lines
    assert {(each["by"], each["reason"]) for each in lines} == {("dpo@example.com", "request 17")}
    assert all("@" in each["login"] for each in lines)


@IN_FOLDER
def test_the_entry_of_a_purge_names_its_receipt_and_nobody(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    say(client, "secret-session", owner="secret-owner")
    assert torpor("purge", "--owner", "secret-owner", "--yes", *BY).code == 0
    [entry] = torpor("audit", "--json").lines
    assert torpor("receipts", entry["subject"]["purge"]).json["target"] == {"owner": "secret-owner"}
    assert "secret" not in torpor("audit", "--json").out
    assert all("secret" not in path.read_text() for path in (folder(services) / "v1/audit").rglob("*.json"))


@IN_FOLDER
def test_no_message_text_is_in_the_trail(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    say(client, "s", "a very private word")
    for arguments in (["show", "s"], ["export", "s"], ["export", "--all"]):
        assert "a very private word" in torpor(*arguments).out
    assert len(entries(services)) == 3
    written = [path.read_bytes() for path in (folder(services) / "v1/audit").rglob("*") if path.is_file()]
    assert len(written) == 2 * 2 * 3  # beginnings and ends, each with its description
    assert not [text for text in written if b"private" in text]


@IN_FOLDER
def test_a_failed_act_says_so_without_the_text_of_its_error(services: Services, torpor: Torpor) -> None:
    assert torpor("show", "nobody").code == torpor("unhold", "--session", "nobody").code == 3
    assert acts(torpor) == [
        ("show", ["nobody"], ("failed", 0, "SessionNotFound")),
        ("unhold", ["nobody"], ("failed", 0, "HoldNotFound")),
    ]


@pytest.mark.parametrize(
    "command",
    [["show", "s"], ["export", "s"], ["hold", "--session", "s"], ["purge", "--session", "s", "--yes"]],
    ids=" ".join,
)
@IN_FOLDER
def test_a_command_that_is_killed_before_its_act_leaves_a_trace_and_has_done_nothing(
    client: redis.Redis, services: Services, torpor: Torpor, variables: dict[str, str], command: list[str]
) -> None:
    say(client, "s", "the words")
    dying = (
        "import os\nfrom torpor.worker import cli, failpoints\n"
        f"failpoints.arm(lambda point: point == {Failpoint.AUDIT_BEGUN.value!r} and os.kill(os.getpid(), 9))\n"
        "cli.main()\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", dying, *command, "--reason", "r"],
        env=os.environ | {PREFIX + name: value for name, value in variables.items()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, "the words" in process.stdout) == (-signal.SIGKILL, False)
    [entry] = entries(services)
    assert (entry.begun.act, entry.ended) == (command[0], None)
    assert (torpor("holds", "--json").lines, torpor("receipts", "--json").lines) == ([], [])
    assert "no end: it runs, or was killed" in torpor("audit").out
    assert "the words" in torpor("show", "s").out


@IN_FOLDER
def test_ctrl_c_is_an_end(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    say(client, "s")

    def press(point: Failpoint) -> None:
        if point is Failpoint.HOLD_APPLIED:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), recorded(services, Act.SHOW, Subject(), Who(), pytest.fail):
        failpoints.arm(press)
        failpoints.reach(Failpoint.HOLD_APPLIED)
    [entry] = entries(services)
    assert entry.ended
    assert entry.ended.how == How.INTERRUPTED


@IN_FOLDER
@pytest.mark.parametrize(
    "command",
    [
        ["show", "s"],
        ["export", "s"],
        ["restore", "s"],
        ["requeue", "--all"],
        ["doctor", "--repair"],
        ["hold", "--session", "s", "--reason", "r"],
        ["unhold", "--session", "s"],
        ["purge", "--session", "s", "--yes"],
    ],
    ids=" ".join,
)
def test_a_deployment_can_require_who_and_why(
    client: redis.Redis, services: Services, torpor: Torpor, command: list[str]
) -> None:
    say(client, "s", "the words")
    for missing in ([], ["--by", "dpo"], ["--by", " ", "--reason", "r"]):
        if missing == ["--by", "dpo"] and "--reason" in command:
            continue
        done = torpor(*command, *missing, REQUIRE_REASON="true")
        assert (done.code, "--by and --reason" in done.err, "the words" in done.out) == (2, True, False)
    assert entries(services) == []
    assert (torpor("holds", "--json").lines, torpor("receipts", "--json").lines) == ([], [])
    if command[0] != "unhold":
        assert torpor(*command, "--by", "dpo", "--reason", "r", REQUIRE_REASON="true").code == 0


def _refusing(services: Services) -> None:
    """Make the place of the trail a file, so that nothing can be written below it."""
    (folder(services) / "v1").mkdir(parents=True, exist_ok=True)
    (folder(services) / "v1/audit").write_text("in the way")


@IN_FOLDER
def test_a_trail_that_can_t_be_written_is_a_warning_or_a_refusal(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    say(client, "s", "the words")
    _refusing(services)
    shown = torpor("show", "s")
    assert (shown.code, "the words" in shown.out) == (0, True)
    assert "this is not in the audit trail: " in shown.err
    refused = torpor("show", "s", *BY, REQUIRE_REASON="true")
    assert (refused.code, refused.out) == (4, "")
    assert "nothing was done, because the audit trail can't be written" in refused.err
    assert torpor("hold", "--session", "s", *BY, REQUIRE_REASON="true").code == 4
    assert torpor("holds", "--json").lines == []


def test_entries_can_be_chosen_by_who_what_and_since(services: Services, torpor: Torpor) -> None:
    now = datetime.now(UTC)
    for days, act, by, subject in (
        (400, Act.SHOW, "ann", Subject(sessions=["a", "b"])),
        (20, Act.HOLD, "bob", Subject(owner="eve")),
        (1, Act.SHOW, "bob", Subject(sessions=["b"])),
    ):
        at = now - timedelta(days=days)
        trail.write(services, begin(at, act, subject, by=by, reason=""), at)
    for options, found in (
        ([], ["show", "hold", "show"]),
        (["--by", "bob"], ["hold", "show"]),
        (["--act", "show"], ["show", "show"]),
        (["--since", "30d"], ["hold", "show"]),
        (["--since", (now - timedelta(days=20)).isoformat(timespec="milliseconds")], ["hold", "show"]),
        (["--since", "500d"], ["show", "hold", "show"]),
        (["--since", (now + timedelta(seconds=1)).isoformat()], []),
        (["--session", "a"], ["show"]),
        (["--session", "b"], ["show", "show"]),
        (["--owner", "eve"], ["hold"]),
        (["--limit", "1"], ["show"]),
    ):
        assert [act for act, *_ in acts(torpor, *options)] == found, options


@IN_FOLDER
def test_a_clock_that_goes_backwards_hides_no_entry(services: Services, torpor: Torpor) -> None:
    now = datetime.now(UTC)
    moments = [now, now - timedelta(days=3), now + timedelta(days=4000), now - timedelta(milliseconds=1)]
    for at in moments:
        begun = begin(at, Act.SHOW, Subject(), by="x", reason="")
        trail.write(services, begun, at)
        trail.write(services, Ended(audit=begun.id, at=at - timedelta(hours=1), how=How.DONE, sessions=1), at)
    assert [each.begun.at for each in entries(services)] == sorted(
        moment.replace(microsecond=moment.microsecond // 1000 * 1000) for moment in moments
    )
    assert all(each.ended for each in entries(services))
    assert len(acts(torpor, "--since", "1h")) == 3


def test_two_commands_at_once_have_an_entry_each(services: Services) -> None:
    def act(number: int) -> None:
        with recorded(services, Act.SHOW, Subject(sessions=[f"s{number}"]), Who(), pytest.fail) as count:
            count.sessions = number

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(act, range(40)))
    found = entries(services)
    assert sorted(each.begun.subject.sessions[0] for each in found) == sorted(f"s{number}" for number in range(40))
    assert all(each.ended and f"s{each.ended.sessions}" == each.begun.subject.sessions[0] for each in found)


@IN_FOLDER
def test_an_act_on_many_sessions_is_recorded_in_batches(services: Services) -> None:
    many = [f"s{number}" for number in range(2 * MOST_SESSIONS + 1)]
    with recorded(services, Act.EXPORT, Subject(sessions=many), Who(), pytest.fail) as count:
        count.sessions = len(many)
    found = entries(services)
    assert sorted(session for each in found for session in each.begun.subject.sessions) == sorted(many)
    assert len(found) == 3
    assert sum(each.ended.sessions for each in found if each.ended) == len(many)


@IN_FOLDER
def test_entries_expire_when_their_time_is_over(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    say(client, "s")
    assert torpor("show", "s").code == torpor("show", "s", AUDIT_RETENTION_SECONDS="60").code == 0
    assert len(entries(services)) == 2
    assert services.archive.expire(datetime.now(UTC) + timedelta(seconds=50)) == 0
    assert services.archive.expire(datetime.now(UTC) + timedelta(seconds=70)) == 2  # the beginning and the end
    assert len(entries(services)) == 1


def _damaged(text: bytes) -> Iterator[bytes]:
    begun = json.loads(text)
    yield b""
    yield b"\x00\xff"
    yield b"[]"
    yield json.dumps({**begun, "audit": "20260101T000000000Z-00000000"}).encode()
    yield json.dumps({**begun, "at": "never"}).encode()
    yield json.dumps({**begun, "subject": {"sessions": list(range(100_000))}}).encode()
    yield json.dumps({**begun, "subject": {"sessions": ["s"] * (MOST_SESSIONS + 1)}}).encode()
    yield b"[" * 100_000


@IN_FOLDER
def test_damaged_entries_are_named_and_the_others_are_listed(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    say(client, "s")
    for _ in range(3):
        assert torpor("show", "s").code == 0
    first, second, third = (entry.begun.id for entry in entries(services))
    broken = folder(services) / names.audit_name(second, names.AUDIT_BEGUN)
    text = broken.read_bytes()
    for damaged in _damaged(text):
        broken.write_bytes(damaged)
        listed = torpor("audit", "--json")
        assert [each["audit"] for each in listed.lines] == [first, third]
        assert listed.err.startswith("left out: ")
        assert len(listed.err) < 1_000
        assert second in torpor("doctor").out
    broken.unlink()
    assert "belongs to no entry" in torpor("audit").err
    broken.write_bytes(text)
    (broken.parent / "more.json").write_bytes(b"{}")
    assert "belongs to no entry" in torpor("audit").err
    (broken.parent / "more.json").unlink()
    assert torpor("audit").err == ""


@IN_FOLDER
def test_a_deployment_that_nobody_has_used_gets_no_trail(unused: Services) -> None:
    with recorded(unused, Act.SHOW, Subject(), Who(), pytest.fail):
        pass
    assert list(unused.archive.list("")) == []


@IN_FOLDER
def test_who_and_why_that_have_no_utf_8_form_are_refused(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    say(client, "s", "the words")
    done = torpor("show", "s", "--by", "\udcff")
    assert (done.code, done.out) == (2, "")
    chat(client, "s").add_messages([])
    assert entries(services) == []


@IN_FOLDER
def test_an_archive_of_another_deployment_gets_no_entry(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    say(client, "s")
    folder(services).rename(folder(services).with_name("ours"))
    folder(services).mkdir()
    theirs = open_archive(services.archive.url)
    ownership.write(theirs, ownership.read(theirs), services.sessions.namespace, new_id())
    done = torpor("requeue", "--all")
    assert (done.code, "do not belong together" in done.err) == (0, True)
    assert list(theirs.list(names.AUDIT)) == []
    assert torpor("requeue", "--all", *BY, REQUIRE_REASON="true").code == 4


@IN_FOLDER
def test_many_entries_are_read_a_few_at_a_time(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    at = datetime.now(UTC)
    for number in range(400):
        begun = begin(at + timedelta(milliseconds=number), Act.SHOW, Subject(sessions=["s"]), by="x" * 1_000, reason="")
        trail.write(services, begun, at)
    opened: list[str] = []
    whole = services.archive.open

    def noted(stored: StoredObject) -> AbstractContextManager[BinaryIO]:
        opened.append(stored.name)
        return whole(stored)

    monkeypatch.setattr(services.archive, "open", noted)
    found = reading.entries(services, raising)
    for expected in range(100):
        assert next(found).begun.at == (at + timedelta(milliseconds=expected)).replace(
            microsecond=(at + timedelta(milliseconds=expected)).microsecond // 1000 * 1000
        )
    assert 100 <= len(opened) <= 128
    assert sum(1 for _ in found) == 300
