"""Impatience: connections whose browser sends no request, or does not take the reply, are ended.

Else each would keep its socket, and a reply that nobody takes what it is made from: a search, a file, a thread's turn.
uvicorn itself ends connections that are silent after a reply, and no others.
"""

from __future__ import annotations

import asyncio
from typing import cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# From the connection, or from the last reply, until the whole request is there.
REQUEST_SECONDS = 30.0
# Until there is room for more of the reply, and until the rest of it is taken.
READER_SECONDS = 60.0


class ImpatientProtocol(H11Protocol):
    """HTTP of one connection, which waits no longer than that for the browser."""

    _request: asyncio.TimerHandle | None = None
    _reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Wait for the first request."""
        super().connection_made(transport)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        """Take a part of a request. When it is complete, the time of the answer does not count."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE and self.conn.their_state is not h11.SEND_BODY:
            _cancel(self._request)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._await_request()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The browser has not taken what was sent."""
        super().pause_writing()
        self._reader = self._end_after(READER_SECONDS)

    def resume_writing(self) -> None:
        """The browser has taken enough of it."""
        super().resume_writing()
        _cancel(self._reader)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that is silent after a reply, whose end the browser may not have taken."""
        super().timeout_keep_alive_handler()
        self._end_after(READER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        _cancel(self._request)
        super().connection_lost(exc)
        _cancel(self._reader)

    def _await_request(self) -> None:
        _cancel(self._request)
        self._request = self._end_after(REQUEST_SECONDS)

    def _end_after(self, seconds: float) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, cast("asyncio.WriteTransport", self.transport).abort)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
