"""Nobody has more requests in work than a few: the others wait, or are told when to try again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
import pytest
from starlette.responses import PlainTextResponse, Response

from support.guarded_console import PEOPLE, Served, served_behind
from support.iap import IdentityProxy
from support.waiting import wait_until
from torpor.worker.audit.act import LOOKS
from torpor.worker.console import admission
from torpor.worker.console.roles import Permission, Role
from torpor.worker.console.serving.page_table import PAGES, Page
from torpor.worker.console.visit import Visit
from torpor.worker.deployment.services import Services

Get = Callable[[str, str], httpx.Response]
ANN, BOB = PEOPLE[Role.OFFICER], PEOPLE[Role.VIEWER]


@dataclass
class Gate:
    """Two pages that wait until the gate opens; one of them walks."""

    running: list[Visit] = field(default_factory=list)
    opened: threading.Event = field(default_factory=threading.Event)

    def answer(self, visit: Visit) -> Response:
        self.running.append(visit)
        self.opened.wait(60)
        return PlainTextResponse("done")

    def pages(self) -> list[Page]:
        walk = Page("/walk", self.answer, Permission.VIEW, LOOKS, walks=True)
        return [*PAGES, Page("/wait", self.answer, Permission.VIEW, LOOKS), walk]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate()
    monkeypatch.setattr("torpor.worker.console.serving.application.PAGES", made.pages())
    yield made
    made.opened.set()


@pytest.fixture
def console(gate: Gate, services: Services, identity_proxy: IdentityProxy) -> Iterator[Served]:
    with served_behind(identity_proxy, services) as running:
        yield running
        gate.opened.set()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(admission.PRESENT + 4) as pool:
        yield pool


@pytest.fixture
def get(console: Served, identity_proxy: IdentityProxy) -> Get:
    """A request by a person for a page."""

    def send(email: str, path: str) -> httpx.Response:
        with console.browser(headers=identity_proxy.sign(email)) as browser:
            return browser.get(path)

    return send


def is_refused(reply: httpx.Response) -> bool:
    said = reply.status_code == 429 and "Too many requests" in reply.text
    return said and 1 <= int(reply.headers["retry-after"]) <= 60


def test_a_person_s_requests_wait_for_each_other_and_too_many_are_refused_while_others_go_on(
    gate: Gate, get: Get, threads: ThreadPoolExecutor
) -> None:
    sent = [threads.submit(get, ANN, "/wait") for _ in range(admission.PRESENT + 3)]
    wait_until(lambda: sum(reply.done() for reply in sent) == 3)
    assert len(gate.running) == admission.RUNNING
    assert get(BOB, "/").status_code == 200
    gate.opened.set()
    replies = [reply.result() for reply in sent]
    assert sum(is_refused(reply) for reply in replies) == 3
    assert [reply.status_code for reply in replies].count(200) == len(gate.running) == admission.PRESENT
    assert get(ANN, "/").status_code == 200


def test_a_person_may_have_two_walks_at_a_time_and_other_pages_beside_them(
    gate: Gate, get: Get, threads: ThreadPoolExecutor
) -> None:
    sent: list[Future[httpx.Response]] = [threads.submit(get, ANN, "/walk") for _ in range(admission.WALKING)]
    wait_until(lambda: len(gate.running) == admission.WALKING)
    assert is_refused(get(ANN, "/walk"))
    assert get(ANN, "/").status_code == 200
    sent.append(threads.submit(get, BOB, "/walk"))
    wait_until(lambda: len(gate.running) == admission.WALKING + 1)
    gate.opened.set()
    assert {reply.result().text for reply in sent} == {"done"}
    assert get(ANN, "/walk").text == "done"


def test_a_person_may_walk_so_often_in_a_minute(gate: Gate, get: Get) -> None:
    gate.opened.set()
    for _ in range(admission.WALKS_A_MINUTE):
        assert get(ANN, "/walk").status_code == 200
    assert is_refused(get(ANN, "/walk"))
    assert get(BOB, "/walk").status_code == 200
    assert get(ANN, "/wait").status_code == 200
    assert len(gate.running) == admission.WALKS_A_MINUTE + 2
