"""MemorystoreChatMessageHistory: LangChain's chat history over a SessionStore."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import redis
import redis.cluster
from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage

from history import codec
from history.calls import KEEP, Keep
from history.errors import InvalidArgument, MessageCorrupt, SessionPurged
from history.keys import DEFAULT_NAMESPACE, check_session_id, encode_owner
from history.session import Expiry, HoldOutcome, SessionInfo, check_seconds
from history.store import SessionStore


class MemorystoreChatMessageHistory(BaseChatMessageHistory):
    """A chat session in Memorystore that is put to sleep, not destroyed, when it has been idle.

    Usable wherever the class of this name of langchain-google-memorystore-redis is. `ttl` is the idle timeout:
    after that many seconds without a read or a write the worker archives the session. Nothing is lost by it.

    Where the deployment has policies, a `ttl`, `max_age` or `archive_retention` that lies outside of their bounds is
    moved to the nearer bound without a word, and one that is not given is the policy's: `info()` shows what counts.
    """

    def __init__(
        self,
        client: redis.Redis | redis.cluster.RedisCluster,
        session_id: str,
        ttl: int | None = None,
        *,
        max_age: int | None = None,
        archive_retention: int | None = None,
        owner: str | None = None,
        allow_reuse: bool = False,
        namespace: str = DEFAULT_NAMESPACE,
        shards: int | None = None,
    ) -> None:
        """Check the arguments; no I/O is done before the first use.

        `ttl`, `max_age` and `archive_retention` are whole seconds; None stands for the deployment's default. They and
        `owner` are what a session starts with; one that has its own keeps it (`set_expiry` changes it). `max_age`
        counts from the moment the session last came into Redis, `archive_retention` from its last activity: then its
        archive is deleted. Raises InvalidSessionId, InvalidExpiry, InvalidOwner or InvalidArgument.

        A session that was purged refuses late writes for some time (SessionPurged); with `allow_reuse` a write begins
        it anew instead, for applications that give the same id to another conversation.
        """
        self._session_id = check_session_id(session_id)
        self._expiry = Expiry.of_seconds(ttl, max_age, archive_retention)
        if owner is not None:
            encode_owner(owner)
        self._owner = owner
        self._allow_reuse = allow_reuse
        self._store = SessionStore(client, namespace=namespace, shards=shards)

    @property
    def session_id(self) -> str:
        """The id that the history was made for."""
        return self._session_id

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]
        """The session's messages in Redis, oldest first; counts as activity.

        Raises MessageCorrupt, naming the position of an element that is not a LangChain message.
        """
        return [
            self._decode(position, element) for position, element in enumerate(self._store.messages(self._session_id))
        ]

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append the messages of one turn: all of them or none, in one round trip.

        Raises MessageNotSerializable before anything is written, OwnerMismatch, and SessionPurged.
        """
        elements = [codec.encode(message) for message in messages]
        if elements:
            self._store.append(
                self._session_id, elements, expiry=self._expiry, owner=self._owner, allow_reuse=self._allow_reuse
            )

    def clear(self) -> None:
        """Empty the session at once, for good: the worker erases what the archive holds of it.

        The id can be used again at once. Raises SessionHeld and SessionPurged.
        """
        self._store.clear(self._session_id, owner=self._owner)

    def info(self) -> SessionInfo | None:
        """The session's expiry metadata, without counting as activity; None where it is not in Redis."""
        return self._store.info(self._session_id)

    def set_expiry(
        self,
        *,
        ttl: int | Keep | None = KEEP,
        max_age: int | Keep | None = KEEP,
        archive_retention: int | Keep | None = KEEP,
    ) -> None:
        """Change the session's idle timeout, maximum age or retention in the archive, in whole seconds.

        None sets the default; what is not given stays. What the archive has already can be kept longer, not shorter.
        Raises InvalidExpiry, InvalidArgument where nothing is given, and SessionNotFound where the session is not in
        Redis.
        """
        if all(isinstance(value, Keep) for value in (ttl, max_age, archive_retention)):
            raise InvalidArgument("set_expiry needs ttl, max_age or archive_retention")
        self._store.update(
            self._session_id,
            idle=_checked(ttl, "ttl"),
            max_age=_checked(max_age, "max_age"),
            retention=_checked(archive_retention, "archive_retention"),
        )

    def close(self) -> bool:
        """Make the session due now, so that the worker archives it; False where it is not in Redis."""
        return self._store.close(self._session_id)

    def hold(self, reason: str) -> None:
        """Put the session under a legal hold: it may be archived, but is neither cleared, purged nor expired.

        The worker puts a temporary hold on its objects in the archive. Called again, the newer reason counts.
        Raises InvalidReason, and SessionPurged where there is nothing left to hold.
        """
        if self._store.hold(self._session_id, reason) is HoldOutcome.PURGED:
            raise SessionPurged(f"session {self._session_id!r} was purged: nothing of it is left to hold")

    def release_hold(self) -> bool:
        """Release the session's own legal hold, not that of its owner; False where there was none."""
        return self._store.release_hold(self._session_id) is HoldOutcome.NOTED

    def _decode(self, position: int, element: bytes) -> BaseMessage:
        try:
            return codec.decode(element)
        except MessageCorrupt as exc:
            raise MessageCorrupt(f"message {position} of session {self._session_id!r}: {exc}") from exc


def _checked(seconds: int | Keep | None, what: str) -> timedelta | Keep | None:
    return seconds if isinstance(seconds, Keep) else check_seconds(seconds, what)
