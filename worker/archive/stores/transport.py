"""Requests for small objects over connections of our own, which take a seventh of the CPU of Google's client."""

from __future__ import annotations

import os
import socket
import ssl
import time
import weakref
from collections import deque
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from google.auth.credentials import Credentials
from google.auth.transport import DEFAULT_MAX_REFRESH_ATTEMPTS, DEFAULT_REFRESH_STATUS_CODES
from google.auth.transport.requests import Request
from httptools import HttpParserError, HttpResponseParser
from urllib3.exceptions import HTTPError
from urllib3.util import wait_for_read

_RECEIVE = 64 * 1024
# Beside the body: the head of a reply, interim replies, and what chunks add.
_HEAD = 64 * 1024


class Answer(Protocol):
    """The part of a requests.Response that we use. Ask for headers by their names in lower case."""

    @property
    def status_code(self) -> int:
        """The status code of HTTP."""

    @property
    def headers(self) -> Mapping[str, str]:
        """All headers. If one came several times, commas join its values."""

    @property
    def content(self) -> bytes:
        """The complete body."""


class Session(Protocol):
    """Sends requests with credentials: a Transport, or an Authorized session."""

    def request(
        self,
        method: str,
        url: str,
        data: bytes | None,
        headers: Mapping[str, str],
        *,
        timeout: tuple[float, float],
        most: int,
    ) -> Answer:
        """Send one request. `timeout`: the seconds for connecting, and for all of the request and its reply.

        A reply with more than `most` bytes is given up.
        """


