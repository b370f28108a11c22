"""The pages of records and of care: the audit trail, quarantine, the bucket, the doctor and jobs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

import pytest
import redis
import requests

from support.command import Torpor
from support.consoles import OFFICER, OPERATOR, VIEWER, Console, Visitor, form, forms, served
from support.jobs import end_locks, order, theirs
from support.keyspace import raw
from support.objects import put
from support.purging import A, say, sleep
from support.trail import entries_of
from support.waiting import wait_until
from torpor.history.protocol import Lease, Status
from torpor.worker.archive import names
from torpor.worker.audit import trail
from torpor.worker.audit.act import Act
from torpor.worker.audit.entry import Subject
from torpor.worker.audit.trail import Who
from torpor.worker.bulk.works import WORKS
from torpor.worker.console.pages import audit as audit_page
from torpor.worker.console.pages import jobs as jobs_page
from torpor.worker.deployment.services import Services
from torpor.worker.jobs import look
from torpor.worker.jobs.job import JobState
from torpor.worker.ops import bucket_check, doctor

pytestmark = pytest.mark.slow

MARKUP = "<script>alert('1')</script>"


@pytest.fixture
def console(services: Services) -> Iterator[Console]:
    with served(services) as running:
        yield running


def entries(services: Services) -> list[tuple[str, str, str, list[str], int | None]]:
    found = [(each.begun, each.ended) for each in entries_of(services)]
    return [
        (begun.act, begun.by, begun.reason, begun.subject.sessions, ended.sessions if ended else None)
        for begun, ended in found
    ]


def following(page: requests.Response) -> str | None:
    found = re.search(r'<a href="([^"]+)" rel="next"', page.text)
    return unescape(found[1]) if found else None


def quarantine(services: Services, session_id: str, error: str = "it is broken") -> None:
    say(services, session_id, A)
    lease = services.sessions.claim_one(session_id, services.settings.lease)
    assert isinstance(lease, Lease)
    assert services.sessions.quarantine(lease, error)


def status_of(services: Services, session_id: str) -> Status:
    info = services.sessions.info(session_id, owner="ann")
    assert info
    return info.status


def test_an_operator_makes_the_chosen_sessions_due_and_the_others_stay(services: Services, console: Console) -> None:
    odd = "s\x1b[2J&\n%"
    for session_id in ("a", "b", odd):
        quarantine(services, session_id, f"broken {MARKUP}")
    operator = console.visitor(OPERATOR)
    page = operator.get("/quarantine")
    assert "broken &lt;script&gt;" in page.text
    assert MARKUP not in page.text
    boxes = dict(re.findall(r'name="(chosen-\d+)" value="([^"]*)"', page.text))
    assert len(boxes) == 3
    filled = form(page, "/quarantine/requeue")
    chosen = {name: value for name, value in boxes.items() if value != "b"}
    done = operator.send(filled, reason="mended", **chosen)
    assert "2 sessions are due again." in done.text
    assert [status_of(services, each) for each in ("a", odd)] == [Status.DUE, Status.DUE]
    assert status_of(services, "b") is Status.QUARANTINED
    assert entries(services) == [("requeue", OPERATOR, "mended", ["a", odd], 2)]
    again = operator.send(filled, reason="mended", **chosen)
    assert "0 sessions are due again. 2 were not in quarantine any more." in again.text


def test_an_operator_makes_all_due_and_the_list_comes_by_pages(services: Services, console: Console) -> None:
    for number in range(30):
        quarantine(services, f"s{number:02d}")
    operator = console.visitor(OPERATOR)
    page = operator.get("/quarantine")
    more = following(page)
    assert more
    second = operator.get(more)
    assert following(second) is None
    shown = [re.findall(r'/session\?id=(s\d\d)"', each.text) for each in (page, second)]
    assert shown == [[f"s{number:02d}" for number in range(25)], [f"s{number:02d}" for number in range(25, 30)]]
    assert 'formaction="/quarantine/requeue-all"' in page.text
    filled = form(page, "/quarantine/requeue")
    filled.action = "/quarantine/requeue-all"
    assert "30 sessions are due again." in operator.send(filled, reason="mended").text
    assert "No session is in quarantine." in operator.get("/quarantine").text
    assert entries(services) == [("requeue", OPERATOR, "mended", [], 30)]


@pytest.mark.parametrize(("reason", "chosen", "says"), [("", "a", "reason is missing"), ("r", "", "choose a session")])
def test_a_requeue_needs_a_session_and_a_reason(
    services: Services, console: Console, reason: str, chosen: str, says: str
) -> None:
    quarantine(services, "a")
    operator = console.visitor(OPERATOR)
    fields = {"chosen-1": chosen} if chosen else {}
    page = operator.get("/quarantine")
    assert says in operator.submit(page, "/quarantine/requeue", reason=reason, status=400, **fields).text
    assert status_of(services, "a") is Status.QUARANTINED


@pytest.mark.parametrize("name", [VIEWER, OFFICER])
def test_who_may_not_repair_sees_no_form_for_it_and_is_refused(
    services: Services, console: Console, client: redis.Redis, name: str
) -> None:
    quarantine(services, "a")
    theirs(client, 1)
    job = order(services)
    visitor, operator = console.visitor(name), console.visitor(OPERATOR)
    for path in ("/quarantine", "/doctor", f"/job?id={job}"):
        assert not forms(visitor.get(path)), path
    for path, action in (
        ("/quarantine", "/quarantine/requeue"),
        ("/doctor", "/doctor/examine"),
        (f"/job?id={job}", "/job/cancel"),
        (f"/job?id={job}", "/job/resume"),
    ):
        visitor.send(form(operator.get(path), action), reason="r", status=403, **{"chosen-1": "a"})
    assert status_of(services, "a") is Status.QUARANTINED
    assert list(look.open_jobs(services)) == [job]
    assert look.standing(services, WORKS, job).state is JobState.QUEUED


def test_the_navigation_has_what_the_person_may_use(console: Console) -> None:
    for name in (VIEWER, OFFICER, OPERATOR):
        links = re.findall(r'<li><a href="([^"]+)"', console.visitor(name).get("/bucket").text)
        assert links == [
            *("/", "/sessions", "/person", "/purges", "/holds", "/audit"),
            *("/quarantine", "/bucket", "/doctor", "/jobs"),
        ]
    assert '<a href="/bucket" aria-current="page">' in console.visitor(VIEWER).get("/bucket").text


def act(services: Services, kind: Act, subject: Subject, by: str, reason: str = "r") -> None:
    with trail.recorded(services, kind, subject, Who(by, reason), pytest.fail) as count:
        count.sessions = 1


def test_the_audit_trail_is_found_by_act_person_session_owner_and_time(services: Services, console: Console) -> None:
    act(services, Act.SHOW, Subject(sessions=["s"]), "ann@example.com", MARKUP)
    act(services, Act.EXPORT, Subject(owner="bob"), "ann@example.com")
    act(services, Act.PURGE, Subject(purge="p1"), "dpo@example.com")
    act(services, Act.SHOW, Subject(sessions=[f"t{number}" for number in range(5)]), "dpo@example.com")
    viewer = console.visitor(VIEWER)

    def shown(**query: str) -> list[str]:
        page = viewer.http.get(f"{viewer.url}/audit", params=query, timeout=30)
        return re.findall(r" UTC</td><td>(\w+)</td>", page.text)

    assert shown() == ["show", "export", "purge", "show"]
    assert shown(act="show") == ["show", "show"]
    assert shown(by="ann@example.com") == ["show", "export"]
    assert shown(session="t3") == ["show"]
    assert shown(owner="bob") == ["export"]
    assert shown(act="purge", by="ann@example.com") == []
    assert shown(since="2099-01-01") == []
    page = viewer.get("/audit")
    assert MARKUP not in page.text
    assert "&lt;script&gt;" in page.text
    assert '<a href="/purge?id=p1">p1</a>' in page.text
    assert "and 2 more" in page.text
    assert form(page, "/audit").method == "get"


@pytest.mark.parametrize("query", ["act=steal", "since=yesterday", "since=9999999w"])
def test_a_filter_that_nothing_can_match_is_refused(console: Console, query: str) -> None:
    console.visitor(VIEWER).get(f"/audit?{query}", status=400)


def test_the_audit_trail_comes_by_pages_each_entry_once(
    services: Services, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_page, "_PAGE", 3)
    monkeypatch.setattr(audit_page, "_READ", 4)
    for number in range(11):
        act(services, Act.SHOW if number % 2 else Act.EXPORT, Subject(sessions=[f"s{number}"]), "ann")
    viewer = console.visitor(VIEWER)
    for query, expected in (("", range(11)), ("?act=export", range(0, 11, 2))):
        page, seen = viewer.get(f"/audit{query}"), list[str]()
        while True:
            seen += re.findall(r'/session\?id=(s\d+)"', page.text)
            more = following(page)
            if more is None:
                break
            page = viewer.get(more)
        assert seen == [f"s{number}" for number in expected]


def test_the_rules_of_the_archive_are_those_that_the_command_shows(
    services: Services, console: Console, torpor: Torpor
) -> None:
    page = console.visitor(VIEWER).get("/bucket").text
    facts = {unescape(name): unescape(value) for name, value in re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page)}
    found = services.archive.safeguards()
    assert facts == {"archive": services.archive.url} | bucket_check.facts(found)
    wrong = list(bucket_check.warnings(found)) if found else []
    assert page.count("<strong>Warning:</strong>") == len(wrong)
    assert bool(wrong) == services.archive.url.startswith("gs://")
    said = torpor("bucket").said
    assert all(f"{name} {value}" in said for name, value in bucket_check.facts(found).items())


def test_an_examination_finds_what_the_command_finds_and_changes_nothing(
    services: Services, console: Console, client: redis.Redis
) -> None:
    for number in range(6):
        (sleep if number % 2 else say)(services, f"s{number}", A)
    keys = services.sessions.deployment.keyspace
    raw(client, "ZREM", keys.of(b"s2").due, "s2")
    services.sessions.append("corrupt", [b"no message"], owner=MARKUP)
    services.sessions.append(MARKUP, [b"no message"])
    operator = console.visitor(OPERATOR)
    done = examined(operator, operator.submit(operator.get("/doctor"), "/doctor/examine", messages="on", archive="on"))
    rows = re.findall(r'scope="row" class="id">.*?>([^<]*)</a></th><td>(.*?)</td><td>(no|yes)</td>', done.text)
    expected = [(str(each.session_id), str(each.ailment), "no") for each in doctor.examine(services)]
    assert sorted((unescape(one), unescape(two), three) for one, two, three in rows) == sorted(expected)
    assert len(rows) == 5
    assert MARKUP not in done.text
    assert "hx-trigger" not in done.text
    assert id_of(done) in operator.get("/doctor").text
    assert entries(services) == [("examine", OPERATOR, "", [], 0)]


def examined(operator: Visitor, page: requests.Response) -> requests.Response:
    found: requests.Response = wait_until(
        lambda: "Findings</h2>" in (seen := operator.get("/job", id=id_of(page))).text and seen
    )
    return found


def id_of(page: requests.Response) -> str:
    return page.url.partition("/job?id=")[2]


def test_an_examination_of_less_leaves_the_rest_out(services: Services, console: Console) -> None:
    services.sessions.append("corrupt", [b"no message"], owner="ann")
    operator = console.visitor(OPERATOR)
    done = examined(operator, operator.submit(operator.get("/doctor"), "/doctor/examine"))
    assert "Nothing was found: all is well." in done.text


def test_an_examination_that_is_not_finished_is_the_one_that_is_shown(
    services: Services, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torpor.worker.jobs.run.finish", lambda *_: None)
    operator = console.visitor(OPERATOR)
    page = operator.get("/doctor")
    first, second = (operator.submit(page, "/doctor/examine", archive="on") for _ in range(2))
    assert id_of(first) == id_of(second)
    assert "Nothing new was begun" in second.text
    assert id_of(first) in operator.get("/doctor").text


def test_a_job_is_listed_taken_part_in_and_shown_with_its_result(
    services: Services, console: Console, client: redis.Redis
) -> None:
    theirs(client, 10)
    job = order(services)
    operator = console.visitor(OPERATOR)
    assert f"/job?id={job}" in operator.get("/jobs").text
    page = operator.get("/job", id=job)
    assert "<strong>queued</strong>" in page.text
    assert 'hx-trigger="every 2s"' in page.text
    assert f'<a href="/job?id={job}">' in page.text
    assert "takes part" in operator.submit(page, "/job/resume").text
    wait_until(lambda: look.standing(services, WORKS, job).state is JobState.COMPLETE)
    done = operator.get("/job", id=job, part="now")
    assert done.text.startswith('<div id="job">')
    assert "10 of 10" in done.text
    assert list(services.sessions.sessions())
    assert f"/job?id={job}" in operator.get("/jobs").text.partition("Results")[2]


def test_a_job_is_canceled(services: Services, console: Console, client: redis.Redis) -> None:
    theirs(client, 10)
    job = order(services)
    operator = console.visitor(OPERATOR)
    page = operator.submit(operator.get("/job", id=job), "/job/cancel")
    assert "<strong>canceled</strong>" in page.text
    assert list(services.sessions.sessions()) == []
    end_locks(client)


def test_results_come_by_pages_newest_first(
    services: Services, console: Console, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_page, "_PAGE", 2)
    theirs(client, 1)
    operator = console.visitor(OPERATOR)
    jobs = [order(services) for _ in range(5)]
    for job in jobs:
        operator.submit(operator.get("/job", id=job), "/job/cancel")
    page, seen = operator.get("/jobs"), list[str]()
    while True:
        seen += re.findall(r"/job\?id=([^\"]+)\"", page.text)
        more = following(page)
        if more is None:
            break
        page = operator.get(more)
    assert seen == sorted(jobs, reverse=True)
    end_locks(client)


def test_a_damaged_order_is_refused_with_the_reason_and_can_be_canceled(services: Services, console: Console) -> None:
    put(services.archive, names.JOBS.order("broken"), b"{}")
    operator = console.visitor(OPERATOR)
    listed = operator.get("/jobs").text
    assert "<td>refused</td>" in listed
    assert "is damaged" in listed
    page = operator.get("/job", id="broken")
    assert "nobody here can do it" in page.text
    assert "/job/resume" not in page.text
    assert "is gone" in operator.submit(page, "/job/cancel").text
    assert not list(look.open_jobs(services))


@pytest.mark.parametrize("path", ["/job", "/purge"])
@pytest.mark.parametrize(("name", "status"), [("20260101T000000Z-00000000", 404), ("../x", 400), ("", 400)])
def test_an_id_that_nothing_has_is_an_error(console: Console, path: str, name: str, status: int) -> None:
    console.visitor(VIEWER).get(path, id=name, status=status)
