"""Each role meets each page: the pages come from the console's own table, so a new page is covered by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest
import redis
from langchain_core.messages import HumanMessage

from support.console import PEOPLE, STRANGER, Served, csrf, filled
from support.iap import HEADER, IdentityProxy
from support.keyspace import dump
from torpor import MemorystoreChatMessageHistory
from torpor.worker.console.pages import Page, all_pages
from torpor.worker.console.roles import PERMISSIONS, Role
from torpor.worker.deployment.services import Services

PAGES = all_pages()
NAMES = [f"{page.method} {page.path}" for page in PAGES]
WITHOUT = [
    pytest.param(role, page, id=f"{role}-{name}")
    for page, name in zip(PAGES, NAMES, strict=True)
    for role in Role
    if page.permission not in PERMISSIONS[role]
]
WITH = [
    pytest.param(role, page, id=f"{role}-{name}")
    for page, name in zip(PAGES, NAMES, strict=True)
    for role in Role
    if page.permission in PERMISSIONS[role]
]


def send(browser: httpx.Client, page: Page, session_id: str = "s", **fields: str) -> httpx.Response:
    """A request to a page for a session, with all that a form may have and the token of forms."""
    names = ("session", "session_id", "id", "owner", "name")
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


@pytest.mark.parametrize(("role", "page"), WITHOUT)
def test_a_role_without_the_permission_gets_nothing_and_changes_nothing(scene: Scene, role: Role, page: Page) -> None:
    with scene.visitor(PEOPLE[role]) as browser:
        reply = send(browser, page)
    assert (reply.status_code, f"the permission to {page.permission}" in reply.text) == (403, True)
    assert "words of a person" not in reply.text
    assert scene.is_unchanged


@pytest.mark.parametrize(("role", "page"), WITH)
def test_a_role_with_the_permission_gets_to_the_page(scene: Scene, role: Role, page: Page) -> None:
    with scene.visitor(PEOPLE[role]) as browser:
        reply = send(browser, page)
    assert reply.status_code in {200, 303, 400, 404, 409}, reply.text
    assert page.acts or reply.status_code != 303 or reply.headers["location"].startswith("/")


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_person_without_a_role_gets_nothing_and_is_told_whom_to_ask(scene: Scene, page: Page) -> None:
    with scene.visitor(STRANGER) as browser:
        reply = send(browser, page)
    assert (reply.status_code, "has no role on this console" in reply.text) == (403, True)
    assert "ask the people who run this console" in reply.text
    assert scene.is_unchanged


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_nobody_gets_to_a_page_without_a_signature_and_the_unsigned_name_counts_for_nothing(
    scene: Scene, page: Page
) -> None:
    claimed = {"x-goog-authenticated-user-email": f"accounts.google.com:{PEOPLE[Role.OFFICER]}"}
    for headers in ({}, claimed, claimed | {HEADER: "e30.e30.e30"}):
        with scene.console.browser(headers=headers) as browser:
            browser.get("/")
            reply = send(browser, page)
        assert (reply.status_code, "no valid signature" in reply.text) == (401, True)
    assert scene.is_unchanged


@pytest.mark.parametrize("page", [each for each in PAGES if each.acts], ids=lambda page: page.path)
def test_a_form_without_the_token_of_its_own_browser_does_nothing(scene: Scene, page: Page) -> None:
    role = next(role for role in Role if page.permission in PERMISSIONS[role])
    with (
        scene.visitor(PEOPLE[role]) as browser,
        scene.visitor(PEOPLE[role]) as another,
    ):
        for wrong in ("", "wrong", csrf(another), "ä\u2028"):
            reply = send(browser, page, csrf=wrong)
            assert (reply.status_code, "This form is no longer valid" in reply.text) == (403, True)
        for headers in (
            {"origin": "https://elsewhere.example"},
            {"origin": "null"},
            {"origin": scene.console.url.replace("http:", "https:")},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ):
            browser.headers.update(headers)
            reply = send(browser, page)
            for name in headers:
                del browser.headers[name]
            assert (reply.status_code, "This form is no longer valid" in reply.text) == (403, True), headers
        with scene.console.browser(headers=scene.proxy.sign(PEOPLE[role])) as bare:
            assert send(bare, page, csrf=csrf(browser)).status_code == 403
    assert scene.is_unchanged
