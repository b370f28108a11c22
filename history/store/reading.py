"""Reading the messages of a session, in pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from torpor.history import calls
from torpor.history.errors import TranscriptChanged
from torpor.history.owners import Caller
from torpor.history.session import Page
from torpor.history.store.progress import check_page
from torpor.history.store.runner import Operations

PAGE_BYTES = 1024 * 1024
_TRIES = 10


class Reading(Operations):
    """Reads sessions, each page with one call."""

    async def messages(self, session_id: str, *, owner: Caller = None, touch: bool = True) -> list[bytes]:
        """The session's messages in Redis as JSON bytes, oldest first; empty if the session is not in Redis.

        Up to 1 MiB is one atomic round trip. A longer transcript is read in pages, and read again if the session has
        changed its epoch meanwhile. With `touch` it counts as activity. Raises OwnerMismatch, and TranscriptChanged if
        the session changes at each try.
        """
        transcript = await self.transcript(session_id, owner=owner, touch=touch)
        return transcript.messages if transcript else []

    async def transcript(
        self, session_id: str, start: int = 0, stop: int | None = None, *, owner: Caller = None, touch: bool = True
    ) -> Page | None:
        """Messages `[start, stop)` as one page, read as by `messages`; None if the session is not in Redis.

        A negative `start` counts from the end. Raises TranscriptChanged if the session changes at each try.
        """
        for _ in range(_TRIES):
            pages = [page async for page in self.pages(session_id, start, stop, owner=owner, touch=touch)]
            if not pages:
                return None
            first, last = pages[0], pages[-1]
            if last.reaches(_end(start, stop, first)) and len({page.state for page in pages}) == 1:
                if first is last:
                    return first
                messages = [message for page in pages for message in page.messages]
                return replace(first, total=last.total, messages=messages)
        raise TranscriptChanged(f"session {session_id!r} changed each time it was read: try again")

    async def pages(
        self, session_id: str, start: int = 0, stop: int | None = None, *, owner: Caller = None, touch: bool = False
    ) -> AsyncIterator[Page]:
        """Messages `[start, stop)` in pages of about 1 MiB, each with the session's state when it was read.

        A negative `start` counts from the end. Each page is one round trip. Ends early if the session leaves Redis.
        Raises RedisRefused if a reply brings it no further.
        """
        goes_on = True
        while goes_on and (page := await self._page(session_id, start, stop, owner=owner, touch=touch)):
            check_page(session_id, start, stop, page)
            stop = _end(start, stop, page)
            start, goes_on = page.stop, not page.reaches(stop)
            yield page
            del page  # its messages may be large, and the next page comes beside what is kept

    async def _page(self, session_id: str, start: int, stop: int | None, *, owner: Caller, touch: bool) -> Page | None:
        deployment = await self.runner.deployed()
        return await self.runner.perform(
            calls.read(deployment, session_id, start, stop, PAGE_BYTES, owner=owner, touch=touch)
        )


def _end(start: int, stop: int | None, first: Page) -> int | None:
    """Where a read ends that began with this page: what is written later is not among the last messages."""
    return first.total if start < 0 and stop is None else stop
