"""An HTTP proxy between the Cloud Storage client and the emulator.

It counts requests, makes some of them fail, alters them, or holds them back (`Gate`), several kinds at a time. Over the
emulator it answers as Cloud Storage does (`support.cloud_storage`): it enforces preconditions, checksums and holds.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from support.cloud_storage import CloudStorage, sent_object
from support.cloud_storage import Reply as Reply  # noqa: PLC0414 - many tests take it from here

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "date", "server"}


class _Gone(Exception):
    """The connection was broken on purpose."""


class Exchange:
    """One request on its way. A fault decides what the store receives, and returns the answer for the client."""

    def __init__(self, proxy: StorageProxy, handler: BaseHTTPRequestHandler) -> None:
        self.method = handler.command
        self.path = handler.path
        self.body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        self.arrived = time.monotonic()
        self.answer: Reply | None = None
        self._headers = {name: value for name, value in handler.headers.items() if name.lower() not in _HOP_BY_HOP}
        self.port: int = handler.client_address[1]  # of the client
        self._connection = handler.connection
        self._proxy = proxy

    def __repr__(self) -> str:
        return f"{self.kind} {unquote(urlsplit(self.path).path)}"

    @property
    def kind(self) -> str:
        """The client's operation: "upload" (in one request), "initiate", "chunk", "list", "describe", "read", ..."""
        place, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if self.method == "PUT":
            return "chunk"
        if self.method == "POST" and place.startswith("/upload/"):
            return "initiate" if query["uploadType"] == ["resumable"] else "upload"
        if self.method == "GET":
            return "read" if query.get("alt") == ["media"] else "list" if place.endswith("/o") else "describe"
        return self.method.lower()

    def forward(self, body: bytes | None = None) -> Reply:
        """The answer of Cloud Storage to the request, or to another body.

        A chunk that the store has already gets the same answer again: Cloud Storage ignores what is sent a second
        time (https://cloud.google.com/storage/docs/performing-resumable-uploads), but the emulator appends it.
        """
        if self.method != "PUT":
            return self._answered(body)
        chunk = self.path, self._headers["content-range"]
        if chunk not in self._proxy.chunks:
            self._proxy.chunks[chunk] = self._answered(body)
        return self._proxy.chunks[chunk]

    def _answered(self, body: bytes | None) -> Reply:
        sent = self.body if body is None else body
        rules = self._proxy.rules
        return rules.answer(self.kind, self.path, sent, self._forwarded)

    def _forwarded(self, body: bytes) -> Reply:
        reply = self._proxy.send(self.method, self.path, body, self._headers)
        if "Location" not in reply.headers:
            return reply
        location = reply.headers["Location"].replace(self._proxy.store, self._proxy.url)  # of a resumable upload
        return Reply(reply.status, {**reply.headers, "Location": location}, reply.body)

    def reset(self) -> Reply:
        """Break the connection as a dying peer does."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()
        raise _Gone

    def stall(self) -> Reply:
        """Send nothing until the client hangs up."""
        self._connection.recv(1)
        raise _Gone

    def cut(self, reply: Reply) -> Reply:
        """Send the head and half the body, then break the connection."""
        head = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
        half = reply.body[: len(reply.body) // 2]
        start = f"HTTP/1.1 {reply.status} OK\r\nContent-Length: {len(reply.body)}\r\n{head}\r\n"
        self._connection.sendall(start.encode() + half)
        self._connection.shutdown(socket.SHUT_WR)
        raise _Gone


Fault = Callable[[Exchange], Reply]


def answered(status: int, **headers: str) -> Fault:
    """The store never sees the request; the client gets this status."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = b'{"error": {"message": "a fault of the test"}}'
    return lambda exchange: Reply(status, {"Content-Type": "application/json", **named}, body)


def answered_after(status: int) -> Fault:
    """The store executes the request; the client gets this status."""

    def act(exchange: Exchange) -> Reply:
        exchange.forward()
        return answered(status)(exchange)

    return act


def reset_before(exchange: Exchange) -> Reply:
    """The connection breaks before the store sees the request."""
    return exchange.reset()


def reset_after(exchange: Exchange) -> Reply:
    """The store executes the request, and the connection breaks before the answer."""
    exchange.forward()
    return exchange.reset()


def stalled_before(exchange: Exchange) -> Reply:
    """The request is never answered and never arrives."""
    return exchange.stall()


def stalled_after(exchange: Exchange) -> Reply:
    """The request arrives and is never answered."""
    exchange.forward()
    return exchange.stall()


