"""The format of LlamaIndex."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torpor.history.elements import Shape, is_message, parse_json, shape, to_json_line
from torpor.history.errors import MessageCorrupt
from torpor.history.formats.layout import Layout, Taken
from torpor.history.formats.original import with_original


@dataclass(frozen=True, slots=True, eq=False)
class LlamaIndex(Layout):
    """The key is the session id, and the oldest message comes first.

    Each message is converted. Its original stands beside it, unless the way back makes the same bytes.
    Sources: RedisChatStore of llama-index-storage-chat-store-redis 0.8.0; ChatMessage of llama-index-core 0.11 and
    0.14.
    """

    elements: ClassVar[str] = "llamaindex"
    no_element: ClassVar[str] = "not all of it is messages of LlamaIndex"
    mistakable: ClassVar[bool] = False
    if_reversed: ClassVar[str] = "delete_message of LlamaIndex reverses a list: insist"

    def take(self, element: bytes) -> Taken | None:
        """The message as LangChain's."""
        from torpor.history.formats import chat_message

        try:
            value = parse_json(element)
            message = chat_message.taken(value)
            made = to_json_line(message)
            if not is_message(made):
                return None
            exact = _given(made) == element
            return Taken(made if exact else with_original(message, self.elements, element), value["role"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def knows(self, element: bytes) -> bool:
        """True if it is a message."""
        return self.take(element) is not None

    def give(self, element: bytes) -> bytes:
        """The original if there is one, else the message as LlamaIndex writes it; raises MessageCorrupt."""
        # No zero-argument super(): it does not find the class that slots=True makes.
        given = Layout.give(self, element)
        return given if self.original(element) else _said(given)

    def unsaid(self, element: bytes) -> list[str]:
        """The fields of a message for which LlamaIndex has no place."""
        from torpor.history.formats import chat_message

        if shape(element) is not Shape.MESSAGE or self.original(element):
            return []
        return chat_message.unsaid(parse_json(element)["data"])


def _said(element: bytes) -> bytes:
    """A message of LangChain as LlamaIndex writes it; raises MessageCorrupt."""
    from torpor.history.formats import chat_message

    try:
        given = to_json_line(chat_message.given(parse_json(element)))
        chat_message.check(given)
    except (TypeError, KeyError, AttributeError, RecursionError, ValueError) as exc:
        raise MessageCorrupt(f"has {_place_in(exc)}, which LlamaIndex can't read") from exc
    return given


def _place_in(error: Exception) -> str:
    """The place of the first thing that is wrong; of keys, only the fields of a ChatMessage are named."""
    from pydantic import ValidationError

    places = [each["loc"] for each in error.errors()] if isinstance(error, ValidationError) else []
    return ".".join(map(str, places[0])) if places and places[0] else "something"


def _given(element: bytes) -> bytes | None:
    try:
        return _said(element)
    except MessageCorrupt:
        return None
