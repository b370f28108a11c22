"""The console over HTTP while browsers stall, send nothing or ask for much: others are answered meanwhile."""

from __future__ import annotations

import gzip
import html
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import redis
from langchain_core.messages import HumanMessage

from support.cli_sessions import chat, say
from support.consoles import started
from support.guarded_console import PEOPLE, Served, served_behind
from support.iap import IdentityProxy
from support.objects import put
from support.waiting import scaled, wait_until
from torpor.history.limits import MAX_MESSAGE_BYTES
from torpor.history.protocol import Expiry
from torpor.worker.archive import names
from torpor.worker.console.roles import Role
from torpor.worker.console.searches import SEARCHES
from torpor.worker.console.serving import impatience
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
PORTION = 50_000


@pytest.fixture
def headers(identity_proxy: IdentityProxy) -> dict[str, str]:
    return identity_proxy.sign(PEOPLE[Role.OFFICER])


def connect(console: Served, *, buffer: int | None = None) -> socket.socket:
    address = urlsplit(console.url)
    opened = socket.socket()
    if buffer:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    opened.settimeout(scaled(30))
    opened.connect((address.hostname, address.port))
    return opened


def head(console: Served, headers: dict[str, str], line: str) -> bytes:
    told = {"host": urlsplit(console.url).netloc, **headers}
    return "\r\n".join([line, *(f"{name}: {value}" for name, value in told.items()), "", ""]).encode()


def ask(console: Served, headers: dict[str, str], path: str = "/") -> httpx.Response:
    with console.browser(headers=headers) as opened:
        return opened.get(path)


def is_open(name: str) -> bool:
    """True if this process, which serves the console, has a file of this name open."""
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed since it was listed
            if each.readlink().name == name:
                return True
    return False


def ends(connection: socket.socket) -> bytes:
    """What comes until the other side ends the connection."""
    got = bytearray()
    with suppress(ConnectionError):
        while part := connection.recv(MIB):
            got += part
    return bytes(got)


