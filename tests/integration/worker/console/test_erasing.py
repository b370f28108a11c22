"""Erasing on the console: the dry run, the order, its progress, and the receipt with its files of proof."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from hashlib import sha256
from html import unescape
from pathlib import Path

import pytest
import redis
import requests

from support.compose import deployment_of, image
from support.consoles import OFFICER, OPERATOR, VIEWER, Console, Visitor, form, forms, served, started
from support.paths import TESTS
from support.purging import A, B, of_sessions, say, sleep
from support.servers import RedisServer
from support.trail import entries_of
from support.waiting import wait_until
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders, purge, receipts
from torpor.worker.erasure.order import Order, Scope
from torpor.worker.erasure.receipt import PurgeState
from torpor.worker.failpoints import Failpoint
from torpor.worker.retention import legal_hold


@pytest.fixture
def console(services: Services) -> Iterator[Console]:
    with served(services) as running:
        yield running


def erase(officer: Visitor, *, typed: str, status: int = 200, **target: str) -> requests.Response:
    page = officer.get(f"/erase?{'&'.join(f'{name}={value}' for name, value in target.items())}")
    return officer.submit(page, "/erase/order", reason="request 17", typed=typed, status=status)


def id_of(page: requests.Response) -> str:
    return page.url.partition("/purge?id=")[2]


def finished(officer: Visitor, page: requests.Response) -> requests.Response:
    """The page of the purge, when it has its receipt."""
    found: requests.Response = wait_until(
        lambda: "Receipt</h2>" in (seen := officer.get("/purge", id=id_of(page))).text and seen
    )
    return found


def files(officer: Visitor, page: requests.Response) -> dict[str, bytes]:
    """The files that the page gives, by the names under which a browser saves them."""
    found = {}
    for link in re.findall(r'<a href="([^"]+)" download>', page.text):
        answer = officer.get(unescape(link))
        name = re.fullmatch(r'attachment; filename="([^"]+)"', answer.headers["Content-Disposition"])
        assert name
        found[name[1]] = answer.content
    return found


def test_the_dry_run_lists_what_the_command_would_find_and_changes_nothing(
    services: Services, console: Console
) -> None:
    sleep(services, "asleep", A, B)
    say(services, "awake", A)
    say(services, "held", A)
    legal_hold.hold_session(services, "held", "case 12")
    before = of_sessions(services)
    page = console.visitor(OFFICER).get("/erase", owner="ann").text
    rows = re.findall(
        r'id=(\w+)">\w+</a></th>\s*<td class="number">(\d+)</td><td class="number">(\d+)</td>\s*'
        r'<td class="number">(\d+)</td><td class="number">([^<]+)</td>\s*<td>(.*?)</td>',
        page,
    )
    surveyed = list(purge.preview(services, Order.of(owner="ann")))
    expected = [each.found for each in surveyed]
    assert [row[:4] for row in rows] == [
        (each.session, str(each.messages), str(each.live_messages), str(len(each.objects)))
        for each in sorted(expected, key=lambda each: each.session)
    ]
    assert [row[5] for row in rows] == ["goes", "goes", "<strong>stays:</strong> legal hold: case 12"]
    total, kept = purge.sums(surveyed)
    assert (total.sessions, total.messages, kept.total()) == (2, 3, 1)
    assert f"2 sessions, 3 messages, {total.objects} objects ({total.bytes} B)" in page
    assert "<strong>1 session stays:</strong> legal hold: case 12" in page
    assert of_sessions(services) == before
    assert not list(orders.open_orders(services))
    assert entries_of(services) == []


def test_the_dry_run_of_many_sessions_comes_by_pages_and_sums_all(services: Services, console: Console) -> None:
    for number in range(110):
        say(services, f"s{number:03d}", A)
    officer = console.visitor(OFFICER)
    page = officer.get("/erase", owner="ann").text
    assert "110 sessions, 110 messages" in page
    seen = re.findall(r"/session\?id=(s\d+)", page)
    while following := re.search(r'<a href="([^"]+)" rel="next"', page):
        page = officer.get(unescape(following[1])).text
        seen += re.findall(r"/session\?id=(s\d+)", page)
    assert seen == [f"s{number:03d}" for number in range(110)]
    assert "10 sessions, 10 messages" in page


def test_an_erasure_ends_with_a_receipt_whose_files_can_be_checked(
    services: Services, console: Console, tmp_path: Path
) -> None:
    sleep(services, "asleep", A, B)
    say(services, "awake", A)
    say(services, "bob's", A, owner="bob")
    officer = console.visitor(OFFICER)
    page = finished(officer, erase(officer, owner="ann", typed="ann"))
    assert "<strong>complete</strong>" in page.text
    assert "hx-trigger" not in page.text
    assert "2 sessions, 3 messages" in page.text
    [receipt] = [receipts.read(services, each) for each in receipts.finished(services)]
    assert (receipt.requested_by, receipt.reason) == (OFFICER, "request 17")
    assert services.sessions.info("bob's", owner="bob")
    assert services.sessions.info("awake", owner="ann") is None or receipt.removed.sessions == 2

    found = files(officer, page)
    assert json.loads(found[f"{receipt.id}-receipt.json"]) == receipt.fields()
    [inventory] = receipt.inventories
    assert sha256(found[f"{receipt.id}-000001.jsonl"]).hexdigest() == inventory.sha256
    lines = [json.loads(line) for line in found[f"{receipt.id}-000001.jsonl"].splitlines()]
    assert sorted(line["session"] for line in lines) == ["asleep", "awake"]
    for name, content in found.items():
        (tmp_path / name).write_bytes(content)
    command = re.search(r"<pre><code>(.*?)</code></pre>", page.text, re.DOTALL)
    assert command
    check = ["sh", "-c", unescape(command[1])]
    checked = subprocess.run(check, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout.count(": OK")) == (0, 2)
    (tmp_path / f"{receipt.id}-000001.jsonl").write_bytes(b"changed")
    assert subprocess.run(check, check=False, cwd=tmp_path, capture_output=True).returncode

    [entry] = entries_of(services)
    assert (entry.begun.act, entry.begun.by, entry.begun.reason) == ("purge", OFFICER, "request 17")
    assert entry.begun.subject.purge == receipt.id
    assert wait_until(lambda: (ended := entries_of(services)[0].ended) and (ended.how, ended.sessions)) == ("done", 2)


@pytest.mark.parametrize("typed", ["", "Ann", "ann ", "bob"])
def test_nothing_is_erased_unless_the_name_is_typed_exactly(services: Services, console: Console, typed: str) -> None:
    say(services, "s", A)
    answer = erase(console.visitor(OFFICER), owner="ann", typed=typed, status=400)
    assert "nothing was erased" in answer.text
    assert services.sessions.info("s", owner="ann")
    assert not list(orders.open_orders(services))
    assert entries_of(services) == []


def test_nothing_is_erased_without_a_reason(services: Services, console: Console) -> None:
    say(services, "s", A)
    officer = console.visitor(OFFICER)
    page = officer.get("/erase", owner="ann")
    assert "reason is missing" in officer.submit(page, "/erase/order", reason=" ", typed="ann", status=400).text
    assert not list(orders.open_orders(services))


def test_a_reason_that_is_too_long_erases_nothing(services: Services, console: Console) -> None:
    say(services, "s", A)
    officer = console.visitor(OFFICER)
    page = officer.get("/erase", owner="ann")
    answer = officer.submit(page, "/erase/order", reason="x" * 70_000, typed="ann", status=400)
    assert "1,000 characters" in answer.text
    assert not list(orders.open_orders(services))
    assert services.sessions.info("s", owner="ann")
    assert not entries_of(services)


def test_a_form_from_elsewhere_erases_nothing(services: Services, console: Console) -> None:
    say(services, "s", A)
    officer = console.visitor(OFFICER)
    filled = form(officer.get("/erase", owner="ann"), "/erase/order")
    filled.fields["csrf"] = "forged"
    officer.send(filled, reason="x", typed="ann", status=403)
    assert services.sessions.info("s", owner="ann")


@pytest.mark.parametrize("name", [VIEWER, OPERATOR])
def test_who_may_not_erase_can_follow_a_purge_and_not_begin_one(
    services: Services, console: Console, name: str
) -> None:
    say(services, "s", A)
    officer, visitor = console.visitor(OFFICER), console.visitor(name)
    filled = form(officer.get("/erase", owner="ann"), "/erase/order")
    visitor.send(filled, reason="x", typed="ann", status=403)
    assert services.sessions.info("s", owner="ann")
    order = orders.place(services, Order.of(owner="ann"))
    page = visitor.get("/purge", id=order.id)
    assert "<strong>queued</strong>" in page.text
    assert not forms(page)


def test_nobody_who_is_unknown_is_erased(console: Console) -> None:
    officer = console.visitor(OFFICER)
    assert "nothing is known of owner &#39;anne&#39;" in officer.get("/erase", owner="anne", status=404).text
    officer.get("/erase", session="anne", status=404)
    officer.get("/erase", status=400)
    officer.get("/purge", id="20260101T000000Z-00000000", status=404)
    officer.get("/purge", id="../secret", status=400)
    officer.get("/purge/receipt", id="../secret", status=400)
    officer.get("/purge/inventory", id="20260101T000000Z-00000000", object="v1/deployment", status=404)


def test_one_session_is_erased_and_the_owners_others_stay(services: Services, console: Console) -> None:
    sleep(services, "s", A)
    sleep(services, "other", A)
    officer = console.visitor(OFFICER)
    page = finished(officer, erase(officer, session="s", typed="s"))
    assert "<strong>complete</strong>" in page.text
    assert [each for each in of_sessions(services) if "/s/" in each and "/floor" not in each] == []
    assert any("/other/" in each for each in of_sessions(services))


def test_a_blocked_erasure_says_what_was_kept_why_and_what_to_do(services: Services, console: Console) -> None:
    sleep(services, "held", A)
    say(services, "free", A)
    legal_hold.hold_session(services, "held", "case <12>")
    officer = console.visitor(OFFICER)
    page = finished(officer, erase(officer, owner="ann", typed="ann"))
    assert "<strong>blocked</strong>" in page.text
    assert "legal hold: case &lt;12&gt;" in page.text
    assert '<a href="/hold?session=held">the session</a>' in page.text
    officer.submit(officer.get("/hold", session="held"), "/hold/release", reason="closed")
    assert '<a href="/erase?session=held">erase this session</a>' in page.text
    again = finished(officer, erase(officer, session="held", typed="held"))
    assert "<strong>complete</strong>" in again.text


def test_a_session_that_begins_between_the_dry_run_and_the_order_is_erased_too(
    services: Services, console: Console
) -> None:
    say(services, "s", A)
    officer = console.visitor(OFFICER)
    page = officer.get("/erase", owner="ann")
    assert "looks anew when it runs" in page.text
    say(services, "late", A)
    done = finished(officer, officer.submit(page, "/erase/order", reason="request 17", typed="ann"))
    assert "2 sessions, 2 messages" in done.text
    info = services.sessions.info("late", owner="ann")
    assert info is None or info.purge == id_of(done)


def test_a_form_that_is_sent_twice_is_one_erasure(services: Services, console: Console) -> None:
    say(services, "s", A)
    officer = console.visitor(OFFICER)
    page = officer.get("/erase", owner="ann")
    first, second = (officer.submit(page, "/erase/order", reason="r", typed="ann") for _ in range(2))
    assert first.url == second.url
    assert "<strong>complete</strong>" in finished(officer, second).text
    assert len(list(receipts.finished(services))) == 1


def test_the_id_of_another_purge_erases_nothing(services: Services, console: Console) -> None:
    say(services, "s", A)
    say(services, "bob's", A, owner="bob")
    officer = console.visitor(OFFICER)
    done = finished(officer, erase(officer, owner="bob", typed="bob"))
    page = officer.get("/erase", owner="ann")
    filled = form(page, "/erase/order")
    filled.fields["purge"] = id_of(done)
    assert "is another one" in officer.send(filled, reason="r", typed="ann", status=400).text
    assert services.sessions.info("s", owner="ann")


def test_two_officers_who_erase_at_the_same_time_both_see_it_done(services: Services) -> None:
    for number in range(130):
        say(services, f"s{number}", A)
    with served(services) as first, served(services) as second:
        officers = [first.visitor(OFFICER), second.visitor(OFFICER)]
        pages = [officer.get("/erase", owner="ann") for officer in officers]
        ready, answers = threading.Barrier(2), list[requests.Response]()

        def order(officer: Visitor, page: requests.Response) -> None:
            ready.wait()
            answers.append(officer.submit(page, "/erase/order", reason="request 17", typed="ann"))

        threads = [threading.Thread(target=order, args=each) for each in zip(officers, pages, strict=True)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert len(answers) == 2
        done = [finished(officers[0], page) for page in answers]
    assert all("<strong>complete</strong>" in page.text for page in done)
    removed = [receipts.read(services, id_of(page)).removed.sessions for page in done]
    assert max(removed) <= 130 <= sum(removed) if done[0].url != done[1].url else removed == [130, 130]
    assert list(services.sessions.owned("ann")) == []


def test_an_officer_is_led_to_the_erasure_that_another_has_ordered(services: Services, console: Console) -> None:
    say(services, "s", A)
    officer = console.visitor(OFFICER)
    page = officer.get("/erase", owner="ann")
    order = orders.place(services, Order.of(owner="ann"))
    assert f"/purge?id={order.id}" in officer.get("/erase", owner="ann").text
    assert f"/purge?id={order.id}" in officer.get("/person", owner="ann").text
    answer = officer.submit(page, "/erase/order", reason="r", typed="ann")
    assert id_of(answer) == order.id
    assert "Nothing new was ordered" in answer.text
    assert list(orders.open_orders(services)) == [order.id]


def test_progress_is_a_part_that_ends_its_own_refreshing(services: Services, console: Console) -> None:
    say(services, "s", A)
    order = orders.place(services, Order.of(owner="ann"))
    officer = console.visitor(OFFICER)
    page = officer.get("/purge", id=order.id)
    assert 'hx-trigger="every 2s"' in page.text
    assert f'<a href="/purge?id={order.id}">' in page.text
    part = re.search(r'hx-get="([^"]+)"', page.text)
    assert part
    assert officer.get(unescape(part[1])).text.startswith('<div id="purge" hx-get')
    resumed = officer.submit(page, "/purge/resume")
    assert "The console goes on with it." in resumed.text
    assert "<strong>complete</strong>" in finished(officer, resumed).text
    last = officer.get(unescape(part[1])).text
    assert last.startswith('<div id="purge">')


def test_purges_are_listed_newest_first_by_pages_and_by_owner(services: Services, console: Console) -> None:
    for number in range(53):
        owner = "ann" if number % 10 else "bob"
        say(services, f"s{number}", A, owner=owner)
        purge.purge(services, Order.of(session=f"s{number}", id=f"p{number:02d}", reason="<b>"))
    say(services, "last", A)
    purge.purge(services, Order.of(owner="ann", id="q1"))
    open_order = orders.place(services, Order.of(owner="ann", id="open1"))
    viewer = console.visitor(VIEWER)
    page = viewer.get("/purges").text
    shown = re.findall(r"/purge\?id=(\w+)", page)
    assert shown == ["open1", "q1", *(f"p{number:02d}" for number in range(52, 3, -1))]
    following = re.search(r'<a href="([^"]+)" rel="next"', page)
    assert following
    assert re.findall(r"/purge\?id=(\w+)", viewer.get(unescape(following[1])).text) == ["p03", "p02", "p01", "p00"]
    assert re.findall(r"/purge\?id=(\w+)", viewer.get("/purges", owner="ann").text) == ["open1", "q1"]
    assert re.findall(r"/purge\?id=(\w+)", viewer.get("/purges", owner="bob").text) == []
    orders.ORDERS.finish(services.archive, open_order.id)


def test_a_damaged_receipt_is_left_out_with_a_warning(services: Services, console: Console) -> None:
    say(services, "s", A)
    purge.purge(services, Order.of(session="s", id="p1"))
    [path] = Path(services.archive.url.removeprefix("file://")).glob("**/receipts/p1/receipt.json")
    path.write_bytes(path.read_bytes()[:-20])
    viewer = console.visitor(VIEWER)
    page = viewer.get("/purges").text
    assert "left out" in page
    assert "/purge?id=p1" not in page
    assert "damaged" in viewer.get("/purge", id="p1", status=409).text


@pytest.mark.parametrize("scope", [Scope.LIVE, Scope.ARCHIVE])
def test_purges_that_the_command_has_ordered_are_shown_with_their_scope(
    services: Services, console: Console, scope: Scope
) -> None:
    sleep(services, "s", A)
    say(services, "s", B)
    done = purge.purge(services, Order.of(session="s", scope=scope))
    page = console.visitor(VIEWER).get("/purge", id=done.purge).text
    assert {Scope.LIVE: "Redis alone", Scope.ARCHIVE: "the archive alone"}[scope] in page


@pytest.mark.slow
@pytest.mark.parametrize("at", [Failpoint.PURGE_LISTED, Failpoint.PURGE_DROPPED, Failpoint.PURGE_ERASED])
def test_a_worker_finishes_the_erasure_of_a_console_that_is_killed(
    client: redis.Redis, redis_server: RedisServer, archive_url: str, tmp_path: Path, at: Failpoint
) -> None:
    deployment = deployment_of(redis_server, archive_url, lease_seconds=2, idle_timeout_seconds=3_600)
    for number in range(5):
        (sleep if number % 2 else say)(deployment, f"s{number}", A)
    kill = tmp_path / "kill"
    kill.write_text(f"{at} 1 process")
    armed = {"LEDGER_KILL_ORDER": str(kill), "PYTHONPATH": str(TESTS)}
    with started(deployment, tmp_path, "-m", "support.armed_console", **armed) as console:
        visitor = console.visitor()
        page = visitor.get("/erase", owner="ann")
        filled = form(page, "/erase/order")
        with pytest.raises(requests.ConnectionError):
            while True:  # the order is answered, and then the process is dead
                visitor.send(filled, reason="request 17", typed="ann")
        assert console.process.wait(20) == -9
    [open_purge] = orders.open_orders(deployment)
    assert open_purge == filled.fields["purge"]
    with image("worker", deployment, tmp_path), image("beat", deployment, tmp_path):
        wait_until(lambda: receipts.standing(deployment, open_purge).state is PurgeState.COMPLETE, 60)
    assert receipts.read(deployment, open_purge).removed.sessions == 5
    assert list(deployment.sessions.owned("ann")) == []
