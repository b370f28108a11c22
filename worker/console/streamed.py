"""Streamed: a reply whose parts are made in threads while the browser gets them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from anyio import CancelScope
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class Streamed(StreamingResponse):
    """A reply in parts. If the browser goes away, no further part is made.

    `ended` is called in a thread whatever happens: it closes what the parts are made from.
    """

    def __init__(
        self,
        parts: Iterable[str | bytes],
        ended: Callable[[], None],
        media_type: str = "text/html",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(parts, media_type=media_type, headers=headers)
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the parts."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with CancelScope(shield=True):
                await run_in_threadpool(self._ended)
