"""How requests for objects are sent, to a server that replies as each test wants."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.exceptions import GoogleAuthError, RefreshError

from support.ports import free_port
from support.pouring import CHUNKED, DRIPPING, POURED, pouring
from support.tls import HOST, Authority, make_authority
from support.waiting import scaled, wait_until
from torpor.worker.archive.stores.connection import Reply
from torpor.worker.archive.stores.transport import Authorized, Request, Session, Transport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"


@dataclass
class Server:
    """Answers each request with the next of its replies; then it closes the connection if the reply says so."""

    url: str
    replies: list[bytes]
    closes: bool = False
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0

    def talk(self, connection: socket.socket) -> None:
        received = b""
        while data := connection.recv(65_536):
            received += data
            head, end, body = received.partition(b"\r\n\r\n")
            if not end or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
                continue
            self.requests.append(received)
            received = b""
            connection.sendall(self.replies.pop(0))
            if self.closes or not self.replies:
                return

    def tokens(self) -> list[bytes]:
        return [request.partition(b"authorization: ")[2].split(b"\r\n")[0] for request in self.requests]


@contextmanager
def serving(*replies: bytes, closes: bool = False, tls: Authority | None = None) -> Iterator[Server]:
    """Connections are served one after the other."""
    listening = socket.create_server((HOST, 0))
    server = Server(f"http{'s' if tls else ''}://{HOST}:{listening.getsockname()[1]}", list(replies), closes)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if tls:
        context.load_cert_chain(tls.folder / "server.pem", tls.folder / "server.key")

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            server.connections += 1
            with connection, suppress(OSError):
                if tls:
                    with context.wrap_socket(connection, server_side=True) as wrapped:
                        server.talk(wrapped)
                else:
                    server.talk(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(5)


class Tokens(Credentials):
    """A new token with each renewal, at most so many."""

    def __init__(self, most: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.token, self.left, self.renewed = "token-0", most, 0

    def refresh(self, request: Any) -> None:
        if not self.left:
            raise RefreshError("no more tokens")  # type: ignore[no-untyped-call]
        self.left, self.renewed = self.left - 1, self.renewed + 1
        self.token = f"token-{self.renewed}"


def transport(url: str, credentials: Credentials | None = None, *, threads: int = 4, ca_certs: str = "") -> Transport:
    trusted: Credentials = credentials or AnonymousCredentials()  # type: ignore[no-untyped-call]
    return Transport(url, trusted, threads=threads, ca_certs=ca_certs)


def get(sender: Session, url: str, *, read: float = 5.0, most: int = 1_000_000) -> Reply:
    return sender.send(Request("GET", f"{url}/a/b?c=d", None, {}, (1.0, read), most))


def test_a_request_is_sent_as_it_is_told() -> None:
    with serving(OK) as server:
        url = f"{server.url}/a%2Fb?c=d"
        asked = Request("POST", url, b"\r\n\r\nbody", {"Content-Type": "x/y"}, (1.0, 5.0), 9)
        reply = transport(server.url, Tokens(0)).send(asked)
    assert (reply.status_code, reply.content, reply.headers) == (200, b"ok", {"content-length": "2"})
    [request] = server.requests
    head, _, body = request.partition(b"\r\n\r\n")
    start, *lines = head.split(b"\r\n")
    assert start == b"POST /a%2Fb?c=d HTTP/1.1"
    host = server.url.removeprefix("http://").encode()
    assert sorted(lines) == [
        b"Content-Length: 8",
        b"Content-Type: x/y",
        b"Host: " + host,
        b"authorization: Bearer token-0",
    ]
    assert body == b"\r\n\r\nbody"


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", Reply(204, {}, b"")),
        (b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n", Reply(200, {"x-a": "1, 2"}, b"")),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            Reply(200, {}, b"abc"),
        ),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK, Reply(200, {"content-length": "2"}, b"ok")),
        (b"HTTP/1.1 503 \r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000, Reply(503, {}, b"x" * 100_000)),
    ],
    ids=["no body", "a header twice", "chunks", "an interim reply", "more than is received at a time"],
)
def test_replies_of_every_form_are_read_to_their_end(said: bytes, reply: Reply) -> None:
    with serving(said, OK) as server:
        sender = transport(server.url)
        came = get(sender, server.url)
        assert (came.status_code, came.content) == (reply.status_code, reply.content)
        assert came.headers.items() >= reply.headers.items()
        assert get(sender, server.url).content == b"ok"
        assert server.connections == 1


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        CHUNKED + b"5\r\nab",
        b"220 mail.example.com ESMTP\r\n",
        OK + OK,
    ],
    ids=["nothing", "half a body", "half a head", "half a chunk", "another protocol", "two replies"],
)
def test_a_reply_that_is_not_whole_or_none_is_a_broken_connection(said: bytes) -> None:
    with serving(said, OK, closes=True) as server:
        sender = transport(server.url)
        with pytest.raises(ConnectionError, match=server.url):
            get(sender, server.url)
        assert get(sender, server.url).content == b"ok"
        assert server.connections == 2


def test_a_connection_that_the_server_has_closed_meanwhile_is_not_used_again() -> None:
    with serving(OK, OK, closes=True) as server:
        sender = transport(server.url)
        assert get(sender, server.url).content == b"ok"
        wait_until(lambda: not sender._idle[0].is_open, what="the end of the connection arrives")
        assert get(sender, server.url).content == b"ok"
        assert server.connections == 2


@pytest.mark.parametrize(
    "said",
    [
        OK.replace(b"\r\n\r\n", b"\r\nConnection: Close\r\n\r\n"),
        OK.replace(b"\r\n\r\n", b"\r\nConnection: close, x\r\n\r\n"),
        OK.replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
    ids=["it says so", "it says more than so", "an older protocol"],
)
def test_a_connection_that_the_server_is_about_to_close_is_not_kept(said: bytes) -> None:
    with serving(said, OK) as server:
        sender = transport(server.url)
        assert get(sender, server.url).content == b"ok"
        assert not sender._idle
        assert get(sender, server.url).content == b"ok"
        assert server.connections == 2


def test_a_forked_process_opens_connections_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(OK, OK, OK) as server:
        sender = transport(server.url)
        for _ in range(2):
            assert get(sender, server.url).content == b"ok"
        assert server.connections == 1
        monkeypatch.setattr("os.getpid", lambda: 1)
        assert get(sender, server.url).content == b"ok"
        assert server.connections == 2


def test_no_more_connections_are_kept_than_there_are_threads() -> None:
    with serving(OK, OK) as server:
        sender = transport(server.url, threads=0)
        for _ in range(2):
            assert get(sender, server.url).content == b"ok"
        assert server.connections == 2


def test_a_server_that_can_not_be_reached_or_never_answers_is_a_broken_connection() -> None:
    nowhere = f"http://{HOST}:{free_port()}"
    with pytest.raises(ConnectionError, match=f"{nowhere}: .*refused"):
        get(transport(nowhere), nowhere)
    with (
        socket.create_server((HOST, 0)) as silent,
        pytest.raises(ConnectionError, match="timed out"),
    ):
        url = f"http://{HOST}:{silent.getsockname()[1]}"
        get(transport(url), url, read=0.05)


@pytest.mark.parametrize("said", DRIPPING.values(), ids=DRIPPING.keys())
def test_a_reply_that_drips_does_not_outlive_its_time(said: bytes) -> None:
    with pouring(said, at_a_time=4, pause=0.01) as url:
        began = time.monotonic()
        with pytest.raises(ConnectionError, match="timed out"):
            get(transport(url), url, read=0.2)
        assert time.monotonic() - began < scaled(2)


def test_a_request_that_nobody_takes_does_not_outlive_its_time() -> None:
    with socket.create_server((HOST, 0)) as listening:
        url = f"http://{HOST}:{listening.getsockname()[1]}"
        with pytest.raises(ConnectionError, match="timed out"):
            transport(url).send(Request("POST", f"{url}/a", b"x" * 50_000_000, {}, (1.0, 0.2), 9))


@pytest.mark.parametrize("said", POURED.values(), ids=POURED.keys())
def test_no_more_is_taken_than_was_asked_for(said: bytes) -> None:
    with pouring(said, at_a_time=10_000, pause=0.0) as url, pytest.raises(ConnectionError, match=r"larger than|Header"):
        get(transport(url), url, most=100_000)


def test_through_a_proxy_too_a_reply_has_an_end() -> None:
    """Google's session, which knows proxies, is bounded by the same limits."""
    with pouring(OK, at_a_time=1_000, pause=0.0) as url:
        assert get(Authorized(requests.Session()), url, most=2).content == b"ok"
    with pouring(POURED["a body"], at_a_time=10_000, pause=0.0) as url, pytest.raises(ConnectionError, match="larger"):
        get(Authorized(requests.Session()), url, most=100_000)
    with (
        pouring(DRIPPING["a body"], at_a_time=50, pause=0.01) as url,
        pytest.raises(ConnectionError, match="timed out"),
    ):
        get(Authorized(requests.Session()), url, read=0.2)


