"""Words of people stay words on every page: a visitor follows all links of a console that is full of hostile markup.

A page that lands later is visited as soon as another one leads to it, or with hostile words in its query.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin, urlsplit

import httpx
import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage

from support.guarded_console import PEOPLE, Served, csrf, filled, served_behind
from support.iap import IdentityProxy
from support.keyspace import raw
from torpor import MemorystoreChatMessageHistory
from torpor.worker.console.roles import Role
from torpor.worker.console.serving.page_table import PAGES
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders
from torpor.worker.erasure.order import Order
from torpor.worker.erasure.purge import carry_out
from torpor.worker.retention import legal_hold
from torpor.worker.sleep.attempt import archive_session

pytestmark = pytest.mark.slow

# It ends an attribute in either kind of quotes, a comment, a script, a style, a title and a field, and then says more.
MARKUP = (
    """a"'--></script></style></title></textarea></select><needle-tag needle-attr onneedle=x>{{ 7 * 7 }}{% raw %}&lt;"""
)
HEADER = "\r\nNeedle-Header: x\r\n\r\n<needle-tag>"
EVERYTHING = f"{MARKUP}{HEADER}\u202e\x1b[2J"
MOST_PAGES = 2_000
ANN = PEOPLE[Role.OFFICER]


class Parsed(HTMLParser):
    """The elements of a page, its text, and where it leads."""

    def __init__(self, page: httpx.Response) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: dict[str, set[str]] = {}
        self.text = ""
        self.links: set[str] = set()
        self.feed(page.text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, set()).add(value or "")
            self.text += f"\n{value or ''}" if name in {"value", "title", "content"} else ""
            if name in {"href", "action", "hx-get", "src"}:
                self.links.add(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def hostile(client: redis.Redis, services: Services) -> str:
    """Sessions in every state, holds, purges and damage, with hostile words wherever a person has a say."""
    names = {state: f"{state} {EVERYTHING}" for state in ("awake", "asleep", "held", "purged", "bad")}
    owner = f"owner {EVERYTHING}"
    turn = [
        HumanMessage(f"text {EVERYTHING}", name="n" + MARKUP),
        AIMessage("", tool_calls=[{"name": f"tool {MARKUP}", "args": {MARKUP: [MARKUP]}, "id": MARKUP}]),
    ]
    for name in names.values():
        MemorystoreChatMessageHistory(client, name, 3600, owner=owner).add_messages(turn)
    for state in ("asleep", "purged"):
        archive_session(services, names[state])
    legal_hold.hold_session(services, names["held"], f"reason {EVERYTHING}", f"by {EVERYTHING}")
    legal_hold.hold_owner(services, f"another {owner}", f"reason {EVERYTHING}", by=f"by {EVERYTHING}")
    by, reason = f"by {EVERYTHING}", f"reason {EVERYTHING}"
    order = Order.of(session=names["purged"], requested_by=by, reason=reason)
    carry_out(services, orders.place(services, order).id)
    orders.place(services, Order.of(owner=owner, requested_by=by, reason=reason))
    key = services.sessions.deployment.keyspace.of(names["bad"].encode()).metadata(names["bad"].encode())
    raw(client, "HDEL", key, "epoch")
    for _ in range(services.settings.max_attempts):
        archive_session(services, names["bad"])
    return names["awake"]


@pytest.fixture
def console(services: Services, identity_proxy: IdentityProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A console that does not count walks, since a crawl is no person. Ann has all roles."""
    monkeypatch.setattr("torpor.worker.console.admission.WALKS_A_MINUTE", 10_000)
    lists = {"officers": frozenset({ANN}), "operators": frozenset({ANN})}
    with served_behind(identity_proxy, services, contact=f"contact {EVERYTHING}", **lists) as running:
        yield running


def crawl(browser: httpx.Client, starts: list[str]) -> dict[str, httpx.Response]:
    """Every page that the console's own links lead to."""
    seen: dict[str, httpx.Response] = {}
    found = [*starts]
    while found:
        assert len(seen) < MOST_PAGES, "some page leads to ever new ones"
        path = found.pop(0)
        if path in seen:
            continue
        reply = seen[path] = browser.get(path)
        if is_page(reply):
            links = sorted(urljoin(path, link) for link in Parsed(reply).links)
            found += [link for link in links if not urlsplit(link).netloc and not link.startswith(("#", "/static/"))]
    return seen


def with_hostile_queries(hostile: str) -> list[str]:
    """Each page with hostile words in the parameters that a page may have: in all, and in one of them."""
    names = ("id", "session", "owner", "cursor", "prefix", "q", "since", "kind", "by", "act", "after", "span", "part")
    queries = [dict.fromkeys(names, EVERYTHING), *({name: hostile} for name in names[:4])]
    paths = [filled(page.path, {"id": "x"}) for page in PAGES if not page.acts]
    return [f"{path}?{urlencode(query)}" for path in paths for query in queries]


def is_page(reply: httpx.Response) -> bool:
    return str(reply.headers.get("content-type")).startswith("text/html")


def is_harmless(reply: httpx.Response) -> bool:
    """True if nothing of the hostile words became markup, a header, or another template."""
    if "needle-header" in reply.headers:
        return False
    disposition = reply.headers.get("content-disposition", "")
    if not is_page(reply):
        sniffed = reply.headers["x-content-type-options"] == "nosniff"
        return sniffed and ("\n" not in disposition) and "<needle" not in disposition
    page = Parsed(reply)
    scripts = [name for name in page.attributes if name.startswith("on") or name == "style"]
    return not (page.tags & {"needle-tag", "needle-attr"} or "needle-attr" in page.attributes or scripts)


@pytest.mark.slow
def test_hostile_words_are_words_on_every_page(console: Served, identity_proxy: IdentityProxy, hostile: str) -> None:
    with console.browser(headers=identity_proxy.sign(ANN)) as browser:
        pages = crawl(browser, ["/", *with_hostile_queries(hostile)])
    assert not [path for path, reply in pages.items() if not is_harmless(reply)]
    assert not {path: reply.status_code for path, reply in pages.items() if reply.status_code >= 500}
    words = {"awake", "asleep", "held", "owner", "reason", "by"}
    assert {name for name in words if is_shown(pages, name)} == words, "each was on some page"


def is_shown(pages: dict[str, httpx.Response], name: str) -> bool:
    """True if a page that is none of an error has these hostile words as text."""
    whole = re.compile(re.escape(f"{name} {MARKUP}"))
    found = [reply for reply in pages.values() if reply.status_code == 200 and is_page(reply)]
    return any(whole.search(Parsed(reply).text) for reply in found)


@pytest.mark.usefixtures("hostile")
def test_hostile_words_in_forms_and_errors_are_words(console: Served, identity_proxy: IdentityProxy) -> None:
    with console.browser(headers=identity_proxy.sign(ANN)) as browser:
        browser.get("/")
        names = ("id", "session", "owner", "reason", "typed", "purge", "next", "cursor", "confirm")
        for page in [each for each in PAGES if each.acts]:
            for named in names:
                fields = {"reason": "r", "session": "none", "csrf": csrf(browser), named: EVERYTHING}
                reply = browser.post(filled(page.path), data=fields)
                assert is_harmless(reply), (page, named)
                assert "\n" not in reply.headers.get("location", ""), (page, named)
                assert reply.headers.get("location", "/").startswith("/"), (page, named)
                assert reply.status_code < 500, (page, named)
                if reply.status_code == 303:
                    assert is_harmless(browser.get(reply.headers["location"])), (page, named)


def test_hostile_words_in_a_name_and_in_the_contact_are_words(console: Served, identity_proxy: IdentityProxy) -> None:
    email = '"><needle-tag@elsewhere.example'
    for given in ("<needle-tag>@elsewhere.example", email, "{{7*7}}@elsewhere.example"):
        with console.browser(headers=identity_proxy.sign(given)) as browser:
            reply = browser.get("/")
        assert is_harmless(reply)
        assert reply.status_code in {401, 403}
    with console.browser(headers=identity_proxy.sign("eve@elsewhere.example")) as browser:
        assert f"contact {MARKUP}" in Parsed(browser.get("/")).text
