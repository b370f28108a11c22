"""Each role meets each page: the pages come from the console's own table, so a new page is covered by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest
import redis
from langchain_core.messages import HumanMessage

from support.guarded_console import PEOPLE, STRANGER, Served, csrf, filled
from support.iap import HEADER, IdentityProxy
from support.keyspace import dump
from torpor import MemorystoreChatMessageHistory
from torpor.worker.console.roles import PERMISSIONS, Role
from torpor.worker.console.serving.page_table import PAGES, Page
from torpor.worker.deployment.services import Services

pytestmark = pytest.mark.slow


def send(browser: httpx.Client, page: Page, session_id: str = "s", **fields: str) -> httpx.Response:
    """A request to a page for a session, with all that a form may have and the token of forms."""
    names = ("session", "session_id", "id", "typed")
    values = dict.fromkeys(names, session_id) | {"reason": "r", "csrf": csrf(browser), **fields}
    path = filled(page.path, values)
    return browser.post(path, data=values) if page.acts else browser.get(path)


@dataclass(frozen=True)
class Scene:
    """A console over a deployment with one session; `before` is all that is in Redis and the archive."""

    client: redis.Redis
    services: Services
    console: Served
    proxy: IdentityProxy
    before: list[object]

    @contextmanager
    def visitor(self, email: str) -> Iterator[httpx.Client]:
        """A browser of a person who has seen a page, and so has a cookie with the token of forms."""
        with self.console.browser(headers=self.proxy.sign(email)) as browser:
            browser.get("/")
            assert csrf(browser)
            yield browser

    @property
    def is_unchanged(self) -> bool:
        return contents(self.client, self.services) == self.before


@pytest.fixture
def scene(client: redis.Redis, services: Services, behind_iap: Served, identity_proxy: IdentityProxy) -> Scene:
    MemorystoreChatMessageHistory(client, "s", owner="s").add_message(HumanMessage("words of a person"))
    return Scene(client, services, behind_iap, identity_proxy, contents(client, services))


def contents(client: redis.Redis, services: Services) -> list[object]:
    return [dump(client), sorted(each.name for each in services.archive.list(""))]


@pytest.mark.parametrize("role", Role)
def test_a_role_gets_to_the_pages_of_its_permissions_and_the_others_change_and_show_nothing(
    scene: Scene, role: Role
) -> None:
    refused = [page for page in PAGES if page.permission not in PERMISSIONS[role]]
    with scene.visitor(PEOPLE[role]) as browser:
        for page in refused:
            reply = send(browser, page)
            assert (reply.status_code, f"the permission to {page.permission}" in reply.text) == (403, True), page
            assert "words of a person" not in reply.text
            assert scene.is_unchanged, page
        for page in PAGES:
            if page not in refused:
                reply = send(browser, page)
                assert reply.status_code in {200, 303, 400, 404, 409}, (page, reply.text)
                assert reply.headers.get("location", "/").startswith("/"), page


def test_a_person_without_a_role_gets_nothing_and_is_told_whom_to_ask(scene: Scene) -> None:
    with scene.visitor(STRANGER) as browser:
        for page in PAGES:
            reply = send(browser, page)
            assert (reply.status_code, "has no role on this console" in reply.text) == (403, True), page
            assert "ask the people who run this console" in reply.text
            assert scene.is_unchanged, page


def test_nobody_gets_to_a_page_without_a_signature_and_the_unsigned_name_counts_for_nothing(scene: Scene) -> None:
    claimed = {"x-goog-authenticated-user-email": f"accounts.google.com:{PEOPLE[Role.OFFICER]}"}
    for headers in ({}, claimed, claimed | {HEADER: "e30.e30.e30"}):
        with scene.console.browser(headers=headers) as browser:
            browser.get("/")
            for page in PAGES:
                reply = send(browser, page)
                assert (reply.status_code, "no valid signature" in reply.text) == (401, True), page
    assert scene.is_unchanged


def test_a_form_without_the_token_of_its_own_browser_or_from_elsewhere_does_nothing(scene: Scene) -> None:
    for page in [each for each in PAGES if each.acts]:
        person = PEOPLE[next(role for role in Role if page.permission in PERMISSIONS[role])]
        with scene.visitor(person) as browser, scene.visitor(person) as another:
            token = csrf(browser)
            for wrong in ("", "wrong", csrf(another), "ä\u2028"):
                assert is_refused(send(browser, page, csrf=wrong)), (page, wrong)
            for name, value in (
                ("origin", "https://elsewhere.example"),
                ("origin", "null"),
                ("origin", scene.console.url.replace("http:", "https:")),
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-site", "same-site"),
            ):
                browser.headers[name] = value
                assert is_refused(send(browser, page)), (page, name, value)
                del browser.headers[name]
        with scene.console.browser(headers=scene.proxy.sign(person)) as bare:
            assert is_refused(send(bare, page, csrf=token)), page
    assert scene.is_unchanged


def is_refused(reply: httpx.Response) -> bool:
    return reply.status_code == 403 and "This form is no longer valid" in reply.text
