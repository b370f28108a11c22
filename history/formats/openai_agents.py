"""The format of the OpenAI Agents SDK."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torpor.history.elements import Shape, shape
from torpor.history.errors import MessageCorrupt
from torpor.history.formats.layout import Layout, Taken
from torpor.history.ids import encode_session_id


@dataclass(frozen=True, slots=True, eq=False)
class OpenAIAgents(Layout):
    """Items, oldest first, under `agents:session:`, the session id and `:messages`; beside it a hash and a counter.

    Source: RedisSession of openai-agents 0.24.0. A `key_prefix` of one's own is the prefix without its colon.
    """

    elements: ClassVar[str] = "openai-agents"
    no_element: ClassVar[str] = "not all of it is items of the Agents SDK"
    end: ClassVar[bytes] = b":messages"
    shape: ClassVar[Shape] = Shape.ITEM
    order_is_certain: ClassVar[bool] = True
    mistakable: ClassVar[bool] = False

    prefix: str = "agents:session:"

    def match(self, pattern: str) -> str:
        """The pattern of the session ids; all if the pattern has neither `:messages` nor a `*` after plain text.

        With such a `*`, the text before it may reach into the `:messages` of a shorter id.
        """
        found, end = Layout.match(self, pattern), self.end.decode()
        if found != pattern and found.endswith(end):
            return found.removesuffix(end)
        if found == pattern or not re.fullmatch(r"[^*?\[\\]*\*", found):
            return "*"
        begin = found.removesuffix("*")
        inside = next((length for length in range(len(end), 0, -1) if begin.endswith(end[:length])), 0)
        return begin[: len(begin) - inside] + "*"

    def claims(self, key: bytes) -> bool:
        """True if the name of a key says that it has items."""
        return Layout.claims(self, key) and key.endswith(self.end)

    def companions(self, session_id: str) -> Mapping[bytes, str]:
        """The description of a session, and a counter that older versions have used."""
        beside = self.prefix.encode() + encode_session_id(session_id)
        return {beside: "hash", beside + b":counter": "string"}

    def take(self, element: bytes) -> Taken | None:
        """The element as it is, if it is an item."""
        return Taken(element) if shape(element) is Shape.ITEM else None

    def knows(self, element: bytes) -> bool:
        """True if it is an item."""
        return self.take(element) is not None

    def give(self, element: bytes) -> bytes:
        """The element as it is; raises MessageCorrupt if it is no item."""
        if shape(element) is not Shape.ITEM:
            raise MessageCorrupt("is not an item of the Agents SDK")
        return element