class Reply(NamedTuple):
    """An Answer. Names of headers are in lower case."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes


class Authorized:
    """A Session over google-auth's AuthorizedSession, for proxies and client certificates.

    The time begins with the body of the reply; each wait for more of its head is as long.
    """

    def __init__(self, session: Any) -> None:
        self._session = session

    def request(
        self,
        method: str,
        url: str,
        data: bytes | None,
        headers: Mapping[str, str],
        *,
        timeout: tuple[float, float],
        most: int,
    ) -> Reply:
        """See Session."""
        with self._session.request(method, url, data, headers, timeout=timeout, stream=True) as answer:
            limits, body = _Limits(timeout[1], most), []
            try:
                while part := answer.raw.read1(_RECEIVE, decode_content=True):
                    body.append(part)
                    limits.check(len(part), len(part))
            except (OSError, HTTPError) as exc:
                raise ConnectionError(f"{url}: {exc}") from exc
            named = {name.lower(): value for name, value in answer.headers.items()}
            return Reply(answer.status_code, named, b"".join(body))


class Transport:
    """A Session that keeps connections to one server open. Safe to share among threads.

    Supports neither proxies nor client certificates, nor replies that end when the connection closes. A forked process
    opens connections of its own. `ca_certs` is a file or a folder of the certificates to trust. Keeps as many idle
    connections as there are `threads`.
    """

    def __init__(self, server: str, credentials: Credentials, *, threads: int, ca_certs: str) -> None:
        place = urlsplit(server)
        self._origin = f"{place.scheme}://{place.netloc}"
        self._host = place.netloc
        self._address = place.hostname or "", place.port or (443 if place.scheme == "https" else 80)
        self._tls = _trusting(ca_certs) if place.scheme == "https" else None
        self._credentials = credentials
        self._renewal = Request()
        self._threads = threads
        self._idle: deque[_Connection] = deque()
        self._process = os.getpid()
        weakref.finalize(self, _close_all, self._idle)

    def request(
        self,
        method: str,
        url: str,
        data: bytes | None,
        headers: Mapping[str, str],
        *,
        timeout: tuple[float, float],
        most: int,
    ) -> Reply:
        """See Session. Renews a refused token. Raises ConnectionError, and the errors of google-auth."""
        target = url.removeprefix(self._origin)
        for left in reversed(range(1 + DEFAULT_MAX_REFRESH_ATTEMPTS)):
            sent = dict(headers)
            self._credentials.before_request(self._renewal, method, url, sent)
            reply = self._exchange(self._written(method, target, sent, data or b""), timeout, most)
            if not left or reply.status_code not in DEFAULT_REFRESH_STATUS_CODES:
                break
            self._credentials.refresh(self._renewal)
        return reply

    def _written(self, method: str, target: str, headers: Mapping[str, str], data: bytes) -> bytes:
        fields = {"Host": self._host, "Content-Length": len(data), **headers}
        lines = "".join([f"{name}: {value}\r\n" for name, value in fields.items()])
        return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + data

    def _exchange(self, request: bytes, timeout: tuple[float, float], most: int) -> Reply:
        connect, read = timeout
        try:
            connection = self._kept() or _Connection(self._address, connect, self._tls)
            reply, stays_open = connection.exchange(request, _Limits(read, most))
        except (OSError, HttpParserError) as exc:
            raise ConnectionError(f"{self._origin}: {exc}") from exc
        if stays_open and len(self._idle) < self._threads:
            self._idle.append(connection)
        else:
            connection.close()
        return reply

    def _kept(self) -> _Connection | None:
        """The idle connection that was used last and that the server has not closed; None if there is none."""
        if self._process != os.getpid():
            _close_all(self._idle)  # only in this process: the parent still uses them
            self._process = os.getpid()
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.is_open:
                return connection
            connection.close()


class _Limits:
    """How long a request with its reply may take from now on, and how large the reply's body may be."""

    def __init__(self, seconds: float, most: int) -> None:
        self._end = time.monotonic() + seconds
        self._most = most
        self._received = self._body = 0

    @property
    def seconds_left(self) -> float:
        """The seconds that are left; raises TimeoutError."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request timed out")
        return left

    def check(self, received: int, body: int) -> None:
        """Count bytes that have arrived, and those of the body among them; raises ConnectionError and TimeoutError."""
        self._received += received
        self._body += body
        if self._body > self._most or self._received > 2 * self._most + _HEAD:
            raise ConnectionError(f"the reply is larger than the {self._most} bytes that were asked for")
        _ = self.seconds_left


class _Connection:
    """A connection for one request after the other."""

    def __init__(self, address: tuple[str, int], timeout: float, tls: ssl.SSLContext | None) -> None:
        connected = socket.create_connection(address, timeout)
        try:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = tls.wrap_socket(connected, server_hostname=address[0]) if tls else connected
        except BaseException:
            connected.close()
            raise

    @property
    def is_open(self) -> bool:
        """Between replies the socket becomes readable only when the server has closed it."""
        return not wait_for_read(self._socket, 0)

    def exchange(self, request: bytes, limits: _Limits) -> tuple[Reply, bool]:
        """The reply, and True if another request may follow. Closes the connection if the exchange fails."""
        arriving = _Arriving()
        parser = arriving.parser
        try:
            self._send(request, limits)
            while not arriving.complete:
                self._socket.settimeout(limits.seconds_left)
                data = self._socket.recv(_RECEIVE)
                if not data:
                    raise ConnectionError("the connection was closed before the end of the reply")
                before = arriving.size
                parser.feed_data(data)
                limits.check(len(data), arriving.size - before)
        except BaseException:
            self.close()
            raise
        finally:
            del arriving.parser  # the two refer to each other
        reply = Reply(parser.get_status_code(), arriving.headers, b"".join(arriving.body))
        return reply, arriving.stays_open

    def _send(self, request: bytes, limits: _Limits) -> None:
        unsent = memoryview(request)
        while unsent:
            self._socket.settimeout(limits.seconds_left)
            unsent = unsent[self._socket.send(unsent) :]

    def close(self) -> None:
        """Close the socket, also in the middle of an exchange."""
        self._socket.close()


class _Arriving:
    """The part of a reply that has arrived. The parser calls its methods."""

    def __init__(self) -> None:
        self.parser = HttpResponseParser(self)
        self.headers: dict[str, str] = {}
        self.body: list[bytes] = []
        self.size = 0
        self.complete = self.stays_open = False

    def on_message_begin(self) -> None:
        if self.complete:
            raise ValueError("more than one reply")

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_body(self, body: bytes) -> None:
        self.body.append(body)
        self.size += len(body)

    def on_message_complete(self) -> None:
        if self.parser.get_status_code() < HTTPStatus.OK:
            self.headers.clear()  # an interim reply; the final one follows
        else:
            self.complete, self.stays_open = True, self.parser.should_keep_alive()


def _trusting(ca_certs: str) -> ssl.SSLContext:
    if Path(ca_certs).is_dir():
        return ssl.create_default_context(capath=ca_certs)
    return ssl.create_default_context(cafile=ca_certs)


def _close_all(connections: deque[_Connection]) -> None:
    while connections:
        connections.pop().close()
