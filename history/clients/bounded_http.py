"""Sessions of requests for Google's libraries: a deadline for the whole of a request, and a cap on its reply.

A time-out of requests is for each wait, so a reply that drips never ends; and it keeps a body of any size in memory.
"""

from __future__ import annotations

import io
import re
from contextvars import ContextVar
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPHeaderDict, HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from torpor.history.clients.request_limits import Limits

_MIB = 1024 * 1024
_RECEIVE = 64 * 1024
# The most bytes of a reply to a request for no range: a description, a token, an error.
_DESCRIPTION = _MIB
_SECONDS = 60.0
_limits: ContextVar[Limits] = ContextVar("limits")


def bounded_session(*, threads: int = 10, retries: int = 0) -> requests.Session:
    """A session whose requests end in time, with replies that are no larger than what was asked for.

    It keeps as many connections as there are `threads`; `retries` are of connections that can't be made.
    """
    session, adapter = requests.Session(), BoundedAdapter(pool_maxsize=threads, max_retries=retries)
    for scheme in ("https://", "http://"):
        session.mount(scheme, adapter)
    return session


class BoundedAdapter(HTTPAdapter):
    """Sends requests. The time-out is for all of a request of up to 1 MiB; it grows with what is sent or asked for.

    A reply that is larger than the range that was asked for is given up; without a range, one above 1 MiB.
    """

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Make the pools of connections."""
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        """The pools of connections through a proxy."""
        manager = super().proxy_manager_for(*arguments, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def send(self, request: requests.PreparedRequest, *_: Any, **options: Any) -> requests.Response:
        """Send a request, and read all of its reply; raises requests.ConnectionError and requests.Timeout."""
        timeout = options.get("timeout")
        seconds = (timeout[1] if isinstance(timeout, tuple) else timeout) or _SECONDS
        asked = _range_of(request)
        size = max(asked or 0, int(request.headers.get("Content-Length") or 0))
        limits = Limits(seconds * max(1.0, size / _MIB), _DESCRIPTION if asked is None else max(asked, _RECEIVE))
        before = _limits.set(limits)
        try:
            answer = super().send(request, **(options | {"stream": True}))
            answer.raw = _complete(answer.raw, limits, decode=asked is None)
        except requests.RequestException:
            raise
        except (OSError, HTTPError) as exc:
            raise requests.ConnectionError(exc, request=request) from exc
        finally:
            _limits.reset(before)
        return answer


def _range_of(request: requests.PreparedRequest) -> int | None:
    """How many bytes were asked for; None without a range."""
    given = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range") or "")
    return int(given[2]) - int(given[1]) + 1 if given else None


def _complete(raw: Any, limits: Limits, *, decode: bool) -> HTTPResponse:
    """The reply with all of its body; gives the connection back, or closes it if that fails."""
    body = io.BytesIO()
    try:
        while part := raw.read1(_RECEIVE, decode_content=decode):
            body.write(part)
            limits.check(len(part), len(part))
    except BaseException:
        raw.close()
        raise
    raw.release_conn()
    headers = HTTPHeaderDict(raw.headers)
    if decode:
        headers.discard("content-encoding")
    body.seek(0)
    return HTTPResponse(
        body=body,
        headers=headers,
        status=raw.status,
        reason=raw.reason,
        version=raw.version,
        preload_content=False,
        enforce_content_length=False,
    )


class _TimedSocket:
    """A socket whose waits end together, when the time of a request is over."""

    def __init__(self, real: Any, limits: Limits) -> None:
        self.real = real
        self._limits = limits

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def sendall(self, data: Any) -> None:
        unsent = memoryview(data).cast("B")
        while unsent:
            self.real.settimeout(self._limits.seconds_left)
            unsent = unsent[self.real.send(unsent) :]

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self.real, self._limits))


class _TimedReader(io.RawIOBase):
    """What a socket receives, within the time of a request."""

    def __init__(self, real: Any, limits: Limits) -> None:
        self._real = real
        self._limits = limits
        self._file = real.makefile("rb", buffering=0)  # keeps the socket open after its connection is closed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Any:
        self._real.settimeout(self._limits.seconds_left)
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Timed:
    """Connections whose requests have the limits that the adapter has set."""

    sock: Any

    def request(self, *arguments: Any, **options: Any) -> None:
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        real = self.sock.real if isinstance(self.sock, _TimedSocket) else self.sock
        self.sock = _TimedSocket(real, _limits.get())
        super().request(*arguments, **options)  # type: ignore[misc]


class _TimedHTTP(_Timed, HTTPConnection):
    pass


class _TimedHTTPS(_Timed, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _TimedHTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _TimedHTTPS


_POOLS = {"http": _HTTPPool, "https": _HTTPSPool}
