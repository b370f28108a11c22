"""Every act on the console has an entry in the audit trail: the list of them is the table of pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from support.cli_sessions import say, sleep
from support.jobs import end_locks, order, theirs
from support.pages_read import READER, Browser, Shown, browser
from support.shown import fill
from support.trail import entries_of
from support.two_sides import contents_of, without_trail
from support.waiting import wait_until
from torpor.history.protocol import Lease
from torpor.worker.audit.act import Act, NoEntry
from torpor.worker.audit.reading import Entry
from torpor.worker.bulk import examining
from torpor.worker.bulk.works import WORKS
from torpor.worker.console.roles import Role
from torpor.worker.console.serving.page_table import PAGES
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders
from torpor.worker.erasure.order import Order
from torpor.worker.erasure.purge import purge
from torpor.worker.jobs import look, run
from torpor.worker.jobs.job import Job
from torpor.worker.jobs.orders import new_id
from torpor.worker.retention.legal_hold import hold_session
from torpor.worker.wake.restore import restore_session

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Filled:
    """A request to a page: its query, what its form has beside the reason, and what the entry is about."""

    query: str
    about: dict[str, Any]
    form: Mapping[str, str] = field(default_factory=dict)
    count: int = 1
    must_say_why: bool = False  # whatever the deployment requires


S, ANN, JOB, PURGE = {"sessions": ["s"]}, {"owner": "ann"}, {"job": "{job}"}, {"purge": "{purge}"}
BAD = {"sessions": ["bad"]}
ERASED = {"session": "s", "typed": "s", "purge": "{new}"}
ACTS = {
    "/session/transcript": Filled("id=s", S),
    "/session/sleep": Filled("id=awake", {"sessions": ["awake"]}),
    "/session/wake": Filled("id=s", S),
    "/session/requeue": Filled("id=bad", BAD),
    "/hold/set": Filled("session=s", S, must_say_why=True),
    "/hold/release": Filled("session=held", {"sessions": ["held"]}, must_say_why=True),
    "/copy/begin": Filled("owner=ann", ANN, count=5, must_say_why=True),
    "/erase/order": Filled("", {"purge": "{new}"}, ERASED, must_say_why=True),
    "/purge/resume": Filled("id={purge}", PURGE),
    "/quarantine/requeue": Filled("", BAD, {"chosen-1": "bad"}, must_say_why=True),
    "/quarantine/requeue-all": Filled("", {}, must_say_why=True),
    "/doctor/examine": Filled("", {"job": "made"}, {"messages": "on"}, count=0),
    "/job/cancel": Filled("id={job}", JOB, count=0),
    "/job/resume": Filled("id={job}", JOB, count=2),
}
# Requests that find nothing to do, and how their entries end; None for no entry at all.
NOTHING_TO_DO: list[tuple[str, Filled, str | None]] = [
    ("/session/transcript", Filled("id=none", {}), "failed"),
    ("/session/sleep", Filled("id=none", {}), "failed"),
    ("/session/sleep", Filled("id=s", {}), "unchanged"),
    ("/session/wake", Filled("id=none", {}), "failed"),
    ("/session/wake", Filled("id=awake", {}), "unchanged"),
    ("/session/requeue", Filled("id=awake", {}), "failed"),
    ("/hold/set", Filled("session={finished}", {}), "failed"),
    ("/hold/release", Filled("session=s", {}), "failed"),
    ("/hold/release", Filled("owner=nobody", {}), "failed"),
    ("/copy/begin", Filled("owner=nobody", {}), "failed"),
    ("/erase/order", Filled("", {}, {"session": "none", "typed": "none", "purge": "{new}"}), "failed"),
    ("/purge/resume", Filled("id=none", {}), "failed"),
    ("/purge/resume", Filled("id={finished_purge}", {}), "unchanged"),
    ("/quarantine/requeue", Filled("", {}, {"chosen-1": "awake"}), "unchanged"),
    ("/quarantine/requeue-all", Filled("", {}), "unchanged"),
    ("/doctor/examine", Filled("", {}, {"messages": "on"}), None),
    ("/job/cancel", Filled("id=none", {}), "failed"),
    ("/job/cancel", Filled("id={finished_job}", {}), "unchanged"),
    ("/job/resume", Filled("id=none", {}), "failed"),
    ("/job/resume", Filled("id={finished_job}", {}), "unchanged"),
]
EACH = pytest.mark.parametrize("path", ACTS)
ENTRIES = {page.path: page for page in PAGES if not isinstance(page.entry, NoEntry)}


@dataclass(frozen=True)
class Scene:
    """A deployment with something to do for each act."""

    services: Services
    names: dict[str, str]

    def send(self, opened: Browser, path: str, reason: str | None = "request 17") -> Shown:
        return self.request(opened, path, ACTS[path], reason)

    def request(self, opened: Browser, path: str, filled: Filled, reason: str | None = "request 17") -> Shown:
        to = f"{path}?{filled.query.format(**self.names)}"
        if not ENTRIES[path].acts:
            return opened.get(to)
        fields = {name: value.format(**self.names) for name, value in filled.form.items()}
        return opened.post(to, fields if reason is None else {**fields, "reason": reason})

    def about(self, path: str) -> dict[str, Any]:
        given = ACTS[path].about.items()
        return {name: value.format(**self.names) if isinstance(value, str) else value for name, value in given}

    def contents(self) -> Any:
        """What is on both sides, without the trail."""
        return without_trail(contents_of(self.services.sessions, self.services.archive))

    def ended(self) -> list[Entry]:
        """The entries, once each has an end: some acts go on in the background."""
        found: list[Entry] = wait_until(
            lambda: (seen := entries_of(self.services)) and all(each.ended for each in seen) and seen
        )
        return found


@pytest.fixture
def scene(client: redis.Redis, services: Services) -> Iterator[Scene]:
    for session_id in ("s", "held", "other"):
        sleep(client, services, session_id, "the words")
    for session_id in ("awake", "bad"):
        say(client, session_id)
    lease = services.sessions.claim_one("bad", timedelta(minutes=1))
    assert isinstance(lease, Lease)
    assert services.sessions.quarantine(lease, "why")
    assert hold_session(services, "held", "case 1")
    theirs(client, 2)
    purge = orders.place(services, Order.of(session="other")).id
    yield Scene(services, {"job": order(services), "purge": purge, "new": new_id()})
    end_locks(client)


def requiring(services: Services) -> Services:
    return replace(services, settings=services.settings.model_copy(update={"require_reason": True}))


def test_every_act_of_the_table_is_done_here_and_what_has_none_says_why() -> None:
    assert ACTS.keys() == ENTRIES.keys()
    assert all(page.entry.why for page in PAGES if isinstance(page.entry, NoEntry))
    changing = {page.path for page in PAGES if page.acts and isinstance(page.entry, NoEntry)}
    assert changing == {"/session/transcript/reason", "/sessions/stop", "/copy/delete"}


@EACH
def test_an_act_has_an_entry_that_says_who_what_and_why(scene: Scene, path: str) -> None:
    with browser(scene.services, Role.OFFICER, Role.OPERATOR) as opened:
        assert scene.send(opened, path).status == 200
        [entry] = scene.ended()
    begun, ended = entry.begun, entry.ended
    is_form = ENTRIES[path].acts
    assert (begun.act, begun.by, begun.reason) == (ENTRIES[path].entry, READER, "request 17" if is_form else "")
    subject = {name: value for name, value in begun.subject.fields().items() if value not in (None, [])}
    about = scene.about(path)
    if about == {"job": "made"}:
        about = {"job": subject["job"]}
    assert subject == about
    assert ended
    assert (ended.how, ended.error, ended.sessions) == ("done", None, ACTS[path].count)
    with browser(scene.services, Role.VIEWER) as opened:
        listed = opened.get("/audit", act=begun.act)
    assert f"{begun.act} " in listed.text
    assert all(name in listed.text for name in subject.get("sessions", []))
    assert all(str(subject[kind]) in listed.text for kind in ("owner", "purge", "job") if kind in subject)


@EACH
def test_a_deployment_can_require_a_reason(scene: Scene, path: str) -> None:
    before = scene.contents()
    with browser(requiring(scene.services), Role.OFFICER, Role.OPERATOR) as opened:
        for reason in (None, "", "  "):
            refused = scene.send(opened, path, reason)
            assert refused.status == (400 if ENTRIES[path].acts else 200)
            assert "the words" not in refused.text
            assert (entries_of(scene.services), scene.contents()) == ([], before)
        if path == "/session/transcript":
            opened.post("/session/transcript/reason?id=s", {"reason": "request 17"})
        else:
            assert scene.send(opened, path).status == 200
        assert [each.begun.reason for each in scene.ended()] == ["request 17"]


@EACH
def test_an_entry_that_can_t_be_written_is_a_warning_or_a_refusal(scene: Scene, path: str) -> None:
    (Path(scene.services.archive.url.removeprefix("file://")) / "v1/audit").write_text("in the way")
    before = scene.contents()
    with browser(requiring(scene.services), Role.OFFICER, Role.OPERATOR) as opened:
        if path == "/session/transcript":
            refused = opened.post("/session/transcript/reason?id=s", {"reason": "request 17"})
        else:
            refused = scene.send(opened, path)
        assert (refused.status, "the audit trail can't be written" in refused.text) == (503, True)
        assert "the words" not in refused.text
    assert scene.contents() == before
    with browser(scene.services, Role.OFFICER, Role.OPERATOR) as opened:
        done = scene.send(opened, path)
        assert (done.status, "this is not in the audit trail" in done.text) == (200, True)


def test_the_table_of_what_finds_nothing_to_do_has_every_act() -> None:
    assert {path for path, _, _ in NOTHING_TO_DO} == ENTRIES.keys()


@pytest.mark.parametrize(("path", "filled", "how"), NOTHING_TO_DO, ids=str)
def test_an_act_that_has_done_nothing_says_so(scene: Scene, path: str, filled: Filled, how: str | None) -> None:
    services = scene.services
    if path == "/quarantine/requeue-all":
        assert services.sessions.requeue("bad")
    if path == "/session/wake":
        restore_session(services, "awake")
    if path == "/doctor/examine":
        deployment = services.sessions.identity().deployment
        assert deployment
        look.place(services, Job.of(examining.NAME, examining.Arguments(), deployment=deployment))
    if "finished" in filled.query:
        scene.names.update({"finished_purge": purge(services, Order.of(session="other")).purge, "finished": "other"})
        scene.names["finished_job"] = run.finish(services, WORKS, scene.names["job"]).job
    before = scene.contents()
    with browser(services, Role.OFFICER, Role.OPERATOR) as opened:
        shown = scene.request(opened, path, filled)
        assert shown.status in (200, 404)
        found = scene.ended() if how else entries_of(services)
    ends = [(each.begun.act, end.how, end.sessions, bool(end.error)) for each in found if (end := each.ended)]
    assert ends == ([] if how is None else [(ENTRIES[path].entry, how, 0, how == "failed")]), shown.text
    assert scene.contents() == before


def test_pages_that_only_look_have_no_entry(services: Services) -> None:
    shown = fill(services)
    ids = {"id": "ann/travel", "owner": "ann", "session": "ann/travel", **shown.ids}
    with browser(services) as opened:
        for page in PAGES:
            if page.path in ENTRIES:
                continue
            query = {**ids, "id": shown.ids.get(page.path.split("/")[1], "ann/travel")}
            if page.acts:
                opened.post(page.path, {**query, "reason": "r"})
            else:
                opened.get(page.path, **query)
        acts = {each.begun.act for each in entries_of(services)}
    assert acts <= {Act.SHOW}, "the page that a reason leads to"
