"""Progress: a walk in steps ends with an error if the other side's reply would have it go on for ever."""

from __future__ import annotations

from torpor.history.errors import RedisRefused
from torpor.history.session import Page

END = b"0"


def next_cursor(asked: bytes, given: bytes) -> bytes:
    """The cursor of the next step, END after the last one; raises RedisRefused if it is that of this step again."""
    if given == asked and given != END:
        raise RedisRefused(f"a walk can't go on: Redis gives the cursor {given.decode(errors='replace')} again")
    return given


def check_page(session_id: str, start: int, stop: int | None, page: Page) -> None:
    """Raise RedisRefused if a page of a session, from `start` on, brings a reader no nearer to `stop`."""
    if not page.reaches(stop) and (not page.messages or 0 <= start != page.start):
        raise RedisRefused(
            f"session {session_id!r} can't be read: Redis gives {len(page.messages)} messages from {page.start} on for "
            f"those from {start} on, of {page.total}"
        )
