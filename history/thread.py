"""A LangGraph thread as the saver uses it: a session whose elements are records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

from torpor.history.calls import CheckpointReply, KnownPlaces, NewRecord, WrittenRecord
from torpor.history.conversation import Conversation
from torpor.history.errors import SessionExists, SessionNotFound, TranscriptChanged
from torpor.history.records.record import Record, to_element
from torpor.history.records.thread import Thread
from torpor.history.session import Page, SessionKind

# How often a thread that changes meanwhile is read to be rewritten.
_TRIES = 5


class ThreadConversation(Conversation):
    """One thread. Reads wake it, writes do not."""

    _kind = SessionKind.THREAD

    async def write(
        self,
        record: Record,
        *,
        state: str = "",
        length: int = 0,
        interrupts: bool | None = None,
        interrupted_idle: timedelta | None = None,
    ) -> WrittenRecord | None:
        """Append a record; None if `state`, in which its places were read, is over, and nothing was written.

        With an archive, a first write asks it whose the thread is, which may be asleep.
        `length`, `interrupts` and `interrupted_idle` as in `torpor.history.calls.write_record`.
        """
        name = record.name
        write = partial(
            self._sessions.write_record,
            self.session_id,
            NewRecord(name.ns, name.id, to_element(record, length), state, length, interrupts),
            expiry=self._expiry,
            owner=self._owner,
            allow_reuse=self._allow_reuse,
            interrupted_idle=interrupted_idle,
            max_bytes=self._max_message_bytes,
        )
        return await self._permitted(lambda: self._first_asking(write))

    async def checkpoint(self, ns: str, checkpoint_id: str | None, known: KnownPlaces) -> CheckpointReply:
        """A checkpoint, or the latest one of its namespace, without what is known; counts as activity."""
        return await self._permitted(
            lambda: self._awake(
                lambda: self._sessions.read_checkpoint(
                    self.session_id, ns, checkpoint_id, owner=self._owner, touch=True, known=known
                ),
                lambda reply: reply.complete,
            )
        )

    async def elements(self) -> Sequence[bytes]:
        """All records as bytes, oldest first; counts as activity."""
        page = await self.read()
        return page.messages if page else []

    async def all(self) -> Thread:
        """All records of the thread; counts as activity."""
        return Thread(self.session_id, await self.elements())

    async def rewrite(self, keep: Callable[[Thread], list[bytes]]) -> None:
        """Replace all records by those that `keep` finds in the thread, in a new epoch; wakes the thread.

        Raises SessionHeld, SessionPurged, SessionIncomplete if a part may be in the archive alone and there is no
        `archive`, and TranscriptChanged if the thread changes at each try.
        """
        for _ in range(_TRIES):
            page = await self.read(touch=False)
            kept = keep(Thread(self.session_id, page.messages)) if page else []
            if page is None or len(kept) == page.total or await self._replace(page, kept):
                return
        raise TranscriptChanged(f"thread {self.session_id!r} changed each time it was read: try again")

    async def _replace(self, page: Page, kept: list[bytes]) -> bool:
        return await self._sessions.rewrite(
            self.session_id, kept, epoch=page.epoch, total=page.total, owner=self._owner
        )

    async def copy_to(self, target: ThreadConversation) -> None:
        """Write all records to a thread that has none, in one atomic turn.

        Raises SessionNotFound if this one has none, and SessionExists if the other one has some, awake or asleep.
        """
        elements = await self.elements()
        Thread(self.session_id, elements)  # raises for a chat and for a damaged record
        if not elements:
            raise SessionNotFound(f"thread {self.session_id!r} has no checkpoints to copy")
        if await target.count():
            raise SessionExists(f"thread {target.session_id!r} has checkpoints already: nothing was copied")
        await self._sessions.append(
            target.session_id,
            elements,
            expiry=self._expiry,
            owner=self._owner,
            only_new=True,
            allow_reuse=self._allow_reuse,
            max_bytes=self._max_message_bytes,
            max_depth=None,
        )
