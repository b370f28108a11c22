"""Searches: lists that the browser gets while they are found. They end when nobody waits for them any more."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from anyio import CancelScope
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from torpor.history.protocol import TransientError

# Each search keeps a thread busy, and its rate is for itself.
MOST = 4


@dataclass(eq=False, slots=True)
class Running:
    """A search that runs. Only who has its page knows its id."""

    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    stopped: threading.Event = field(default_factory=threading.Event)


class Searches:
    """The searches of this process."""

    def __init__(self, most: int = MOST) -> None:
        """`most`: so many run at a time."""
        self._most = most
        self._lock = threading.Lock()
        self._running: dict[str, Running] = {}

    def __len__(self) -> int:
        return len(self._running)

    def begin(self) -> Running:
        """A new search; raises TransientError if too many run. `end` comes next, whatever happens."""
        with self._lock:
            if len(self._running) >= self._most:
                raise TransientError(f"{self._most} searches run already; wait for one to end, or stop one")
            running = Running()
            self._running[running.id] = running
            return running

    def end(self, running: Running) -> None:
        """Forget a search. Repeatable."""
        self._running.pop(running.id, None)

    def stop(self, search: str) -> bool:
        """Have a search end with the page that it looks at; False if no such search runs in this process."""
        running = self._running.get(search)
        if running:
            running.stopped.set()
        return running is not None


SEARCHES = Searches()


class Streamed(StreamingResponse):
    """An HTML page whose parts are made in threads, one after the other. `ended` is called whatever happens.

    If the browser goes away, no further part is made, and the generator of the parts is closed.
    """

    def __init__(self, parts: Generator[str], ended: Callable[[], None]) -> None:
        super().__init__(parts, media_type="text/html")
        self._parts = parts
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the parts."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with CancelScope(shield=True):
                await run_in_threadpool(self._end)

    def _end(self) -> None:
        self._parts.close()
        self._ended()
