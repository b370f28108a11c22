"""The format of langchain-google-memorystore-redis."""

from __future__ import annotations

from dataclasses import dataclass

from torpor.history.formats.layout import Layout


@dataclass(frozen=True, slots=True, eq=False)
class Memorystore(Layout):
    """The key is the session id, and the oldest message comes first.

    Source: MemorystoreChatMessageHistory of langchain-google-memorystore-redis 0.3.0.
    """
