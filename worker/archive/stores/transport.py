"""Requests for small objects over connections of our own, which take a seventh of the CPU of Google's client."""

from __future__ import annotations

import os
import ssl
import weakref
from collections import deque
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from google.auth.credentials import Credentials
from google.auth.transport import DEFAULT_MAX_REFRESH_ATTEMPTS, DEFAULT_REFRESH_STATUS_CODES
from google.auth.transport.requests import Request as Renewal
from httptools import HttpParserError
from urllib3.exceptions import HTTPError

from torpor.history.protocol import Limits, bounded_session
from torpor.worker.archive.stores.connection import RECEIVE, Connection, Reply


class Request(NamedTuple):
    """A request to be sent. `timeout`: the seconds for connecting, and for all of the request and its reply.

    A reply with more than `most` bytes is given up.
    """

    method: str
    url: str
    data: bytes | None
    headers: Mapping[str, str]
    timeout: tuple[float, float]
    most: int


class Session(Protocol):
    """Sends requests with credentials: a Transport, or an Authorized session."""

    def send(self, request: Request) -> Reply:
        """Send one request. Raises OSError if there is no complete reply, and the errors of google-auth."""


class Authorized:
    """A Session over google-auth's AuthorizedSession, for proxies and client certificates.

    The time begins with the body of the reply; each wait for more of its head is as long.
    """

    def __init__(self, session: Any) -> None:
        self._session = session

    def send(self, request: Request) -> Reply:
        """See Session."""
        method, url, data, headers, timeout, most = request
        with self._session.request(method, url, data, headers, timeout=timeout, stream=True) as answer:
            limits, body = Limits(timeout[1], most), []
            try:
                while part := answer.raw.read1(RECEIVE, decode_content=True):
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
        self._renewal = Renewal(bounded_session())
        self._threads = threads
        self._idle: deque[Connection] = deque()
        self._process = os.getpid()
        weakref.finalize(self, _close_all, self._idle)

    def send(self, request: Request) -> Reply:
        """See Session. Renews a refused token; a request for a token may take as long as this one."""
        renewal = partial(self._renewal, timeout=request.timeout[1])
        for left in reversed(range(1 + DEFAULT_MAX_REFRESH_ATTEMPTS)):
            headers = dict(request.headers)
            self._credentials.before_request(renewal, request.method, request.url, headers)
            reply = self._exchange(request._replace(headers=headers))
            if not left or reply.status_code not in DEFAULT_REFRESH_STATUS_CODES:
                break
            self._credentials.refresh(renewal)
        return reply

    def _exchange(self, request: Request) -> Reply:
        connect, seconds = request.timeout
        try:
            connection = self._kept() or Connection(self._address, connect, self._tls)
            reply, stays_open = connection.exchange(self._written(request), Limits(seconds, request.most))
        except (OSError, HttpParserError) as exc:
            raise ConnectionError(f"{self._origin}: {exc}") from exc
        if stays_open and len(self._idle) < self._threads:
            self._idle.append(connection)
        else:
            connection.close()
        return reply

    def _written(self, request: Request) -> bytes:
        data = request.data or b""
        fields = {"Host": self._host, "Content-Length": len(data), **request.headers}
        lines = "".join([f"{name}: {value}\r\n" for name, value in fields.items()])
        target = request.url.removeprefix(self._origin)
        return f"{request.method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + data

    def _kept(self) -> Connection | None:
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


def _trusting(ca_certs: str) -> ssl.SSLContext:
    if Path(ca_certs).is_dir():
        return ssl.create_default_context(capath=ca_certs)
    return ssl.create_default_context(cafile=ca_certs)


def _close_all(connections: deque[Connection]) -> None:
    while connections:
        connections.pop().close()