@pytest.mark.parametrize(
    ("replies", "status", "tokens"),
    [
        ([REFUSED, OK], 200, [b"Bearer token-0", b"Bearer token-1"]),
        ([REFUSED] * 3, 401, [b"Bearer token-0", b"Bearer token-1", b"Bearer token-2"]),
    ],
    ids=["once", "always"],
)
def test_a_token_that_is_refused_is_renewed_twice_at_most(
    replies: Sequence[bytes], status: int, tokens: list[bytes]
) -> None:
    with serving(*replies) as server:
        assert get(transport(server.url, Tokens(5)), server.url).status_code == status
    assert server.tokens() == tokens


def test_a_token_that_can_not_be_renewed_is_told_as_google_auth_does() -> None:
    with serving(REFUSED) as server, pytest.raises(GoogleAuthError, match="no more tokens"):
        get(transport(server.url, Tokens(0)), server.url)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tls") / "server", alternative=True)


def test_a_server_with_a_certificate_that_is_trusted_is_spoken_to(authority: Authority) -> None:
    with serving(OK, OK, tls=authority) as server:
        sender = transport(server.url, ca_certs=str(authority.file))
        for _ in range(2):
            assert get(sender, server.url).content == b"ok"
        assert server.connections == 1


def test_a_server_that_others_vouch_for_or_that_is_called_otherwise_gets_no_request(
    authority: Authority, tmp_path: Path
) -> None:
    other, nameless = make_authority(tmp_path / "other", alternative=True), make_authority(tmp_path / "nameless")
    for serves, trusted in ((authority, other), (nameless, nameless)):
        with serving(OK, tls=serves) as server, pytest.raises(ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            get(transport(server.url, ca_certs=str(trusted.file)), server.url)
        assert server.requests == []
