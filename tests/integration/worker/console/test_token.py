"""Signing in with the token that the command prints, in the command's own process: guesses, logs and the end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from support.command import Torpor
from support.guarded_console import SECRET, Served, csrf, served
from support.ports import free_port
from support.servers import start_redis
from support.waiting import scaled, wait_until
from torpor.worker.console.sign_in.token import TokenSignIn
from torpor.worker.deployment.environment import PREFIX
from torpor.worker.deployment.services import Services


@pytest.fixture
def console(services: Services) -> Iterator[Served]:
    with served(services, lambda _: TokenSignIn("the-token-of-the-tests"), url=None) as running:
        yield running


@pytest.fixture
def browser(console: Served) -> Iterator[httpx.Client]:
    with console.browser() as opened:
        yield opened


def enter(browser: httpx.Client, token: str, **fields: str) -> httpx.Response:
    """Fill in the form that asks for the token."""
    browser.get("/sign-in")
    return browser.post("/sign-in", data={"csrf": csrf(browser), "token": token, **fields})


def test_the_address_signs_in_once_and_leads_to_one_without_the_token(browser: httpx.Client) -> None:
    assert browser.get("/").status_code == 401
    browser.get("/sign-in")
    before = csrf(browser)
    reply = browser.get("/sign-in", params={"token": "the-token-of-the-tests"})
    assert (reply.status_code, reply.headers["location"]) == (303, "/")
    assert reply.headers["cache-control"] == "no-store"
    page = browser.get("/")
    assert (page.status_code, "local" in page.text) == (200, True)
    assert csrf(browser) not in {"", before}
    [value] = browser.cookies.values()
    told = b64decode(value.partition(".")[0]).decode()
    assert not [part for part in ("the-token", "of-the-tests") if part in told + page.text]


def test_the_form_signs_in_and_no_other_site_can_send_it(browser: httpx.Client) -> None:
    assert enter(browser, "the-token-of-the-tests", csrf="wrong").status_code == 403
    assert browser.post("/sign-in", data={"token": "the-token-of-the-tests"}).status_code == 403
    browser.headers["origin"] = "https://elsewhere.example"
    assert enter(browser, "the-token-of-the-tests").status_code == 403
    del browser.headers["origin"]
    assert browser.get("/").status_code == 401
    assert enter(browser, "the-token-of-the-tests").status_code == 303
    assert browser.get("/").status_code == 200


def test_guesses_are_refused_and_soon_not_read_any_more(browser: httpx.Client) -> None:
    for guess in ("wrong", "the-token-of-the-test", "the-token-of-the-tests ", "\u00e4", "x" * 9_000, "%00"):
        reply = enter(browser, guess)
        assert (reply.status_code, "not the token" in reply.text) == (403, True), guess
    replies = [browser.get("/sign-in", params={"token": "wrong"}).status_code for _ in range(10)]
    assert set(replies) == {403, 429}
    assert browser.get("/sign-in", params={"token": "the-token-of-the-tests"}).status_code == 429
    assert browser.get("/").status_code == 401


def test_signing_out_ends_the_session_also_for_a_copy_of_its_cookie(console: Served, browser: httpx.Client) -> None:
    enter(browser, "the-token-of-the-tests")
    browser.get("/")
    copied = dict(browser.cookies)
    assert browser.post("/sign-out", data={"csrf": "wrong"}).status_code == 403
    assert browser.post("/sign-out", data={"csrf": csrf(browser)}).status_code == 200
    with console.browser(cookies=copied) as thief:
        assert browser.get("/").status_code == thief.get("/").status_code == 401


def test_a_cookie_counts_for_no_other_token_even_with_the_same_secret(services: Services) -> None:
    with served(services, lambda _: TokenSignIn(), url=None, secret=SECRET) as first, first.browser() as browser:
        assert isinstance(first.sign_in, TokenSignIn)
        enter(browser, first.sign_in.token)
        assert browser.get("/").status_code == 200
        copied = dict(browser.cookies)
    with served(services, lambda _: TokenSignIn(), url=None, secret=SECRET) as second, second.browser() as again:
        again.cookies.update(copied)
        assert again.get("/").status_code == 401


@dataclass
class Running:
    """The command's process, and what it has printed."""

    process: subprocess.Popen[bytes]
    printed: Path

    @property
    def address(self) -> str:
        return self.printed.read_text().partition(" is at ")[2].partition(";")[0]

    def ended(self, number: signal.Signals) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(scaled(30))


