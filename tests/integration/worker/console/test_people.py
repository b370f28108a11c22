"""The page of a person: sessions awake and asleep, counts, legal holds, purges, and the forms of a role."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from support.consoles import OFFICER, OPERATOR, VIEWER, Console, form, forms, served
from support.purging import A, say, sleep
from support.trail import entries_of
from support.waiting import wait_until
from torpor.worker.deployment.services import Services
from torpor.worker.retention import legal_hold

MARKUP = "<script>alert('1')</script>"


@pytest.fixture
def console(services: Services) -> Iterator[Console]:
    with served(services) as running:
        yield running


def figures(text: str) -> dict[str, str]:
    return dict(re.findall(r"<div><dt>(.*?)</dt><dd>(.*?)</dd></div>", text))


def test_a_person_is_found_by_name_and_has_the_sessions_awake_and_asleep(services: Services, console: Console) -> None:
    sleep(services, "asleep", A, A)
    say(services, "awake", A)
    say(services, "bob's", A, owner="bob")
    viewer = console.visitor(VIEWER)
    assert form(viewer.get("/person"), "/person").method == "get"
    page = viewer.get("/person", owner="ann").text
    assert figures(page) == {"Sessions": "2", "In Redis": "1", "Only in the archive": "1"}
    assert '<a href="/session?id=asleep">asleep</a>' in page
    assert re.search(r"awake</a></th>\s*<td>Redis</td>", page)
    assert re.search(r"asleep</a></th>\s*<td>archive only</td>\s*<td>asleep</td><td>chat</td>", page)
    assert "bob" not in page


def test_an_unknown_person_is_said_to_be_unknown(console: Console) -> None:
    page = console.visitor(VIEWER).get("/person", owner="anne")
    assert "No session of this owner is known" in page.text


@pytest.mark.parametrize("owner", ["", "a" * 2_000], ids=["none", "too long"])
def test_a_name_that_can_be_nobodys_is_refused(console: Console, owner: str) -> None:
    viewer = console.visitor(VIEWER)
    if not owner:
        assert forms(viewer.get("/person", owner=owner))
        return
    assert "owner" in viewer.get("/person", owner=owner, status=400).text


def test_many_sessions_come_by_pages_each_once(services: Services, console: Console) -> None:
    for number in range(120):
        say(services, f"s{number:03d}", A)
    viewer = console.visitor(VIEWER)
    seen: list[str] = []
    page = viewer.get("/person", owner="ann").text
    while True:
        seen += re.findall(r'/session\?id=(s\d+)"', page)
        following = re.search(r'<a href="([^"]+)" rel="next"', page)
        if not following:
            break
        page = viewer.get(following[1].replace("&amp;", "&")).text
    assert seen == [f"s{number:03d}" for number in range(120)]


@pytest.mark.parametrize("cursor", ["nonsense", "awake.czE=", "owned.////"])
def test_a_wrong_cursor_is_refused(console: Console, cursor: str) -> None:
    assert "cursor" in console.visitor(VIEWER).get("/person", owner="ann", cursor=cursor, status=400).text


def test_stored_markup_stays_text(services: Services, console: Console) -> None:
    say(services, f"s{MARKUP}", A, owner=MARKUP)
    legal_hold.hold_owner(services, MARKUP, MARKUP, by=MARKUP)
    legal_hold.hold_session(services, f"s{MARKUP}", MARKUP, MARKUP)
    officer = console.visitor(OFFICER)
    owner, session = quote(MARKUP), quote(f"s{MARKUP}")
    paths = [f"/person?owner={owner}", f"/hold?session={session}", "/holds"]
    for path in [*paths, f"/erase?owner={owner}", f"/erase?session={session}"]:
        page = officer.get(path).text
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page


def test_an_id_with_control_characters_is_reached_by_its_link(services: Services, console: Console) -> None:
    owner, session = "an\x1bn\n\u202e", "s\t\x1b[2J&=?#%"
    say(services, session, A, owner=owner)
    officer = console.visitor(OFFICER)
    page = officer.get("/person", owner=owner)
    assert not set(page.text) & set("\x1b\u202e")
    held = officer.submit(page, "/hold/set", reason="case 12")
    assert "The legal hold is set." in held.text
    assert [(each.id, each.reason, each.by) for each in services.sessions.standing_holds()] == [
        (owner, "case 12", OFFICER)
    ]
    assert "<strong>stays:</strong> legal hold: case 12" in officer.get("/erase", session=session).text


def test_a_hold_is_set_shown_and_released_with_who_and_why_in_the_audit_trail(
    services: Services, console: Console
) -> None:
    sleep(services, "s", A)
    officer = console.visitor(OFFICER)
    page = officer.submit(officer.get("/person", owner="ann"), "/hold/set", reason="case 12/2026")
    assert "<strong>Held</strong>" in page.text
    assert ": case 12/2026." in page.text
    assert all(stored.held for stored in services.archive.list("v1/") if stored.name.endswith(".jsonl.gz"))
    listed = officer.get("/holds").text
    assert f"<td>{OFFICER}</td>\n    <td>case 12/2026</td>" in listed
    assert '<a href="/person?owner=ann">ann</a>' in listed
    page = officer.submit(officer.get("/hold", owner="ann"), "/hold/release", reason="case closed")
    assert "The legal hold is released." in page.text
    assert "The legal hold is released." not in officer.get("/person", owner="ann").text
    assert services.sessions.hold_of_owner("ann") is None
    trail = [(each.begun.act, each.begun.by, each.begun.reason) for each in entries_of(services)]
    assert trail == [("hold", OFFICER, "case 12/2026"), ("unhold", OFFICER, "case closed")]


def test_a_hold_of_a_session_is_shown_beside_it(services: Services, console: Console) -> None:
    say(services, "s", A)
    officer = console.visitor(OFFICER)
    page = officer.submit(officer.get("/hold", session="s"), "/hold/set", reason="case 7")
    assert "<strong>Held</strong>" in page.text
    assert "case 7" in officer.get("/person", owner="ann").text
    assert "There is no legal hold of this owner." in officer.get("/person", owner="ann").text


def test_a_hold_that_somebody_else_has_released_meanwhile_says_so(services: Services, console: Console) -> None:
    say(services, "s", A)
    legal_hold.hold_owner(services, "ann", "case 1")
    officer = console.visitor(OFFICER)
    page = officer.get("/hold", owner="ann")
    officer.submit(page, "/hold/release", reason="done")
    assert "somebody else" in officer.submit(page, "/hold/release", reason="done", status=404).text
    ends = [each.ended and (each.ended.how, each.ended.error) for each in entries_of(services)]
    assert ends == [("done", None), ("failed", "HoldNotFound")]


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_hold_needs_a_reason(services: Services, console: Console, reason: str) -> None:
    officer = console.visitor(OFFICER)
    page = officer.get("/person", owner="ann")
    assert "reason is missing" in officer.submit(page, "/hold/set", reason=reason, status=400).text
    assert not list(services.sessions.standing_holds())


@pytest.mark.parametrize("name", [VIEWER, OPERATOR])
def test_who_may_not_hold_or_erase_sees_no_form_for_it_and_is_refused(
    services: Services, console: Console, name: str
) -> None:
    say(services, "s", A)
    visitor, officer = console.visitor(name), console.visitor(OFFICER)
    page = visitor.get("/person", owner="ann")
    assert not forms(page)
    assert "/erase" not in page.text
    visitor.get("/erase", owner="ann", status=403)
    filled = form(officer.get("/person", owner="ann"), "/hold/set")
    filled.fields["csrf"] = form(visitor.get("/person"), "/person").fields.get("csrf", "")
    visitor.send(filled, reason="x", status=403)
    assert not list(services.sessions.standing_holds())


def test_holds_come_by_pages(services: Services, console: Console) -> None:
    for number in range(60):
        legal_hold.hold_owner(services, f"owner {number:02d}", "case 1")
    viewer = console.visitor(VIEWER)
    first = viewer.get("/holds").text
    following = re.search(r'<a href="([^"]+)" rel="next"', first)
    assert following
    second = viewer.get(following[1].replace("&amp;", "&")).text
    shown = [re.findall(r'<a href="/person\?owner=owner%20(\d\d)"', page) for page in (first, second)]
    assert shown == [[f"{number:02d}" for number in range(50)], [f"{number:02d}" for number in range(50, 60)]]


def test_a_hold_that_takes_long_goes_on_after_the_page_and_its_end_is_in_the_audit_trail(
    services: Services, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torpor.worker.console.pages.holds._PATIENCE_SECONDS", 0.01)
    begun, may_end = threading.Event(), threading.Event()

    def slow(_: Services, session_id: str) -> int:
        begun.set()
        may_end.wait(30)
        return 1

    sleep(services, "s", A)
    monkeypatch.setattr("torpor.worker.retention.legal_hold.apply_hold", slow)
    officer = console.visitor(OFFICER)
    page = officer.get("/person", owner="ann")
    assert "is being set" in officer.submit(page, "/hold/set", reason="case 12").text
    assert begun.wait(30)
    assert "<strong>Held</strong>" in officer.get("/person", owner="ann").text
    assert [each.ended for each in entries_of(services)] == [None]
    may_end.set()
    wait_until(lambda: [each.ended and each.ended.sessions for each in entries_of(services)] == [1])


def test_a_hold_is_set_in_the_request_if_the_console_has_enough_work(
    services: Services, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torpor.worker.console.background.Background.start", lambda *_: False)
    say(services, "s", A)
    officer = console.visitor(OFFICER)
    assert "The legal hold is set." in officer.submit(officer.get("/hold", owner="ann"), "/hold/set", reason="r").text
    assert services.sessions.hold_of_owner("ann")
    again = officer.get("/hold", owner="ann")
    assert "<details>" in again.text
    officer.submit(again, "/hold/set", reason="case 13")
    assert "case 13" in officer.get("/hold", owner="ann").text
