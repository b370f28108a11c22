"""A session as applications use it: it is woken before it is read. The adapters show it to each framework."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, Protocol, TypeVar

from torpor.history.calls import Keep
from torpor.history.clients.kinds import Client
from torpor.history.errors import (
    InvalidArgument,
    OwnerMismatch,
    OwnerMissing,
    SessionNotFound,
    SessionPurged,
    TranscriptChanged,
)
from torpor.history.expiry import Expiry
from torpor.history.formats.layout import Layout
from torpor.history.ids import DEFAULT_NAMESPACE, check_owner, check_session_id
from torpor.history.limits import MAX_MESSAGE_BYTES, check_max_message_bytes
from torpor.history.outcomes import HoldOutcome
from torpor.history.owners import Caller
from torpor.history.session import Page, SessionInfo, SessionKind
from torpor.history.store import SessionOperations
from torpor.history.store.runner import Runner

T = TypeVar("T")

# How often one read wakes a session that falls asleep again before it is read.
_TRIES = 5


class Archive(Protocol):
    """The archive in which sessions sleep; `torpor.SessionArchive` is one."""

    async def wake(
        self, sessions: SessionOperations, session_id: str, owner: Caller, *, assign_owner: bool = False
    ) -> bool | None:
        """Put a session's archived messages back, before those in Redis; returns when that is done.

        Raises OwnerMismatch if the archive has the session for another owner, and OwnerMissing for none, unless it may
        be assigned one (`assign_owner`).

        False if it can't be done now, and the read shall return what Redis has.

        If several ask at the same time, one does it. Afterwards no message of the session is in the archive alone. A
        session that the archive does not have either is remembered as empty for some time.
        """

    async def admit(
        self,
        sessions: SessionOperations,
        session_id: str,
        owner: Caller,
        *,
        assign_owner: bool = False,
        kind: SessionKind | None = None,
    ) -> None:
        """Refuse, as `wake` does, an owner who is about to change a session that may be asleep.

        With the `kind` of what will be written, it raises KindMismatch for a session of the other kind. A session
        without an owner that may be assigned one is woken. If the archive is down, nobody is refused.
        """

    async def reclaim(self, sessions: SessionOperations, session_id: str, owner: Caller) -> bool:
        """Put aside what somebody else has written to the session's id while it slept; False if there is nothing."""


