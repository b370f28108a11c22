"""Where an adoption finds the messages of another library: in a list, or in one document a message."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Protocol

from torpor.history import calls
from torpor.history.adoption import Look
from torpor.history.calls.call import PAGE_MESSAGES
from torpor.history.errors import NotAdoptable, RedisRefused
from torpor.history.formats.layout import Layout, Storage
from torpor.history.store.progress import END, next_cursor
from torpor.history.store.runner import Runner

# How many documents are taken at a time: Redis does nothing else meanwhile.
_TAKEN = 5_000


class Source(Protocol):
    """The messages of a session: another library's, or those that were taken from it."""

    async def peek(self, start: int, page_bytes: int) -> Look | None:
        """Look at a page; None if there are no messages. Raises NotAdoptable."""

    async def take(self, found: Look) -> None:
        """Take the messages that were looked at, or the oldest of them, if they are still the same."""

    async def seems_there(self) -> bool:
        """True if one quick look finds messages."""


def source_of(runner: Runner, session_id: str, layout: Layout, max_bytes: int) -> Source:
    """The source of a session's messages in a layout."""
    kinds: dict[Storage, type[ListSource | DocumentSource]] = {
        Storage.LIST: ListSource,
        Storage.DOCUMENTS: DocumentSource,
    }
    return kinds[layout.storage](runner, session_id, layout, max_bytes)


@dataclass(slots=True)
class ListSource:
    """A list of messages."""

    runner: Runner
    session_id: str
    layout: Layout
    max_bytes: int

    async def peek(self, start: int, page_bytes: int) -> Look | None:
        """Look at a page, in one round trip."""
        place = self.runner.namespace, self.session_id, self.layout
        call = calls.peek_list(*place, start, page_bytes=page_bytes, max_bytes=self.max_bytes)
        look = await self.runner.perform(call)
        if look and not look.messages and start < look.total:
            raise RedisRefused(
                f"session {self.session_id!r} can't be adopted: Redis gives none of {look.total} messages after {start}"
            )
        return look

    async def take(self, found: Look) -> None:
        """Take the list if it has as many messages."""
        place = self.runner.namespace, self.session_id, self.layout
        await self.runner.perform(calls.take_list(*place, _token(), found.stop))

    async def seems_there(self) -> bool:
        """True if there is such a list."""
        return await self.peek(0, 1) is not None


@dataclass(slots=True)
class DocumentSource:
    """Documents, each with its time. Only for a server of one node, whose scripts reach all keys."""

    runner: Runner
    session_id: str
    layout: Layout
    max_bytes: int
    _documents: list[bytes] = field(default_factory=list, repr=False)

    async def peek(self, start: int, page_bytes: int) -> Look | None:
        """Look at a page of the taken messages, or else of the documents, which the first page finds anew."""
        if self.runner.cluster:
            reason = "a Cluster has the documents of a session on several nodes: adopt them on a server of one node"
            raise NotAdoptable(self.layout.key(self.session_id), reason)
        taken = await ListSource(self.runner, self.session_id, self.layout, self.max_bytes).peek(start, page_bytes)
        if taken and taken.token:
            return taken
        if start == 0:
            self._documents = await self._find()
        page = self._documents[start : start + PAGE_MESSAGES]
        if not page:
            return None
        limits = {"page_bytes": page_bytes, "max_bytes": self.max_bytes}
        call = calls.peek_documents(self.session_id, self.layout, page, start, **limits)
        ttl, messages = await self.runner.perform(call)
        there = [name for name, message in zip(page, messages, strict=False) if message]
        self._documents[start : start + len(messages)] = there
        if not self._documents:
            return None
        return Look(None, len(self._documents), ttl, start, [message for message in messages if message])

    async def take(self, found: Look) -> None:
        """Take the oldest documents if all of them are still there. Those that are left are adopted after them."""
        place = self.runner.namespace, self.session_id, self.layout
        await self.runner.perform(calls.take_documents(*place, _token(), self._documents[: min(found.stop, _TAKEN)]))

    async def seems_there(self) -> bool:
        """True if the index, or one step of a walk, finds documents; a Cluster is not looked through."""
        if self.runner.cluster:
            return False
        _, found = await self.runner.perform(
            calls.find_documents(self.runner.namespace, self.session_id, self.layout, b"")
        )
        return bool(found)

    async def _find(self) -> list[bytes]:
        """The keys of the documents, oldest first; those of the same time in the order of their names."""
        found: dict[bytes, float] = {}
        cursor = b""
        while cursor != END:
            call = calls.find_documents(self.runner.namespace, self.session_id, self.layout, cursor)
            given, some = await self.runner.perform(call)
            cursor = next_cursor(cursor, given)
            found.update(some)
        return sorted(found, key=lambda name: (found[name], name))


def _token() -> str:
    return os.urandom(8).hex()
