"""The pages of people, records and care when they have something to show: axe, a phone, and no JavaScript."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from support.browsing import DESKTOP, PHONE, WCAG, Console, tab
from support.cli_sessions import say, sleep
from support.jobs import theirs
from torpor.history.protocol import Lease
from torpor.worker.archive.documents import Document
from torpor.worker.audit import trail
from torpor.worker.audit.act import Act
from torpor.worker.audit.entry import Subject
from torpor.worker.audit.trail import Who
from torpor.worker.bulk import adopting, examining
from torpor.worker.bulk.works import WORKS
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import purge
from torpor.worker.erasure.order import Order
from torpor.worker.jobs import look, run
from torpor.worker.jobs.job import Job
from torpor.worker.retention import legal_hold

LONG = "conversation-" + "x" * 150


def ordered(services: Services, work: str, arguments: Document) -> str:
    deployment = services.sessions.identity().deployment
    assert deployment
    return look.place(services, Job.of(work, arguments, deployment=deployment)).id


@pytest.fixture(scope="module")
def paths(console: Console) -> list[str]:
    """The pages, each with rows, forms and long names."""
    services = console.services
    client = services.sessions.client
    sleep(client, services, "full-asleep", "one", "two", owner="full")
    say(client, LONG, "three", owner="full")
    sleep(client, services, "full-held", "four", owner="full")
    legal_hold.hold_session(services, "full-held", "case 12/2026", "counsel@example.com")
    legal_hold.hold_owner(services, "held-owner", "case 13")
    blocked = purge.purge(services, Order.of(session="full-held", reason="request 17", requested_by="dpo"))
    say(client, "full-gone", "five", owner="gone")
    complete = purge.purge(services, Order.of(owner="gone"))
    say(client, "full-broken", "six", owner="full")
    lease = services.sessions.claim_one("full-broken", services.settings.lease)
    assert isinstance(lease, Lease)
    services.sessions.quarantine(lease, "the archive has other bytes than were sent to it")
    services.sessions.append("full-corrupt", [b"no message"], owner="full")
    examination = ordered(services, examining.NAME, examining.Arguments())
    run.finish(services, WORKS, examination)
    with trail.recorded(services, Act.SHOW, Subject(sessions=["a", "b", LONG, "d"]), Who("ann", "r"), pytest.fail):
        pass
    session = quote(LONG)
    return [
        *("/person", "/person?owner=full", "/person?owner=nobody", f"/hold?session={session}", "/holds"),
        *("/erase?owner=full", f"/erase?session={session}", "/purges", "/purges?owner=gone"),
        *(f"/purge?id={blocked.purge}", f"/purge?id={complete.purge}"),
        *("/audit", "/quarantine", "/bucket", "/doctor", "/jobs", f"/job?id={examination}"),
    ]


@pytest.mark.parametrize("look", ["light", "dark"])
def test_axe_finds_nothing_on_full_pages(
    chromium: Browser, console: Console, axe: str, paths: list[str], look: str
) -> None:
    found = []
    for viewport in (DESKTOP, PHONE):
        with tab(chromium, console, viewport=viewport, color_scheme=look) as opened:
            for path in paths:
                page = opened.open(console.url + path)
                page.evaluate(axe)
                violations = page.evaluate("tags => axe.run({ runOnly: tags })", WCAG)["violations"]
                found += [(path, each["id"], [node["html"] for node in each["nodes"]]) for each in violations]
    assert found == []


def test_no_full_page_is_wider_than_a_phone(chromium: Browser, console: Console, paths: list[str]) -> None:
    with tab(chromium, console, viewport=PHONE) as opened:
        wide = {
            path: opened.open(console.url + path).evaluate("document.documentElement.scrollWidth") for path in paths
        }
    assert {path: width for path, width in wide.items() if width > PHONE["width"]} == {}


def test_a_copy_is_made_and_downloaded_without_javascript(
    chromium: Browser, console: Console, paths: list[str]
) -> None:
    assert paths
    with tab(chromium, console, java_script_enabled=False) as opened:
        page = opened.open(f"{console.url}/person?owner=full")
        page.get_by_label("Why a copy is given").fill("request 17")
        page.get_by_role("button", name="Copy all sessions").click()
        download = page.get_by_role("link", name="Download copy-")
        while not download.count():
            page.get_by_role("link", name="Show how far it is now").click()
        with page.expect_download() as started:
            download.click()
        assert started.value.suggested_filename.endswith(".zip")
        expect(page.get_by_text("SHA-256", exact=True)).to_be_visible()


def test_the_pages_of_a_copy_and_of_a_job_follow_by_themselves(chromium: Browser, console: Console) -> None:
    with tab(chromium, console) as opened:
        page = opened.open(f"{console.url}/doctor")
        page.get_by_role("button", name="Examine").click()
        expect(page.get_by_text("complete")).to_be_visible(timeout=60_000)
        expect(page.get_by_role("heading", name="Findings")).to_be_visible()


def test_a_reason_stays_in_its_field_while_the_page_of_a_job_follows_by_itself(
    chromium: Browser, console: Console
) -> None:
    """The part that is replaced every two seconds has no form, and the last one takes the forms away."""
    services = console.services
    theirs(services.sessions.client, 20)
    slow = Job.of(
        adopting.NAME,
        adopting.Arguments(format="memorystore", match="user-*"),
        deployment=services.sessions.identity().deployment or "",
        rate=0.2,
    )
    job = look.place(services, slow).id
    with tab(chromium, console) as opened:
        page = opened.open(f"{console.url}/job?id={job}")
        why = page.get_by_label("Reason").last
        why.fill("too slow")
        for _ in range(2):
            with page.expect_response(lambda reply: "part=now" in reply.url):
                pass
        expect(why).to_have_value("too slow")
        expect(why).to_be_focused()
        assert page.get_by_role("button", name="End it without the rest").count() == 1
        run.cancel(services, WORKS, job)
        expect(page.get_by_text("canceled", exact=True)).to_be_visible(timeout=60_000)
        expect(page.get_by_role("button", name="End it without the rest")).to_have_count(0)