@contextmanager
def started(variables: Mapping[str, str], folder: Path, *arguments: str) -> Iterator[Running]:
    printed = folder / "console.log"
    with printed.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "torpor", "console", "--port", "0", *arguments],
            env=os.environ | {PREFIX + name: value for name, value in variables.items()},
            stdout=log,
            stderr=log,
        )
    running = Running(process, printed)
    try:
        wait_until(lambda: running.address or process.poll() is not None, 30)
        assert process.poll() is None, printed.read_text()
        yield running
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGINT, 130, "torpor: interrupted\n"), (signal.SIGTERM, 0, "")]
)
def test_a_signal_ends_the_process_and_its_output_has_no_token_but_the_address_and_no_cookie(
    variables: dict[str, str], tmp_path: Path, number: signal.Signals, code: int, said: str
) -> None:
    with started({**variables, "LOG_FORMAT": "json"}, tmp_path) as running:
        parts = urlsplit(running.address)
        [token] = parse_qs(parts.query)["token"]
        with httpx.Client(base_url=f"http://{parts.netloc}", trust_env=False) as browser:
            assert browser.get(f"/sign-in?token={token}x").status_code == 403
            assert browser.get(f"/sign-in?token={token}").status_code == 303
            assert browser.get("/").status_code == 200
            assert browser.post("/hold/set", data={"csrf": "wrong", "reason": "a reason"}).status_code == 403
            [cookie] = browser.cookies.values()
            assert running.ended(number) == code
        address, *others = running.printed.read_text().splitlines(keepends=True)
    assert address == f"the console is at {parts.geturl()}; Ctrl-C ends it\n"
    lines = [json.loads(line) for line in others if line.startswith("{")]
    assert [line["message"].partition(" that ")[0] for line in lines] == ["a form was refused"]
    assert "".join(line for line in others if not line.startswith("{")) == said
    assert not [secret for secret in (token, cookie, csrf_of(cookie), "a reason") if secret in "".join(others)]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_ends_the_process_also_while_a_page_waits_for_a_redis_that_does_not_answer(
    variables: dict[str, str], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    server = start_redis(tmp_path)
    (tmp_path / "archive").mkdir()
    own = {"REDIS_URL": server.url, "ARCHIVE_URL": (tmp_path / "archive").as_uri()}
    try:
        with started({**variables, **own}, tmp_path) as running, ThreadPoolExecutor(1) as thread:
            parts = urlsplit(running.address)
            with httpx.Client(base_url=f"http://{parts.netloc}", trust_env=False, timeout=60) as browser:
                browser.get(f"/sign-in?{parts.query}")
                server.process.send_signal(signal.SIGSTOP)
                waiting = thread.submit(browser.get, "/")
                wait_until(lambda: has_unread(server.port), what="the page waits for Redis")
                assert running.ended(number) == code
                assert waiting.result().status_code == 503
            assert "Traceback" not in running.printed.read_text()
    finally:
        server.stop()


def has_unread(port: int) -> bool:
    """True if the server on a port has not read all that was sent to it."""
    # https://docs.kernel.org/networking/proc_net_tcp.html
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(int(fields[1].partition(":")[2], 16) == port and int(fields[4][9:], 16) for fields in lines)


def csrf_of(cookie: str) -> str:
    return str(json.loads(b64decode(cookie.partition(".")[0]))["csrf"])


def test_a_console_that_may_not_start_says_why(torpor: Torpor) -> None:
    for arguments, variables, said in (
        (["--host", "0.0.0.0"], {}, "TORPOR_CONSOLE_HOST: must be 127.0.0.1"),
        ([], {"CONSOLE_SIGN_IN": "iap"}, "TORPOR_CONSOLE_IAP_AUDIENCE: is required"),
        ([], {"CONSOLE_SIGN_IN": "oidc"}, "TORPOR_CONSOLE_OIDC_ISSUER: is required"),
        ([], {"CONSOLE_VIEWER": "ann@example.com"}, "TORPOR_CONSOLE_VIEWER: there is no such setting"),
    ):
        done = torpor("console", *arguments, **variables)
        assert (done.code, done.out, said in done.said) == (2, "", True), done


def test_a_port_that_is_taken_is_named(torpor: Torpor) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        done = torpor("console", "--port", str(port))
    assert (done.code, done.out) == (2, "")
    assert f"port {port} of 127.0.0.1 can't be opened: Address already in use" in done.said