def test_a_reader_that_stalls_in_a_download_is_left_at_a_limit_while_others_are_answered(
    services: Services, behind_iap: Served, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(impatience, "READER_SECONDS", scaled(3.0))
    name = names.PURGES.batch("p1", 1)
    put(services.archive, name, gzip.compress(b'{"session": "s"}\n' * (3 * MIB), mtime=0))
    file = Path(name).name
    path = f"/purge/inventory?id=p1&object={name}"
    with connect(behind_iap, buffer=4096) as stalled:
        stalled.sendall(head(behind_iap, headers, f"GET {path} HTTP/1.1"))
        assert stalled.recv(1) == b"H"
        wait_until(lambda: is_open(file))
        asked = time.monotonic()
        assert [ask(behind_iap, headers).status_code for _ in range(5)] == [200] * 5
        assert time.monotonic() - asked < scaled(5)
        wait_until(lambda: not is_open(file), 20)
        assert len(ends(stalled)) < 48 * MIB
    whole = ask(behind_iap, headers, path)  # a reader that takes it gets all of it
    assert (whole.status_code, len(whole.content)) == (200, 17 * 3 * MIB)


SILENT = {"nothing": b"", "half a line": b"GET / HT", "half a head": b"GET / HTTP/1.1\r\nhost: x\r\n"}


@pytest.mark.parametrize("sent", SILENT.values(), ids=SILENT)
def test_two_hundred_connections_that_send_no_request_are_ended_and_others_are_answered(
    behind_iap: Served, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(impatience, "REQUEST_SECONDS", scaled(3.0))
    with ExitStack() as opened:
        silent = [opened.enter_context(connect(behind_iap)) for _ in range(200)]
        for each in silent:
            each.sendall(sent)
        asked = time.monotonic()
        assert [ask(behind_iap, headers).status_code for _ in range(5)] == [200] * 5
        assert time.monotonic() - asked < scaled(5)
        assert {ends(each) for each in silent} == {b""}


def test_a_form_that_does_not_come_to_its_end_is_ended(
    behind_iap: Served, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(impatience, "REQUEST_SECONDS", scaled(2.0))
    form = {"content-type": "application/x-www-form-urlencoded", "content-length": "100"}
    with connect(behind_iap) as slow:
        slow.sendall(head(behind_iap, headers | form, "POST /hold/set HTTP/1.1") + b"csrf=")
        assert b"200 OK" not in ends(slow)


def test_a_connection_that_has_asked_once_must_ask_its_next_request_in_time_too(
    behind_iap: Served, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(impatience, "REQUEST_SECONDS", scaled(2.0))
    with connect(behind_iap) as kept:
        for _ in range(2):
            kept.sendall(head(behind_iap, headers, "GET /samples?span=day HTTP/1.1"))
            answer = b""
            while b"]}" not in answer:
                answer += kept.recv(MIB)
            assert answer.startswith(b"HTTP/1.1 200 OK")
        kept.sendall(b"GET / HTTP/1.1\r\n")
        begun = time.monotonic()
        ends(kept)
        assert time.monotonic() - begun < scaled(10)


def test_an_answer_may_take_longer_than_a_request_and_a_reader(
    client: redis.Redis, services: Services, identity_proxy: IdentityProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(impatience, "REQUEST_SECONDS", 0.5)
    monkeypatch.setattr(impatience, "READER_SECONDS", 0.5)
    for number in range(60):
        say(client, f"s{number}")
    with served_behind(identity_proxy, services, search_rate=25) as console:
        begun = time.monotonic()
        page = ask(console, identity_proxy.sign(PEOPLE[Role.OFFICER]), "/sessions?prefix=s&state=awake")
        assert (page.status_code, page.text.count('<th scope="row"')) == (200, 60)
        assert time.monotonic() - begun > 1


def test_fifty_requests_at_once_are_answered_while_a_search_walks(
    client: redis.Redis, services: Services, identity_proxy: IdentityProxy
) -> None:
    for number in range(300):
        say(client, f"s{number}")
    signed = identity_proxy.sign(PEOPLE[Role.OFFICER])
    with served_behind(identity_proxy, services, search_rate=2) as console, console.browser(headers=signed) as walker:
        with walker.stream("GET", "/sessions?prefix=s") as walking, ThreadPoolExecutor(50) as threads:
            coming = walking.iter_text()  # the search ends with it
            assert next(coming)
            paths = ["/", "/person?owner=ann", "/sessions?id=s1", "/session?id=s2", "/holds"] * 10
            replies = list(threads.map(lambda path: ask(console, signed, path), paths))
            assert len(SEARCHES) == 1, "the search still walks"
        wait_until(lambda: not len(SEARCHES))
    refused = [reply for path, reply in zip(paths, replies, strict=True) if reply.status_code != 200]
    assert {reply.status_code for reply in refused} <= {429}
    assert len(refused) <= 8, "only walks, of which one person may have two at a time"


def texts(page: httpx.Response) -> list[str]:
    return [html.unescape(each) for each in re.findall(r"<pre[^>]*>(.*?)</pre>", page.text, re.DOTALL)]


def test_a_message_of_16_mib_makes_a_bounded_page_and_all_of_it_can_be_read(
    client: redis.Redis, services: Services, behind_iap: Served, headers: dict[str, str]
) -> None:
    text = "".join(f"{number:08}<" for number in range(MAX_MESSAGE_BYTES // 9 - 100))
    chat(client, "s").add_messages([HumanMessage("before"), HumanMessage(text), HumanMessage("after")])
    [_, element, _] = services.sessions.messages("s")
    whole = element.decode()
    assert len(element) > MAX_MESSAGE_BYTES - 2_000
    assert archive_session(services, "s").messages == 3
    page = ask(behind_iap, headers, "/session/transcript?id=s")
    assert page.status_code == 200
    assert len(page.text) < MIB
    assert (texts(page)[0], texts(page)[2]) == ("before", "after")
    assert "Show all of message 1" in page.text
    starts = [0, PORTION, PORTION * 2, len(whole) // PORTION * PORTION]
    for start in starts:
        part = ask(behind_iap, headers, f"/session/transcript?id=s&message=1&form=json&start={start}")
        assert (part.status_code, len(part.text) < MIB) == (200, True)
        assert texts(part) == [whole[start : start + PORTION]]
        assert ("The next part" in part.text) == (start + PORTION < len(whole))


OWNED, ASLEEP = 10_000, 1_000


def peak_mib(pid: int) -> int:
    [line] = [each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmHWM")]
    return int(line.split()[1]) // 1024


@pytest.mark.timeout(400)
def test_an_owner_with_10_000_sessions_is_shown_by_pages_soon_and_in_little_memory(
    services: Services, tmp_path: Path
) -> None:
    for number in range(OWNED):
        idle = timedelta(milliseconds=1) if number < ASLEEP else timedelta(hours=1)
        services.sessions.append(f"s{number:05}", [b"{}"], owner="ann", expiry=Expiry(idle=idle))
    while sum(services.sessions.due_counts().values()):
        drain(services, list(services.sessions.due_counts()))
    with started(services, tmp_path) as console:
        visitor = console.visitor()
        visitor.get("/person", owner="nobody")
        before = peak_mib(console.process.pid)
        seen: list[str] = []
        path = "/person?owner=ann"
        for _ in range(3):
            begun = time.monotonic()
            page = visitor.get(path).text
            assert time.monotonic() - begun < scaled(8), path
            assert len(page) < MIB
            seen += re.findall(r'<a href="/session\?id=(s\d+)">', page)
            path = html.unescape(re.findall(r'<a href="([^"]+)" rel="next"', page)[0])
        assert seen == [f"s{number:05}" for number in range(150)]
        first = visitor.get("/person?owner=ann").text
        figures = dict(re.findall(r"<div><dt>(.*?)</dt><dd>(.*?)</dd></div>", first))
        assert figures == {"Sessions": "10,000", "In Redis": "9,000", "Only in the archive": "1,000"}
        assert peak_mib(console.process.pid) - before < 40