def altered(change: Callable[[dict[str, Any]], object]) -> Fault:
    """The description of an object changes on its way to the store."""

    def act(exchange: Exchange) -> Reply:
        if exchange.kind != "upload":
            described = json.loads(exchange.body)
            change(described)
            return exchange.forward(json.dumps(described).encode())
        described, _ = sent_object(exchange.body)
        change(described)
        boundary, rest = exchange.body.split(b"\r\n\r\n", 1)
        content = rest[rest.index(b"\r\n") :]
        return exchange.forward(b"%b\r\n\r\n%b%b" % (boundary, json.dumps(described).encode(), content))

    return act


class Gate:
    """Holds requests back until it is opened. `arrived` is set as soon as one waits."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self._opened = threading.Event()

    def before(self, exchange: Exchange) -> Reply:
        """The request arrives late, even if the client has given it up."""
        self._wait()
        return exchange.forward()

    def after(self, exchange: Exchange) -> Reply:
        """The answer comes late."""
        reply = exchange.forward()
        self._wait()
        return reply

    def open(self) -> None:
        self._opened.set()

    def _wait(self) -> None:
        self.arrived.set()
        self._opened.wait()


def corrupted_up(exchange: Exchange) -> Reply:
    """A byte of the content changes on its way to the store."""
    return exchange.forward(_flipped(exchange.body))


def corrupted_down(exchange: Exchange) -> Reply:
    """A byte of the content changes on its way from the store."""
    reply = exchange.forward()
    return Reply(reply.status, reply.headers, _flipped(reply.body))


def cut_down(exchange: Exchange) -> Reply:
    """The connection ends in the middle of the reply's body, or before a reply that has none worth reading."""
    reply = exchange.forward()
    return exchange.cut(reply) if reply.status < 300 and reply.body else exchange.reset()


def _flipped(body: bytes) -> bytes:
    """The body with another byte near its end: in a multipart upload, in the content before the closing boundary."""
    at = max(len(body) - 100, len(body) // 2)
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :] if body else body


@dataclass
class _Armed:
    """A fault of the matching requests from number `first` to number `last`."""

    fault: Fault
    kind: str
    first: int
    last: int
    matched: int = 0

    def takes(self, exchange: Exchange) -> bool:
        if self.kind not in ("", exchange.kind):
            return False
        self.matched += 1
        return self.first < self.matched <= self.last


class StorageProxy:
    """Stands before `store`, and answers by `rules`. `seen` has all requests."""

    def __init__(self, store: str) -> None:
        self.store = store
        self.rules = CloudStorage(lambda method, path, body: self.send(method, path, body, {}))
        self.seen: list[Exchange] = []
        self.chunks: dict[tuple[str, str], Reply] = {}
        self._lock = threading.Lock()
        self._armed: list[_Armed] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def fail(self, fault: Fault, kind: str = "", *, after: int = 0, times: int = 1_000_000) -> None:
        """From now on, `after` requests of a kind (all without one) are served, and then so many `times` fail."""
        with self._lock:
            self.seen.clear()
            self._armed = [_Armed(fault, kind, after, after + times)]

    def also_fail(self, fault: Fault, kind: str = "", *, after: int = 0, times: int = 1_000_000) -> None:
        """As `fail`, besides the faults that are armed. Of several that take a request, the first one counts."""
        with self._lock:
            self._armed.append(_Armed(fault, kind, after, after + times))

    def heal(self) -> None:
        """Serve everything from now on, and forget earlier exchanges."""
        with self._lock:
            self.seen.clear()
            self._armed = []

    def kinds(self) -> list[str]:
        """The kinds of the requests since the last `fail` or `heal`."""
        return [exchange.kind for exchange in self.seen]

    def _next_fault(self, exchange: Exchange) -> Fault:
        with self._lock:
            self.seen.append(exchange)
            taking = [armed.fault for armed in self._armed if armed.takes(exchange)]
            return taking[0] if taking else Exchange.forward

    def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """The store's own answer to a request."""
        place = urlsplit(self.store)
        connection = HTTPConnection(str(place.hostname), place.port)
        try:
            connection.request(method, path, body, dict(headers))
            reply: HTTPResponse = connection.getresponse()
            kept = {name: value for name, value in reply.getheaders() if name.lower() not in _HOP_BY_HOP}
            return Reply(reply.status, kept, reply.read())
        finally:
            connection.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle(self) -> None:
                with suppress(ConnectionError):
                    super().handle()

            def serve(self) -> None:
                try:
                    exchange = Exchange(proxy, self)
                    exchange.answer = reply = proxy._next_fault(exchange)(exchange)
                    self.send_response(reply.status)
                    for name, value in reply.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(reply.body)))
                    self.end_headers()
                    self.wfile.write(reply.body)
                except _Gone:
                    self.close_connection = True

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = serve  # noqa: N815 - the base class's names

            def log_message(self, *args: Any) -> None:
                pass

        return Handler

    @contextmanager
    def running(self) -> Iterator[StorageProxy]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._server.daemon_threads = True
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()
