"""The audit trail: an entry for each act of a person, written before the act, whatever happens then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import redis

from support.backups import copied_archive
from support.cli_sessions import chat, say, sleep
from support.command import Torpor
from support.jobs import end_locks, theirs
from support.trail import entries_of, refuse
from torpor.worker import failpoints
from torpor.worker.archive import names, ownership
from torpor.worker.archive.stores import StoredObject
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.audit import reading, trail
from torpor.worker.audit.act import Act
from torpor.worker.audit.entry import MOST_SESSIONS, Ended, How, Subject, begin
from torpor.worker.audit.trail import Who, recorded
from torpor.worker.cli import Interrupted
from torpor.worker.deployment.identity import new_id
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveUnavailable, AuditUnwritten
from torpor.worker.failpoints import Failpoint
from torpor.worker.jobs import look

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


def folder(services: Services) -> Path:
    return Path(services.archive.url.removeprefix("file://"))


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
    assert len(entries_of(services)) == 3
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


@IN_FOLDER
def test_a_hold_without_a_reason_is_refused_before_it_has_an_entry(services: Services, torpor: Torpor) -> None:
    assert torpor("hold", "--session", "s", "--reason", " ").code == 2
    assert not list(services.sessions.standing_holds())
    assert not acts(torpor)


@IN_FOLDER
def test_ctrl_c_is_an_end(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    say(client, "s")

    def press(point: Failpoint) -> None:
        if point is Failpoint.HOLD_APPLIED:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), recorded(services, Act.SHOW, Subject(), Who(), pytest.fail):
        failpoints.arm(press)
        failpoints.reach(Failpoint.HOLD_APPLIED)
    [entry] = entries_of(services)
    assert entry.ended
    assert entry.ended.how == How.INTERRUPTED


def test_entries_can_be_chosen_by_who_what_and_since(services: Services, torpor: Torpor) -> None:
    now = datetime.now(UTC)
    for days, act, by, subject in (
        (400, Act.SHOW, "ann", Subject(sessions=["a", "b"])),
        (20, Act.HOLD, "bob", Subject(owner="eve")),
        (19, Act.PURGE, "eve", Subject(purge="p1")),
        (18, Act.EXAMINE, "eve", Subject(job="p1")),
        (1, Act.SHOW, "bob", Subject(sessions=["b"])),
    ):
        at = now - timedelta(days=days)
        trail.write(services, begin(at, act, subject, by=by, reason=""), at)
    for options, found in (
        ([], ["show", "hold", "purge", "examine", "show"]),
        (["--by", "bob"], ["hold", "show"]),
        (["--act", "show"], ["show", "show"]),
        (["--since", "30d"], ["hold", "purge", "examine", "show"]),
        (["--since", (now - timedelta(days=20)).isoformat(timespec="milliseconds"), "--by", "bob"], ["hold", "show"]),
        (["--since", "500d"], ["show", "hold", "purge", "examine", "show"]),
        (["--since", (now + timedelta(seconds=1)).isoformat()], []),
        (["--session", "a"], ["show"]),
        (["--session", "b"], ["show", "show"]),
        (["--owner", "eve"], ["hold"]),
        (["--purge", "p1"], ["purge"]),
        (["--job", "p1"], ["examine"]),
        (["--job", "p2"], []),
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
    assert [each.begun.at for each in entries_of(services)] == sorted(
        moment.replace(microsecond=moment.microsecond // 1000 * 1000) for moment in moments
    )
    assert all(each.ended for each in entries_of(services))
    assert len(acts(torpor, "--since", "1h")) == 3


def test_two_commands_at_once_have_an_entry_each(services: Services) -> None:
    def act(number: int) -> None:
        with recorded(services, Act.SHOW, Subject(sessions=[f"s{number}"]), Who(), pytest.fail) as count:
            count.sessions = number

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(act, range(40)))
    found = entries_of(services)
    assert sorted(each.begun.subject.sessions[0] for each in found) == sorted(f"s{number}" for number in range(40))
    assert all(each.ended and f"s{each.ended.sessions}" == each.begun.subject.sessions[0] for each in found)


@IN_FOLDER
def test_an_act_on_many_sessions_is_recorded_in_batches(services: Services) -> None:
    many = [f"s{number}" for number in range(2 * MOST_SESSIONS + 1)]
    with recorded(services, Act.EXPORT, Subject(sessions=many), Who(), pytest.fail) as count:
        count.sessions = len(many)
    found = entries_of(services)
    assert sorted(session for each in found for session in each.begun.subject.sessions) == sorted(many)
    assert len(found) == 3
    assert sum(each.ended.sessions for each in found if each.ended) == len(many)


@IN_FOLDER
def test_a_trail_that_breaks_off_leaves_no_entry_open_of_an_act_that_was_refused(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = Subject(sessions=[f"s{number}" for number in range(2 * MOST_SESSIONS + 1)])
    strict = replace(services, settings=services.settings.model_copy(update={"require_reason": True}))
    written, put = list[str](), services.archive.put

    def breaking(name: str, *given: Any, **more: Any) -> StoredObject:
        if name.endswith(names.AUDIT_BEGUN):
            written.append(name)
            if len(written) == 2:
                raise ArchiveUnavailable("the network is gone")
        return put(name, *given, **more)

    monkeypatch.setattr(services.archive, "put", breaking)
    with pytest.raises(AuditUnwritten), recorded(strict, Act.EXPORT, many, Who("dpo", "why"), pytest.fail):
        pytest.fail("this must not be done")
    [entry] = entries_of(services)
    assert entry.ended
    assert (entry.ended.how, entry.ended.error) == ("failed", "AuditUnwritten")


@IN_FOLDER
def test_a_file_of_many_sessions_names_each_in_the_trail(services: Services, torpor: Torpor, tmp_path: Path) -> None:
    ids = [f"s{number:04}" for number in range(MOST_SESSIONS + 2)]
    new, owners = tmp_path / "new.jsonl", tmp_path / "owners.jsonl"
    new.write_text("".join(f'{{"session_id": "{each}", "messages": []}}\n' for each in ids[1:]))
    owners.write_text("".join(f'{{"session_id": "{each}", "owner": "ann"}}\n' for each in ids))
    assert torpor("import", str(new), *BY).code == 0
    assert torpor("assign-owner", str(owners), "--yes", *BY).code == 1, "nobody has the first session"
    for act, expected in (("import", ids[1:]), ("assign-owner", ids)):
        found = [each for each in entries_of(services) if each.begun.act == act]
        named = [each.begun.subject.sessions for each in found]
        assert sorted(map(len, named)) == [len(expected) - MOST_SESSIONS, MOST_SESSIONS]
        assert sorted(each for lot in named for each in lot) == expected
        assert sum(each.ended.sessions for each in found if each.ended) == MOST_SESSIONS + 1


@IN_FOLDER
def test_an_assignment_that_is_interrupted_says_of_how_many_and_names_no_session_that_it_did_not_reach(
    client: redis.Redis, services: Services, torpor: Torpor, tmp_path: Path
) -> None:
    say(client, "s0001", owner=None)
    owners = tmp_path / "owners.csv"
    owners.write_text("session_id,owner\n" + "".join(f"s{number:04},ann\n" for number in range(3 * MOST_SESSIONS)))
    looked = 0

    def press(point: Failpoint) -> None:
        nonlocal looked
        looked += point is Failpoint.AUDIT_BEGUN
        if looked == 2:
            raise Interrupted(130)

    failpoints.arm(press)
    assert torpor("assign-owner", str(owners), "--yes", *BY).code == 130
    failpoints.arm()
    first, second = entries_of(services)
    assert first.ended
    assert (first.ended.how, first.ended.sessions) == ("done", 1)
    assert (second.begun.subject.sessions[0], second.ended) == ("s1000", None)


@IN_FOLDER
def test_whoever_leaves_a_job_to_the_workers_was_interrupted_and_who_goes_on_has_an_entry_too(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    theirs(client, 6)

    def press(point: Failpoint) -> None:
        if point is Failpoint.JOB_DONE:
            failpoints.arm()
            raise Interrupted(130)

    failpoints.arm(press)
    assert torpor("adopt", "--match", "user-*", "--format", "memorystore", *BY).code == 130
    [job] = look.open_jobs(services)
    end_locks(client)
    assert torpor("jobs", "--resume", job, "--by", "bob").code == 0
    end_locks(client)
    assert [
        (each.begun.act, each.begun.by, each.begun.subject.job, each.ended.how if each.ended else None)
        for each in entries_of(services)
    ] == [("adopt", "dpo@example.com", job, "interrupted"), ("resume-job", "bob", job, "done")]
    listed = torpor("audit", "--act", "adopt").out
    assert f" match=user-* job={job} by=dpo@example.com " in listed


@pytest.mark.parametrize("archive_url", ["gcs"], indirect=True)
def test_an_export_as_a_job_has_the_entry_of_who_gave_the_order(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    say(client, "s")
    target = f"{services.archive.url}-tables"
    for more in (["--detach"], []):
        assert torpor("export", "--all", "-o", f"{target}{len(more)}", *more, *BY).code == 0
    ordered, done = entries_of(services)
    [job] = look.open_jobs(services)
    assert (ordered.begun.act, ordered.begun.subject.job, ordered.ended and ordered.ended.sessions) == (
        "export",
        job,
        0,
    )
    assert (done.begun.act, done.begun.subject.job != job, done.ended and done.ended.sessions) == ("export", True, 1)
    end_locks(client)


@IN_FOLDER
def test_a_move_that_was_killed_at_its_beginning_can_be_tried_again(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    sleep(client, services, "s")
    copy = copied_archive(services)
    there = {"ARCHIVE_URL": copy.archive.url}

    def press(point: Failpoint) -> None:
        if point is Failpoint.AUDIT_BEGUN:
            failpoints.arm()
            raise Interrupted(130)

    failpoints.arm(press)
    assert torpor("deployment", "move-archive", "--yes", *BY, **there).code == 130
    assert torpor("deployment", "move-archive", "--yes", *BY, **there).code == 0
    assert [each.ended is None for each in entries_of(copy)] == [True, False]
    assert entries_of(services) == []


@IN_FOLDER
def test_entries_expire_when_their_time_is_over(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    say(client, "s")
    assert torpor("show", "s").code == torpor("show", "s", AUDIT_RETENTION_SECONDS="60").code == 0
    assert len(entries_of(services)) == 2
    assert services.archive.expire(datetime.now(UTC) + timedelta(seconds=50)) == 0
    assert services.archive.expire(datetime.now(UTC) + timedelta(seconds=70)) == 2  # the beginning and the end
    assert len(entries_of(services)) == 1


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
    first, second, third = (entry.begun.id for entry in entries_of(services))
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
    assert entries_of(services) == []


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
    found = reading.entries(services, refuse)
    for expected in range(100):
        assert next(found).begun.at == (at + timedelta(milliseconds=expected)).replace(
            microsecond=(at + timedelta(milliseconds=expected)).microsecond // 1000 * 1000
        )
    assert 100 <= len(opened) <= 128
    assert sum(1 for _ in found) == 300
