"""A copy of all of a person's sessions: made in the background, downloaded as one file, and deleted."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import redis
import requests

from support.cli_sessions import say, sleep
from support.consoles import OFFICER, OPERATOR, VIEWER, Console, Visitor, form, forms, served, started
from support.paths import TESTS
from support.trail import entries_of
from support.waiting import wait_until
from torpor.worker import failpoints
from torpor.worker.console import copies
from torpor.worker.console.background import Background
from torpor.worker.console.roles import Role
from torpor.worker.console.spool import Spool
from torpor.worker.deployment.services import Services
from torpor.worker.failpoints import Failpoint

pytestmark = pytest.mark.slow

OTHER = "other@example.com"


@pytest.fixture(autouse=True)
def spools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder below which the spools of this test lie."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"torpor-console-{os.getuid()}"


@pytest.fixture
def console(services: Services) -> Iterator[Console]:
    people = {OFFICER: {Role.OFFICER}, OTHER: {Role.OFFICER}, VIEWER: {Role.VIEWER}, OPERATOR: {Role.OPERATOR}}
    with served(services, people) as running:
        yield running


def begin(officer: Visitor, owner: str = "ann") -> requests.Response:
    return officer.submit(officer.get("/person", owner=owner), "/copy/begin", reason="request 17")


def id_of(page: requests.Response) -> str:
    return page.url.partition("/copy?id=")[2]


def ready(officer: Visitor, page: requests.Response, state: str = "ready:") -> requests.Response:
    found: requests.Response = wait_until(
        lambda: f"<strong>{state}</strong>" in (seen := officer.get("/copy", id=id_of(page))).text and seen
    )
    return found


def left(spools: Path) -> list[Path]:
    """The files of all spools, without their locks."""
    return [path for path in spools.rglob("*") if path.is_file() and path.name != "lock"]


def test_a_copy_has_the_sessions_of_a_person_with_manifests_that_agree(
    client: redis.Redis, services: Services, console: Console
) -> None:
    sleep(client, services, "asleep", "words of the night")
    say(client, "awake", "words of the day")
    say(client, "bob's", "words of bob", owner="bob")
    officer = console.visitor(OFFICER)
    page = ready(officer, begin(officer))
    assert "hx-trigger" not in page.text
    assert "2 sessions, 2 messages" in page.text
    answer = officer.get("/copy/file", id=id_of(page))
    assert answer.headers["Content-Disposition"] == f'attachment; filename="copy-{id_of(page)}.zip"'
    assert answer.headers["Cache-Control"] == "no-store"
    assert f"<code>{sha256(answer.content).hexdigest()}</code>" in page.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as zipped:
        assert zipped.testzip() is None
        files = {Path(name).name: zipped.read(name) for name in zipped.namelist()}
    manifest = json.loads(files.pop("manifest.json"))
    assert (manifest["owner"], manifest["by"], manifest["reason"]) == ("ann", OFFICER, "request 17")
    assert manifest["copied"]["sessions"] == 2
    assert {each["name"]: each["sha256"] for each in manifest["files"]} == {
        name: sha256(content).hexdigest() for name, content in files.items()
    }
    texts = b"".join(files.values())
    assert (texts.count(b"words of the night"), texts.count(b"words of the day")) == (2, 2)
    assert b"bob" not in texts
    [entry] = entries_of(services)
    assert (entry.begun.act, entry.begun.by, entry.begun.subject.owner) == ("export", OFFICER, "ann")
    assert wait_until(lambda: (ended := entries_of(services)[0].ended) and (ended.how, ended.sessions)) == ("done", 2)


def test_an_interrupted_download_goes_on_where_it_was(
    client: redis.Redis, services: Services, console: Console
) -> None:
    say(client, "s", "words")
    officer = console.visitor(OFFICER)
    page = ready(officer, begin(officer))
    whole = officer.get("/copy/file", id=id_of(page))
    officer.http.headers.update({"Range": "bytes=100-", "If-Range": whole.headers["ETag"]})
    rest = officer.get("/copy/file", id=id_of(page), status=206)
    assert rest.content == whole.content[100:]


def test_only_the_process_may_read_the_file_and_it_goes_when_it_is_deleted(
    client: redis.Redis, services: Services, console: Console, spools: Path
) -> None:
    say(client, "s", "words")
    officer = console.visitor(OFFICER)
    page = ready(officer, begin(officer))
    [file] = left(spools)
    assert file.name == f"{id_of(page)}.zip"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {stat.S_IMODE(each.stat().st_mode) for each in (spools, file.parent)} == {0o700}
    assert "is deleted" in officer.submit(page, "/copy/delete").text
    assert left(spools) == []
    officer.get("/copy/file", id=id_of(page), status=404)


def test_a_copy_is_deleted_after_its_time(
    client: redis.Redis, services: Services, console: Console, spools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "KEPT", copies.KEPT / 3_600)
    say(client, "s", "words")
    officer = console.visitor(OFFICER)
    page = begin(officer)
    wait_until(lambda: entries_of(services)[0].ended)
    wait_until(lambda: not left(spools))
    assert "an hour has passed" in officer.get("/copy", id=id_of(page), status=404).text


def test_a_console_that_ends_leaves_no_copy(client: redis.Redis, services: Services, spools: Path) -> None:
    say(client, "s", "words")
    with served(services) as console:
        officer = console.visitor(OFFICER)
        ready(officer, begin(officer))
        assert left(spools)
    assert list(spools.iterdir()) == [spools / "lock"]


def test_two_copies_at_once_do_not_disturb_each_other(
    client: redis.Redis, services: Services, console: Console
) -> None:
    say(client, "s", "words")
    officers = [console.visitor(OFFICER), console.visitor(OTHER)]
    pages = [begin(officer) for officer in officers]
    done = [ready(*each) for each in zip(officers, pages, strict=True)]
    assert id_of(done[0]) != id_of(done[1])
    for officer, page in zip(officers, done, strict=True):
        assert zipfile.is_zipfile(io.BytesIO(officer.get("/copy/file", id=id_of(page)).content))


def test_a_copy_is_for_the_officer_who_asked_for_it(client: redis.Redis, services: Services, console: Console) -> None:
    say(client, "s", "words")
    officer, other, viewer = console.visitor(OFFICER), console.visitor(OTHER), console.visitor(VIEWER)
    page = ready(officer, begin(officer))
    other.get("/copy/file", id=id_of(page), status=404)
    other.get("/copy", id=id_of(page), status=404)
    viewer.get("/copy/file", id=id_of(page), status=403)
    for visitor in (viewer, console.visitor(OPERATOR)):
        assert not forms(visitor.get("/person", owner="ann"))


@pytest.mark.parametrize("reason", ["", " "])
def test_a_copy_needs_a_reason(client: redis.Redis, services: Services, console: Console, reason: str) -> None:
    say(client, "s", "words")
    officer = console.visitor(OFFICER)
    page = officer.get("/person", owner="ann")
    assert "reason is missing" in officer.submit(page, "/copy/begin", reason=reason, status=400).text
    assert entries_of(services) == []


def test_no_copy_is_made_of_somebody_who_is_unknown(
    client: redis.Redis, services: Services, console: Console, spools: Path
) -> None:
    say(client, "s", "words")
    officer = console.visitor(OFFICER)
    filled = form(officer.get("/person", owner="ann"), "/copy/begin")
    filled.action = "/copy/begin?owner=anne"
    assert "nothing is known of owner" in officer.send(filled, reason="r", status=404).text
    assert not spools.exists()


def test_a_copy_that_fails_says_why_and_leaves_nothing(
    client: redis.Redis, services: Services, console: Console, spools: Path
) -> None:
    def fail(reached: Failpoint) -> None:
        if reached is Failpoint.ANSWER_COPIED:
            raise OSError(28, "No space left on device")

    say(client, "s", "words")
    officer = console.visitor(OFFICER)
    failpoints.arm(fail)
    page = begin(officer)
    found = wait_until(lambda: "was not made" in (seen := officer.get("/copy", id=id_of(page))).text and seen)
    assert "no place for it: No space left on device" in found.text
    assert left(spools) == []
    assert wait_until(lambda: (ended := entries_of(services)[0].ended) and ended.how) == "failed"
    failpoints.arm()
    assert "is deleted" in officer.submit(found, "/copy/delete").text


def test_a_copy_that_finds_no_room_while_it_is_packed_leaves_nothing(
    client: redis.Redis, services: Services, console: Console, spools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, target: Path, *_: object) -> None:
        target.write_bytes((folder / "manifest.json").read_bytes())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torpor.worker.access.parcel.pack", full)
    say(client, "s", "words")
    officer = console.visitor(OFFICER)
    page = begin(officer)
    wait_until(lambda: "was not made" in officer.get("/copy", id=id_of(page)).text)
    assert [path.name for path in spools.rglob("*") if path.is_file() and path.name != "lock"] == []


def test_too_many_copies_are_refused_and_recorded_as_failed(
    client: redis.Redis, services: Services, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_MOST", 1)
    say(client, "s", "words")
    officer = console.visitor(OFFICER)
    page = officer.get("/person", owner="ann")
    officer.submit(page, "/copy/begin", reason="r")
    assert "delete one" in officer.submit(page, "/copy/begin", reason="r", status=503).text
    wait_until(lambda: sorted(each.ended.how for each in entries_of(services) if each.ended) == ["done", "failed"])


def test_the_work_of_a_console_that_ends_stops_at_its_next_step() -> None:
    background, steps = Background(), []

    def work() -> None:
        while True:
            background.go_on()
            steps.append(1)

    assert background.start("work", work)
    wait_until(lambda: steps)
    background.end()
    count = len(steps)
    assert not background.start("more", work)
    assert len(steps) == count


def test_no_more_than_so_much_work_is_done_at_once() -> None:
    background = Background(most=1)
    assert background.start("work", lambda: wait_until(background._ending.is_set) and None)
    assert not background.start("more", lambda: None)
    background.end()


def test_a_place_that_another_user_could_read_is_refused(spools: Path) -> None:
    spools.mkdir(mode=0o755)
    spools.chmod(0o755)
    with pytest.raises(Exception, match="not a folder of this user alone"):
        Spool()


def test_a_link_in_the_place_of_the_folder_is_refused(spools: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    spools.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Exception, match="not a folder of this user alone"):
        Spool()


def test_a_spool_in_use_stays_when_another_process_makes_one(spools: Path) -> None:
    first = Spool()
    (first.folder / "copy.zip").write_bytes(b"words")
    second = Spool()
    assert left(spools) == [first.folder / "copy.zip"]
    first.close()
    second.close()


@pytest.mark.slow
def test_what_a_killed_console_has_left_is_removed_by_the_next_one(
    client: redis.Redis, services: Services, spools: Path, tmp_path: Path
) -> None:
    for number in range(150):
        say(client, f"s{number}", "words")
    kill = tmp_path / "kill"
    kill.write_text(f"{Failpoint.ANSWER_COPIED} 1 process")
    armed = {"LEDGER_KILL_ORDER": str(kill), "PYTHONPATH": str(TESTS), "TMPDIR": str(tmp_path)}
    with started(services, tmp_path, "-m", "support.armed_console", **armed) as console:
        visitor = console.visitor()
        page = visitor.get("/person", owner="ann")
        with pytest.raises(requests.ConnectionError):
            begin_and_follow(visitor, page)
        assert console.process.wait(20) == -9
    assert any(b"words" in path.read_bytes() for path in left(spools))
    made = Spool()
    assert left(spools) == []
    made.close()
    [entry] = entries_of(services)
    assert entry.ended is None


def begin_and_follow(visitor: Visitor, page: requests.Response) -> None:
    """Follow the copy for as long as the console lives."""
    copy = visitor.submit(page, "/copy/begin", reason="r")
    while True:
        visitor.get("/copy", id=id_of(copy))


def test_the_file_can_be_unpacked_by_the_usual_program(
    client: redis.Redis, services: Services, console: Console, tmp_path: Path
) -> None:
    say(client, "s", "words")
    officer = console.visitor(OFFICER)
    page = ready(officer, begin(officer))
    (tmp_path / "copy.zip").write_bytes(officer.get("/copy/file", id=id_of(page)).content)
    subprocess.run(["python3", "-m", "zipfile", "-e", "copy.zip", "."], cwd=tmp_path, check=True)
    assert (tmp_path / f"copy-{id_of(page)}" / "manifest.json").is_file()
