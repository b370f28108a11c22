"""The format of langchain-community."""

from __future__ import annotations

from dataclasses import dataclass

from torpor.history.formats.layout import Layout


@dataclass(frozen=True, slots=True, eq=False)
class Community(Layout):
    """The key is `message_store:` and the session id, and the newest message comes first.

    Source: RedisChatMessageHistory of langchain-community 0.4.
    """

    prefix: str = "message_store:"
    newest_first: bool = True
