"""The keys and commands of other libraries' chat histories.

Sources: chat_message_history.py of langchain-google-memorystore-redis 0.3.0, chat_message_histories/redis.py of
langchain-community 0.4.2. test_published_package.py has the former itself, tests/readers/test_community.py the latter.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, message_to_dict, messages_from_dict

from support.keyspace import raw
from torpor.history.protocol import FORMATS, Layout

# The formats whose elements are as Python's LangChain writes them.
LAYOUTS = {name: FORMATS[name] for name in ("memorystore", "community")}


@dataclass(frozen=True)
class Foreign:
    """A session of another library."""

    client: Any
    layout: Layout = LAYOUTS["memorystore"]
    session_id: str = "s"
    ttl: int | None = None

    @property
    def key(self) -> bytes:
        return self.layout.key(self.session_id)

    def add(self, *messages: BaseMessage | str) -> None:
        for message in messages:
            given = HumanMessage(message) if isinstance(message, str) else message
            push = "LPUSH" if self.layout.newest_first else "RPUSH"
            raw(self.client, push, self.key, json.dumps(message_to_dict(given)))
            if self.ttl:
                raw(self.client, "EXPIRE", self.key, self.ttl)

    @property
    def elements(self) -> list[bytes]:
        """Its elements, oldest first."""
        found: list[bytes] = raw(self.client, "LRANGE", self.key, 0, -1)
        return found[::-1] if self.layout.newest_first else found

    @property
    def messages(self) -> list[BaseMessage]:
        return messages_from_dict([json.loads(element) for element in self.elements])