class Conversation:
    """One session, with a blocking client or one of asyncio; its coroutines wait only with the latter.

    With an `archive`, each read first makes sure that Redis has the complete session; without one, a read returns the
    messages in Redis. With `adopt`, the first use takes over another library's messages of the session.

    Each operation raises OwnerMismatch for a session that is another owner's. It raises OwnerMissing if an owner is
    named here, and the session has messages and no owner; with `assign_owner` it is first given that owner.
    """

    _kind = SessionKind.CHAT

    def __init__(
        self,
        client: Client,
        session_id: str,
        *,
        expiry: Expiry = Expiry(),  # noqa: B008 - frozen
        owner: str | None = None,
        assign_owner: bool = False,
        allow_reuse: bool = False,
        archive: Archive | None = None,
        adopt: Layout | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        namespace: str = DEFAULT_NAMESPACE,
        shards: int | None = None,
    ) -> None:
        """Check the arguments; the first I/O is that of the first use."""
        runner = Runner(client, namespace=namespace, shards=shards)
        self.asynchronous = runner.asynchronous
        self.session_id = check_session_id(session_id)
        self._sessions = SessionOperations(runner)
        self._expiry = expiry
        self._owner = owner if owner is None else check_owner(owner)
        if assign_owner and owner is None:
            raise InvalidArgument("assign_owner needs an owner")
        self._assigns = assign_owner
        self._allow_reuse = allow_reuse
        self._archive = archive
        self._adopts = adopt
        self._max_message_bytes = check_max_message_bytes(max_message_bytes)

    async def read(self, start: int = 0, stop: int | None = None, *, touch: bool = True) -> Page | None:
        """Messages `[start, stop)` as one page of one state; a negative `start` counts from the end.

        None if there is no such session. With `touch` it counts as activity.
        """
        return await self._permitted(
            lambda: self._awake(
                lambda: self._sessions.transcript(self.session_id, start, stop, owner=self._owner, touch=touch),
                lambda page: page is not None and page.complete,
            )
        )

    async def pages(self, size: int, *, newest_first: bool = False) -> AsyncIterator[Page]:
        """The complete session in pages of `size` messages, each oldest first; one or more round trips for each page.

        Raises TranscriptChanged if the session is cleared, or is archived and woken, meanwhile.
        """
        if size < 1:
            raise InvalidArgument(f"a page has at least one message, not {size}")
        page = await (self.read(-size) if newest_first else self.read(0, size))
        state = page.state if page else None
        while page and page.messages:
            yield page
            if page.start == 0 if newest_first else page.stop >= page.total:
                return
            bounds = (max(0, page.start - size), page.start) if newest_first else (page.stop, page.stop + size)
            page = await self.read(*bounds)
            if page is None or page.state != state or page.start != bounds[0]:
                raise TranscriptChanged(f"session {self.session_id!r} changed while it was read: read it again")

    async def count(self) -> int:
        """The number of messages; does not count as activity."""
        page = await self.read(0, 0, touch=False)
        return page.total if page else 0

    async def append(self, elements: Sequence[bytes]) -> None:
        """Append one turn. With an archive, a first write asks it whose the session is, which may be asleep."""
        add = partial(
            self._sessions.append,
            self.session_id,
            elements,
            expiry=self._expiry,
            owner=self._owner,
            assigns=self._assigns,
            allow_reuse=self._allow_reuse,
            max_bytes=self._max_message_bytes,
        )
        await self._permitted(lambda: self._first_asking(add))

    async def clear(self) -> None:
        """Empty the session for good."""
        await self._permitted(lambda: self._admitted(lambda: self._sessions.clear(self.session_id, owner=self._owner)))

    async def pop(self, decode: Callable[[Page], Sequence[T]]) -> T | None:
        """Take the last message back, for good; None if there is none. A message that `decode` refuses stays.

        What `decode` leaves out because it is corrupt goes with the message before it. Raises SessionIncomplete if a
        part may be in the archive alone and there is no `archive`, SessionHeld, and SessionPurged.
        """
        while page := await self.read(-1, touch=False):
            last = decode(page)
            if await self._sessions.pop(self.session_id, page, owner=self._owner) and (last or not page.messages):
                return last[-1] if last else None
        return None

    async def info(self) -> SessionInfo | None:
        """Describe the session in Redis."""
        return await self._permitted(lambda: self._sessions.info(self.session_id, owner=self._owner))

    async def update(
        self, *, idle: timedelta | Keep | None, max_age: timedelta | Keep | None, retention: timedelta | Keep | None
    ) -> None:
        """Change the expiry."""
        await self._permitted(
            lambda: self._sessions.update(
                self.session_id, owner=self._owner, idle=idle, max_age=max_age, retention=retention
            )
        )

    async def close(self) -> bool:
        """Make the session due now."""
        return await self._permitted(lambda: self._sessions.close(self.session_id, owner=self._owner))

    async def hold(self, reason: str) -> None:
        """Put the session under a legal hold."""
        hold = partial(self._sessions.hold, self.session_id, reason, owner=self._owner)
        if await self._permitted(lambda: self._admitted(hold)) is HoldOutcome.PURGED:
            raise SessionPurged(f"session {self.session_id!r} was purged: nothing of it is left to hold")

    async def release_hold(self) -> bool:
        """Release the session's own legal hold; False if there was none."""
        release = partial(self._sessions.release_hold, self.session_id, owner=self._owner)
        return await self._permitted(lambda: self._admitted(release)) is HoldOutcome.NOTED

    @property
    def _asked(self) -> tuple[SessionOperations, str, Caller]:
        """What the archive is asked about."""
        return self._sessions, self.session_id, self._owner

    async def _permitted(self, act: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do `act`, after the adoption that was asked for.

        If the owner is refused, the session is made the owner's first: it is assigned the owner, if that was asked for,
        or what somebody else has written to its id while it slept is put aside.
        """
        try:
            if self._adopts is not None:
                await self._adopt()
            return await act()
        except OwnerMissing:
            if not self._assigns:
                raise
            await self._sessions.assign_owner(self.session_id, str(self._owner))
        except OwnerMismatch:
            if self._archive is None or not await self._archive.reclaim(*self._asked):
                raise
        await self._adopt()
        return await act()

    async def _admitted(self, act: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do `act`, which does not wake the session. With an archive, that first tells whose a sleeping session is."""
        if self._archive is not None:
            page = await self._sessions.transcript(self.session_id, 0, 0, owner=self._owner, touch=False)
            if page is None or not page.complete:
                await self._archive.admit(*self._asked)
        return await act()

    async def _first_asking(self, write: Callable[..., Coroutine[Any, Any, T]]) -> T:
        """Do `write`. With an archive, a first write asks it whose the session is, and which kind, if it sleeps."""
        if self._archive is not None:
            try:
                return await write(only_known=True)
            except SessionNotFound as unknown:
                if isinstance(unknown, SessionPurged):
                    raise
            await self._archive.admit(*self._asked, assign_owner=self._assigns, kind=self._kind)
        return await write()

    async def _awake(self, read: Callable[[], Awaitable[T]], is_complete: Callable[[T], bool]) -> T:
        """Read; if a part may be in the archive alone, wake the session and read again."""
        for _ in range(_TRIES):
            found = await read()
            if self._archive is None or is_complete(found):
                return found
            if await self._archive.wake(*self._asked, assign_owner=self._assigns) is False:
                return found
        raise TranscriptChanged(f"session {self.session_id!r} fell asleep each time it was woken: try again")

    async def _adopt(self) -> None:
        """Once, take over another library's messages of the session, unless the session was purged."""
        if self._adopts is None:
            return
        adopt = partial(
            self._sessions.adopt,
            self.session_id,
            self._adopts,
            expiry=self._expiry,
            owner=self._owner,
            allow_reuse=self._allow_reuse,
            max_bytes=self._max_message_bytes,
        )
        with suppress(SessionPurged):
            await self._first_asking(adopt)
        self._adopts = None
