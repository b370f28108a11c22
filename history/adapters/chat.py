"""MemorystoreChatMessageHistory: LangChain's chat history over a Conversation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage

from torpor.history.adapters.decoding import decode_page
from torpor.history.adapters.messages import decode_message, encode_message
from torpor.history.adapters.turn import Turns
from torpor.history.adapters.two_ways import awaited_method, blocking_method, in_a_thread
from torpor.history.calls import KEEP, Keep
from torpor.history.clients.blocking import iterate_sync
from torpor.history.clients.kinds import Client
from torpor.history.conversation import Archive, Conversation
from torpor.history.elements import Shape
from torpor.history.errors import ClientMismatch, InvalidArgument
from torpor.history.expiry import Expiry, check_seconds
from torpor.history.formats.known import to_layout
from torpor.history.formats.layout import Layout
from torpor.history.ids import DEFAULT_NAMESPACE
from torpor.history.limits import MAX_MESSAGE_BYTES
from torpor.history.session import Page, SessionInfo


class MemorystoreChatMessageHistory(BaseChatMessageHistory):
    """A chat session in Memorystore that is put to sleep, not destroyed, when it has been idle.

    It replaces the class of the same name in langchain-google-memorystore-redis. `ttl` is the idle timeout: after that
    many seconds without a read or a write the worker archives the session, and nothing is lost.

    With an asyncio client only the methods whose names begin with `a` can be used; the others raise ClientMismatch.
    With a blocking client all can be used. Those whose names begin with `a` then work in a thread.

    If the deployment has policies, a `ttl`, `max_age` or `archive_retention` outside their bounds is silently moved to
    the nearer bound, and one that is not given is the policy's. `info()` shows the values in force.
    """

    def __init__(
        self,
        client: Client,
        session_id: str,
        ttl: int | None = None,
        *,
        max_age: int | None = None,
        archive_retention: int | None = None,
        owner: str | None = None,
        assign_owner: bool = False,
        allow_reuse: bool = False,
        archive: Archive | None = None,
        adopt: str | Layout | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        namespace: str = DEFAULT_NAMESPACE,
        shards: int | None = None,
    ) -> None:
        """Check the arguments; the first I/O is that of the first use.

        `ttl`, `max_age` and `archive_retention` are whole seconds; None means the deployment's default. They are for a
        new session; a session that has its own keeps it (`set_expiry` changes it). `max_age` counts
        from the time when the session last came into Redis. When `archive_retention` has passed since its last
        activity, its archived messages are deleted. Raises InvalidSessionId, InvalidExpiry, InvalidOwner or
        InvalidArgument.

        `owner` is whose session it is. Each method raises OwnerMismatch for a session of another owner, also if none is
        given here, and OwnerMissing if one is given here and the session has messages and no owner. With `assign_owner`
        it is given the owner first. A session that is nobody's becomes the owner's by the first write. A deployment can
        require an owner (OwnerRequired).

        A session that was purged refuses late writes for some time (SessionPurged). With `allow_reuse` a write begins
        it anew instead, for applications that give the same id to another conversation.

        A message of more than `max_message_bytes` as JSON is refused (MessageTooLarge).

        With `archive`, the first read wakes a session that sleeps, and can raise the archive's errors.

        With `adopt`, the first use takes over another library's messages of the session: "memorystore"
        (langchain-google-memorystore-redis), "community" (RedisChatMessageHistory of langchain-community),
        "langchain-js" (RedisChatMessageHistory of LangChain.js) or a Layout. They come after the messages that are in
        Redis already, so use `adopt` before you adopt in bulk. If `ttl` is not given, the rest of the key's TTL becomes
        the session's. Takes one more round trip; raises NotAdoptable and OwnerMismatch.
        """
        self._conversation = Conversation(
            client,
            session_id,
            expiry=Expiry.of_seconds(ttl, max_age, archive_retention),
            owner=owner,
            assign_owner=assign_owner,
            allow_reuse=allow_reuse,
            archive=archive,
            adopt=None if adopt is None else to_layout(adopt, Shape.MESSAGE),
            max_message_bytes=max_message_bytes,
            namespace=namespace,
            shards=shards,
        )
        self._turns = Turns((namespace, session_id))

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._conversation.session_id

    # Each operation is written once, then gets its two names

    async def _messages(self) -> list[BaseMessage]:
        """The session's messages, oldest first; counts as activity.

        Without an `archive`, only the messages in Redis: none while the session sleeps. An element that is corrupt is
        left out, and a warning in the log names its position. Raises MessageCorrupt, which names the position, for an
        item of the Agents SDK.
        """
        if (begun_with := self._turns.read_again()) is not None:
            return begun_with
        messages = self._decoded(await self._conversation.read())
        self._turns.read(messages)
        return messages

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]
        """The session's messages, oldest first; see `aget_messages`."""
        return self._now()

    _now = blocking_method(_messages)
    aget_messages = awaited_method(_messages, "_read_messages")

    def _read_messages(self) -> list[BaseMessage]:
        return self.messages

    async def _add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append the messages of one turn: all of them or none, in one round trip.

        Raises MessageNotSerializable and MessageTooLarge before anything is written, OwnerMismatch, and SessionPurged.
        """
        elements = [encode_message(message) for message in messages]
        if elements:
            await self._conversation.append(elements)

    add_messages = blocking_method(_add_messages)
    aadd_messages = awaited_method(_add_messages)

    async def _clear(self) -> None:
        """Empty the session at once, for good; the worker erases its archived messages.

        The id can be used again immediately. Raises SessionHeld and SessionPurged.
        """
        await self._conversation.clear()

    clear = blocking_method(_clear)
    aclear = awaited_method(_clear)

    async def _last(self, count: int) -> list[BaseMessage]:
        """The last `count` messages, oldest first, without reading the others; counts as activity."""
        if count < 1:
            raise InvalidArgument(f"the number of messages must be at least 1, not {count}")
        return self._decoded(await self._conversation.read(-count))

    last = blocking_method(_last)
    alast = awaited_method(_last)

    async def _pages(self, size: int, *, newest_first: bool) -> AsyncIterator[list[BaseMessage]]:
        async for page in self._conversation.pages(size, newest_first=newest_first):
            yield self._decoded(page)

    def pages(self, size: int = 100, *, newest_first: bool = False) -> Iterator[list[BaseMessage]]:
        """The session's messages in pages of `size`, each oldest first, from the oldest page on or from the newest.

        For sessions that are too long to be read at once. Each page counts as activity. Raises TranscriptChanged if
        the session is cleared, or is archived and woken, meanwhile.
        """
        self._check_blocking()
        return iterate_sync(self._pages(size, newest_first=newest_first))

    def apages(self, size: int = 100, *, newest_first: bool = False) -> AsyncIterator[list[BaseMessage]]:
        """As `pages`, for asyncio."""
        if self._asynchronous:
            return self._pages(size, newest_first=newest_first)
        return in_a_thread(self.pages(size, newest_first=newest_first))

    async def _length(self) -> int:
        """The number of messages; does not count as activity."""
        return await self._conversation.count()

    __len__ = blocking_method(_length)
    alen = awaited_method(_length, "__len__")

    def __bool__(self) -> bool:
        """Always true, so that `if history:` does not ask Redis for the length."""
        return True

    async def _info(self) -> SessionInfo | None:
        """Describe the session without counting as activity; None if it is not in Redis."""
        return await self._conversation.info()

    info = blocking_method(_info)
    ainfo = awaited_method(_info)

    async def _set_expiry(
        self,
        *,
        ttl: int | Keep | None = KEEP,
        max_age: int | Keep | None = KEEP,
        archive_retention: int | Keep | None = KEEP,
    ) -> None:
        """Change the session's idle timeout, maximum age or retention in the archive, in whole seconds.

        None sets the deployment's default; a value that is not given stays. Messages that are archived already can be
        kept longer, not shorter. Raises InvalidExpiry, InvalidArgument if nothing is given, and SessionNotFound if the
        session is not in Redis.
        """
        if all(isinstance(value, Keep) for value in (ttl, max_age, archive_retention)):
            raise InvalidArgument("set_expiry needs ttl, max_age or archive_retention")
        await self._conversation.update(
            idle=_checked(ttl, "ttl"),
            max_age=_checked(max_age, "max_age"),
            retention=_checked(archive_retention, "archive_retention"),
        )

    set_expiry = blocking_method(_set_expiry)
    aset_expiry = awaited_method(_set_expiry)

    async def _close(self) -> bool:
        """Make the session due now, so that the worker archives it; False if it is not in Redis."""
        return await self._conversation.close()

    close = blocking_method(_close)
    aclose = awaited_method(_close)

    async def _hold(self, reason: str) -> None:
        """Put the session under a legal hold: it may be archived, but is neither cleared, purged nor expired.

        The worker puts a temporary hold on its objects in the archive. If it is called again, the newer reason counts.
        Raises InvalidReason, and SessionPurged if the session was purged.
        """
        await self._conversation.hold(reason)

    hold = blocking_method(_hold)
    ahold = awaited_method(_hold)

    async def _release_hold(self) -> bool:
        """Release the session's own legal hold, not that of its owner; False if there was none."""
        return await self._conversation.release_hold()

    release_hold = blocking_method(_release_hold)
    arelease_hold = awaited_method(_release_hold)

    def _decoded(self, page: Page | None) -> list[BaseMessage]:
        return decode_page(page, self.session_id, decode_message, Shape.MESSAGE) if page else []

    @property
    def _asynchronous(self) -> bool:
        return self._conversation.asynchronous

    def _check_blocking(self) -> None:
        if self._asynchronous:
            raise ClientMismatch("this history has an asyncio client: await aget_messages, aadd_messages, ...")


def _checked(seconds: int | Keep | None, what: str) -> timedelta | Keep | None:
    return seconds if isinstance(seconds, Keep) else check_seconds(seconds, what)
