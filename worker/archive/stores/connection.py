"""One connection to an HTTP server: a request, its reply, and the limits within which both must pass."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

from httptools import HttpResponseParser
from urllib3.util import wait_for_read

from torpor.history.protocol import Limits

# How many bytes are received at a time.
RECEIVE = 64 * 1024


class Reply(NamedTuple):
    """A complete reply. Names of headers are in lower case; if one came several times, commas join its values."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes


class Connection:
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

    def exchange(self, request: bytes, limits: Limits) -> tuple[Reply, bool]:
        """The reply, and True if another request may follow. Closes the connection if the exchange fails."""
        arriving = _Arriving()
        parser = arriving.parser
        try:
            self._send(request, limits)
            while not arriving.complete:
                self._socket.settimeout(limits.seconds_left)
                data = self._socket.recv(RECEIVE)
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

    def _send(self, request: bytes, limits: Limits) -> None:
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
