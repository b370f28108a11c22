"""Returns copy a session to where another library reads it: all of it is there at once, or nothing."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sized
from datetime import timedelta
from functools import partial
from typing import Protocol

from torpor.history import calls
from torpor.history.errors import InvalidArgument, MessageCorrupt
from torpor.history.formats.layout import Layout
from torpor.history.formats.reserved import RETURN_PREFIX, check_return_key
from torpor.history.store.reading import PAGE_BYTES
from torpor.history.store.runner import Operations

# The time after which the list of a return expires if the process that writes it has died.
_LEASE = timedelta(hours=1)
_PAGE = 100
# How many messages that can't be given back are named.
_NAMED = 5
_RETURNED = Layout(RETURN_PREFIX)


class Messages(Sized, Iterable[bytes], Protocol):
    """Messages that can be counted, and read more than once, wherever they stand."""


def _in_pages(messages: Iterable[bytes]) -> Iterator[list[bytes]]:
    page: list[bytes] = []
    size = 0
    for message in messages:
        page.append(message)
        size += len(message)
        if len(page) == _PAGE or size >= PAGE_BYTES:
            yield page
            page, size = [], 0
    if page:
        yield page


class Returning(Operations):
    """Gives sessions to other libraries."""

    async def give_back(
        self,
        session_id: str,
        messages: Messages,
        *,
        layout: Layout = _RETURNED,
        queues: Collection[str] = (),
        ttl: timedelta | None = None,
    ) -> None:
        """Write messages, oldest first, to where another library reads the session: all, or none.

        `queues` are names of Celery's queues. Raises InvalidArgument if the key is Torpor's or Celery's, SessionExists
        if it is in use, and MessageCorrupt, before anything is written, for an element that the format can't say.
        """
        namespace = self.runner.namespace
        key = check_return_key(namespace, layout.key(session_id), queues)
        if not messages:
            raise InvalidArgument(f"session {session_id!r} has no messages to give back")
        _check_sayable(session_id, messages, layout)
        place = namespace, key, os.urandom(8).hex().encode()
        stage = partial(calls.stage_return, *place, lease=_LEASE, newest_first=layout.newest_first)
        staged = 0
        for page in _in_pages(map(layout.give, messages)):
            await self.runner.perform(stage(page, staged=staged))
            staged += len(page)
        await self.runner.perform(calls.give_back(*place, len(messages), ttl))


def _check_sayable(session_id: str, messages: Iterable[bytes], layout: Layout) -> None:
    """Raises MessageCorrupt, which names the first messages that the format of a layout can't say."""
    refused: list[str] = []
    more = 0
    for position, message in enumerate(messages):
        try:
            layout.give(message)
        except MessageCorrupt as error:
            if len(refused) < _NAMED:
                refused.append(f"message {position} of session {session_id!r} {error}")
            else:
                more += 1
    if refused:
        raise MessageCorrupt("; ".join(refused) + (f"; and {more:,} more" if more else ""))
