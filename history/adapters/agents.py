"""MemorystoreSession: a session of the OpenAI Agents SDK over a Conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from torpor.history.adapters.decoding import decode_page
from torpor.history.adapters.items import decode_item, encode_item
from torpor.history.clients.kinds import Client
from torpor.history.conversation import Archive, Conversation
from torpor.history.elements import Shape
from torpor.history.errors import ClientMismatch, InvalidArgument
from torpor.history.expiry import Expiry
from torpor.history.formats.known import to_layout
from torpor.history.formats.layout import Layout
from torpor.history.ids import DEFAULT_NAMESPACE
from torpor.history.limits import MAX_MESSAGE_BYTES
from torpor.history.session import Page

if TYPE_CHECKING:  # the SDK is not needed at run time
    from agents import SessionSettings, TResponseInputItem


class MemorystoreSession:
    """A session of the Agents SDK that is put to sleep, not destroyed, when it has been idle.

    It has the SDK's protocol `agents.memory.Session`, so `Runner.run(agent, input, session=...)` takes it. For other
    operations (describe, close, hold) use an AsyncSessionStore. A session id is either for items or for a LangChain
    history: reading the messages of the other kind raises MessageCorrupt.
    Source: https://openai.github.io/openai-agents-python/sessions/
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
        session_settings: SessionSettings | dict[str, Any] | None = None,
    ) -> None:
        """Arguments as for MemorystoreChatMessageHistory; raises ClientMismatch for a blocking client.

        The SDK takes items back (`pop_item`) when it tries a turn again. Without an `archive` that raises
        SessionIncomplete, unless the session is known to be complete because it was cleared or woken.

        With `adopt="openai-agents"`, the first use takes over what the SDK's own RedisSession has of the session, as
        `adopt` of MemorystoreChatMessageHistory does.
        """
        self._conversation = Conversation(
            client,
            session_id,
            expiry=Expiry.of_seconds(ttl, max_age, archive_retention),
            owner=owner,
            assign_owner=assign_owner,
            allow_reuse=allow_reuse,
            archive=archive,
            adopt=None if adopt is None else to_layout(adopt, Shape.ITEM),
            max_message_bytes=max_message_bytes,
            namespace=namespace,
            shards=shards,
        )
        if not self._conversation.asynchronous:
            raise ClientMismatch(f"{type(client).__module__} is a blocking client; the Agents SDK needs one of asyncio")
        self.session_id = session_id
        self.session_settings = session_settings

    @property
    def session_settings(self) -> SessionSettings | None:
        """The SDK's settings of the session. A dict is turned into them; raises InvalidArgument for a wrong one."""
        return self._session_settings

    @session_settings.setter
    def session_settings(self, settings: SessionSettings | dict[str, Any] | None) -> None:
        self._session_settings = _to_settings(settings) if isinstance(settings, dict) else settings

    async def close(self) -> None:
        """Do nothing, as the SDK's own sessions with a client that they were given: the client is yours to close."""

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """The last `limit` items, oldest first, without reading the others; counts as activity.

        None means the limit of `session_settings`, or all items. An element that is corrupt is left out, and a warning
        in the log names its position. Raises MessageCorrupt, which names the position, for a LangChain message.
        """
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        if limit is not None and limit < 1:
            return []
        page = await self._conversation.read(-limit if limit else 0)
        return self._decoded(page) if page else []

    async def add_items(self, items: Sequence[TResponseInputItem]) -> None:
        """Append items: all of them or none, in one round trip.

        Raises MessageNotSerializable and MessageTooLarge before anything is written, OwnerMismatch, and SessionPurged.
        """
        if items:
            await self._conversation.append([encode_item(item) for item in items])

    async def pop_item(self) -> TResponseInputItem | None:
        """Take the last item back, for good; None if there is none.

        Corrupt elements after it go with it, as in the SDK's own sessions. Raises MessageCorrupt for a LangChain
        message, which stays; SessionIncomplete if a part of the
        session may be in the archive alone and no `archive` was given; SessionHeld; and SessionPurged.
        """
        return await self._conversation.pop(self._decoded)

    async def clear_session(self) -> None:
        """Empty the session at once, for good; raises SessionHeld and SessionPurged."""
        await self._conversation.clear()

    def _decoded(self, page: Page) -> list[Any]:
        return decode_page(page, self.session_id, decode_item, Shape.ITEM)


def _to_settings(settings: dict[str, Any]) -> SessionSettings:
    from agents.memory import SessionSettings  # who gives a dict has the SDK

    unknown = settings.keys() - {each.name for each in fields(SessionSettings)}
    if unknown:
        raise InvalidArgument(f"session settings of the Agents SDK have no {', '.join(map(str, unknown))}")
    try:
        return SessionSettings(**settings)
    except (TypeError, ValueError) as exc:
        raise InvalidArgument(f"these are no session settings of the Agents SDK: {exc}") from exc
