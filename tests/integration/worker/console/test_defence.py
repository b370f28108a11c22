"""What every request must satisfy, and what every reply has: over a real port, with requests that no browser sends."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest
import redis
from langchain_core.messages import HumanMessage

from support.guarded_console import PEOPLE, Served, csrf, filled, served_behind
from support.iap import IdentityProxy
from torpor import MemorystoreChatMessageHistory
from torpor.worker.console import static_files
from torpor.worker.console.pages import overview
from torpor.worker.console.roles import Role
from torpor.worker.console.serving.defence import MOST_ADDRESS_BYTES, MOST_BODY_BYTES
from torpor.worker.console.serving.page_table import PAGES
from torpor.worker.deployment.services import Services

pytestmark = pytest.mark.slow

ANN = PEOPLE[Role.OFFICER]


@pytest.fixture
def browser(behind_iap: Served, identity_proxy: IdentityProxy) -> Iterator[httpx.Client]:
    """The browser of an officer."""
    with behind_iap.browser(headers=identity_proxy.sign(ANN)) as opened:
        yield opened


def raw(console: Served, request: str) -> str:
    """The reply to a request that is sent as it is; its lines end in CR LF."""
    parts = urlsplit(console.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30) as connection:
        connection.sendall(request.replace("\n", "\r\n").encode("latin-1"))
        reply = b""
        while part := connection.recv(65_536):
            reply += part
    return reply.decode("latin-1")


def request_of(path: str, *headers: str) -> str:
    return "\n".join([f"GET {path} HTTP/1.1", *headers, "Connection: close", "", ""])


REFUSED = {
    "another name": ["Host: elsewhere.example"],
    "a name of this machine that is not the console's": ["Host: localhost"],
    "another port": ["Host: 127.0.0.1:1"],
    "no name": [],
    "an empty name": ["Host: "],
    "two names": ["Host: {own}", "Host: elsewhere.example"],
    "the same name twice": ["Host: {own}", "Host: {own}"],
    "another name, and its own for a proxy": [
        "Host: elsewhere.example",
        "X-Forwarded-Host: {own}",
        "Forwarded: host={own}",
    ],
}


def test_only_the_console_s_own_name_is_answered_but_for_the_question_whether_it_lives(
    behind_iap: Served, identity_proxy: IdentityProxy
) -> None:
    own = urlsplit(behind_iap.url).netloc
    [(name, signed)] = identity_proxy.sign(ANN).items()
    for what, headers in REFUSED.items():
        given = [each.format(own=own) for each in headers]
        reply = raw(behind_iap, request_of("/", *given, f"{name}: {signed}"))
        assert reply.startswith(("HTTP/1.1 421", "HTTP/1.1 400")), (what, reply)
        assert "<h1>Overview</h1>" not in reply
    assert raw(behind_iap, request_of("/", f"Host: {own}", f"{name}: {signed}")).startswith("HTTP/1.1 200")
    lives = raw(behind_iap, request_of("/livez", "Host: 10.0.0.7:8765"))
    assert (lives.startswith("HTTP/1.1 200"), lives.endswith("\r\n\r\nok\n")) == (True, True)
    for other in ("/livez/", "/livez?x", "//livez", "/./livez", "/x/../livez", "/LIVEZ"):
        reply = raw(behind_iap, request_of(other, "Host: 10.0.0.7:8765"))
        assert reply.startswith("HTTP/1.1 421") or other == "/livez?x", other


HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def test_every_reply_has_the_headers_whatever_it_is(
    behind_iap: Served, browser: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "glance", fail)
    replies = [
        *(browser.get(filled(page.path)) for page in PAGES if not page.acts),
        browser.get("/samples?span=year"),
        browser.get("/none"),
        browser.post("/"),
        browser.get(static_files.address("console.css")),
        browser.get("/static/none.css"),
        browser.get("/livez"),
        browser.get("/", headers={"host": "elsewhere.example"}),
        browser.get("/", headers={"x-goog-iap-jwt-assertion": ""}),
        browser.get(f"/?x={'x' * MOST_ADDRESS_BYTES}"),
        browser.post("/hold/set", content=b"x" * (MOST_BODY_BYTES + 1)),
    ]
    assert {200, 400, 401, 404, 405, 413, 414, 421, 500} <= {reply.status_code for reply in replies}
    for reply in replies:
        assert {name: reply.headers.get(name) for name in HEADERS} == HEADERS, (reply.request.url, reply.status_code)
        assert "server" not in reply.headers
        assert "strict-transport-security" not in reply.headers
        kind = reply.headers["content-type"].partition(";")[0]
        assert kind in {"text/html", "application/json", "text/plain", "text/css"}, reply.request.url
        is_static = reply.request.url.path == "/static/console.css"
        assert (reply.headers["cache-control"] == "no-store") is not is_static, reply.request.url


def fail(*_: object) -> None:
    raise RuntimeError("words of a person")


def test_an_unexpected_error_shows_and_logs_no_text(
    behind_iap: Served, browser: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(overview, "glance", fail)
    reply = browser.get("/")
    assert (reply.status_code, reply.headers["content-type"]) == (500, "text/html; charset=utf-8")
    number = re.search(r"under the number <code>([0-9a-f]{8})</code>", reply.text)
    assert number
    [line] = [record.getMessage() for record in caplog.records if record.name.startswith("torpor")]
    assert line.startswith(f"request {number[1]} failed: RuntimeError at ")
    assert "test_defence.py" in line
    everything = reply.text + caplog.text
    assert not [word for word in ("words of a person", "Traceback", "assertion") if word in everything]


def test_browsers_that_come_by_https_are_told_to_stay_and_get_a_cookie_for_this_host_alone(
    services: Services, identity_proxy: IdentityProxy
) -> None:
    with (
        served_behind(identity_proxy, services, url="https://torpor.example.com") as console,
        console.browser() as opened,
    ):
        reply = opened.get("/", headers={"host": "torpor.example.com", **identity_proxy.sign(ANN)})
    assert (reply.status_code, reply.headers["strict-transport-security"]) == (200, "max-age=31536000")
    cookie = reply.headers["set-cookie"].lower()
    assert cookie.startswith("__host-torpor=")
    assert {"path=/", "httponly", "secure", "samesite=lax"} <= set(cookie.split("; "))
    assert "domain" not in cookie


def test_a_cookie_is_signed_and_hidden_from_scripts(browser: httpx.Client, behind_iap: Served) -> None:
    cookie = browser.get("/").headers["set-cookie"].lower()
    assert {"path=/", "httponly", "samesite=lax"} <= set(cookie.split("; "))
    before = csrf(browser)
    name, value = next(iter(browser.cookies.items()))
    for forged in (value[:-2], "e30=.x.y", value.partition(".")[0], "\u00e4", ""):
        browser.cookies.clear()
        assert browser.get("/", headers=[(b"cookie", f"{name}={forged}".encode())]).status_code == 200
        assert csrf(browser) not in {"", before}


def test_static_files_are_kept_by_browsers_only_under_the_address_of_their_version(browser: httpx.Client) -> None:
    page = browser.get("/").text
    [style] = re.findall(r'href="(/static/console\.css[^"]*)"', page)
    kept = browser.get(style.replace("&amp;", "&"))
    assert (kept.status_code, kept.headers["cache-control"]) == (200, "public, max-age=31536000, immutable")
    for other in ("/static/console.css", "/static/console.css?v=old"):
        assert browser.get(other).headers["cache-control"] == "no-cache"
    again = browser.get(style, headers={"if-none-match": kept.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


PATHS = [
    *("/static/../rendering.py", "/static/%2e%2e/rendering.py", "/static/..%2frendering.py"),
    *("/static/..%5crendering.py", "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/", "/static"),
    *("/static/console.css%00.html", "/static/" + "a" * 300, "/%2e%2e/", "//elsewhere.example/", "/samples/"),
    *(
        "/%ff",
        "/%0d%0aSet-Cookie:%20a=b",
        "/sessions/%0d%0ax",
        "/static/%ff",
        "/\u00e4",
        "*",
        "http://elsewhere.example/",
    ),
]


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_out_of_the_console(behind_iap: Served, identity_proxy: IdentityProxy, path: str) -> None:
    [(name, signed)] = identity_proxy.sign(ANN).items()
    own = urlsplit(behind_iap.url).netloc
    reply = raw(behind_iap, request_of(path, f"Host: {own}", f"{name}: {signed}"))
    assert re.match(r"HTTP/1\.1 4\d\d ", reply), reply
    head = reply.partition("\r\n\r\n")[0].lower()
    assert "\r\nlocation:" not in head
    assert "\r\nset-cookie: a=b" not in head
    assert "root:" not in reply


def test_a_form_that_is_too_large_is_refused_also_if_it_does_not_say_so_before(browser: httpx.Client) -> None:
    browser.get("/")
    fields = f"csrf={csrf(browser)}&reason=".encode()
    assert browser.post("/hold/set", content=fields + b"x" * MOST_BODY_BYTES).status_code == 413

    def pieces() -> Iterator[bytes]:
        yield fields
        for _ in range(MOST_BODY_BYTES // 8_192 + 1):
            yield b"x" * 8_192

    form = {"content-type": "application/x-www-form-urlencoded"}
    assert browser.post("/hold/set", content=pieces(), headers=form).status_code == 413
    many = {f"field{number}": "x" for number in range(100)}
    assert browser.post("/hold/set", data=many).status_code in {400, 403}
    assert browser.post("/hold/set", files={"file": b"x"}).status_code in {400, 403}
    assert browser.post("/hold/set", json={"csrf": csrf(browser)}).status_code == 403


def test_fifty_requests_at_once_of_each_of_two_people_are_all_answered(
    client: redis.Redis, behind_iap: Served, identity_proxy: IdentityProxy
) -> None:
    MemorystoreChatMessageHistory(client, "s").add_message(HumanMessage("hi"))

    def get(number: int) -> httpx.Response:
        person = PEOPLE[Role.OFFICER if number % 2 else Role.VIEWER]
        with behind_iap.browser(headers=identity_proxy.sign(person)) as opened:
            return opened.get("/")

    with ThreadPoolExecutor(100) as threads:
        replies = list(threads.map(get, range(100)))
    assert [reply.status_code for reply in replies] == [200] * 100
    assert all("<h1>Overview</h1>" in reply.text for reply in replies)
