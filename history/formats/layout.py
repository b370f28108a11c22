"""The keys, the order and the elements of another library's sessions. Each format is a class over this one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from torpor.history.elements import Shape, has_message_outline, is_message, parse_json, shape, to_json_line
from torpor.history.errors import InvalidArgument, InvalidSessionId, MessageCorrupt, NotAdoptable
from torpor.history.formats.glob import escaped
from torpor.history.formats.original import original_of, without_original
from torpor.history.ids import encode_session_id
from torpor.history.limits import is_too_deep


class Storage(StrEnum):
    """Where a library has the messages of a session, as Redis's TYPE names it."""

    LIST = "list"
    DOCUMENTS = "ReJSON-RL"  # one JSON document a message


@dataclass(frozen=True, slots=True)
class Taken:
    """An element as the session gets it; `converted` names its kind of message if it is not the library's bytes."""

    element: bytes = field(repr=False)
    converted: str | None = None


def encode_text(text: str, what: str) -> bytes:
    """The UTF-8 of a text; raises InvalidArgument, which names it as `what`."""
    if not isinstance(text, str):
        raise InvalidArgument(f"the {what} must be text, not {type(text).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidArgument(f"the {what} has a lone surrogate, which has no UTF-8 form") from exc


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """A list under the key `prefix` + session id; each element is the JSON of LangChain's `message_to_dict`.

    Messages that look as if they stood in the other order are refused, unless `check_order` is False. So are messages
    without a sign of their order that LangChain.js may have written, if the layout has the oldest first.
    """

    # How the elements are written. The record of an adoption has it, so that whoever finishes it reads them the same.
    elements: ClassVar[str] = "langchain"
    # What a refusal says of an element that is not of this format.
    no_element: ClassVar[str] = "not all of it is LangChain messages"
    storage: ClassVar[Storage] = Storage.LIST
    # What the name of a session's key has after the session id.
    end: ClassVar[bytes] = b""
    # False if sessions can only be adopted.
    gives: ClassVar[bool] = True
    # Which framework reads the session.
    shape: ClassVar[Shape] = Shape.MESSAGE
    # False if two formats have lists of the same name, in the one order and in the other.
    order_is_certain: ClassVar[bool] = False
    # True if LangChain.js may have written such elements, under the same keys and in the other order.
    mistakable: ClassVar[bool] = True
    # What to do with messages that look as if they stood in the other order.
    if_reversed: ClassVar[str] = "name the other layout, or insist"

    prefix: str = ""
    newest_first: bool = False
    check_order: bool = True

    def __post_init__(self) -> None:
        encode_text(self.prefix, "prefix")

    def __eq__(self, other: object) -> bool:
        """True if both read the same keys in the same way."""
        return isinstance(other, Layout) and self._place == other._place

    def __hash__(self) -> int:
        return hash(self._place)

    @property
    def _place(self) -> tuple[str, str, bool]:
        return self.elements, self.prefix, self.newest_first

    def key(self, session_id: str) -> bytes:
        """The key of a session; raises InvalidSessionId."""
        return self.prefix.encode() + encode_session_id(session_id) + self.end

    def session_id(self, key: bytes) -> str:
        """The session id in a key; raises NotAdoptable if it is not a valid one."""
        if not key.endswith(self.end):
            raise NotAdoptable(key, "its name is no session id")
        try:
            session_id = key.removesuffix(self.end).removeprefix(self.prefix.encode()).decode()
            encode_session_id(session_id)
        except (UnicodeDecodeError, InvalidSessionId) as exc:
            raise NotAdoptable(key, "its name is no session id") from exc
        return session_id

    def pattern(self, match: str) -> bytes:
        """The pattern for SCAN that finds the keys whose session ids match the glob-style pattern `match`."""
        return escaped(self.prefix.encode()) + encode_text(match, "pattern") + escaped(self.end)

    def stored_pattern(self, match: str) -> bytes:
        """The pattern for SCAN that finds what is stored: as `pattern`, unless a session has a key for each message."""
        return self.pattern(match)

    def session_key(self, key: bytes, match: str = "*") -> bytes | None:  # noqa: ARG002 - for documents
        """The `key` of the session to which a stored key belongs, if its id matches the pattern; None if not."""
        return key

    def query(self, session_id: str) -> bytes:
        """The query of a search for the session's documents, which may find others too."""
        raise NotImplementedError

    def match(self, pattern: str) -> str:
        """The pattern of the session ids whose keys match a pattern; all session ids if the prefix is not in it."""
        return pattern.removeprefix(self.prefix) if pattern.startswith(self.prefix) else "*"

    def claims(self, key: bytes) -> bool:
        """True if the name of a key says that it is of this format, and of none with a shorter prefix."""
        return key.startswith(self.prefix.encode())

    def companions(self, session_id: str) -> Mapping[bytes, str]:  # noqa: ARG002 - for formats that have some
        """The keys that the library keeps beside the list of a session, each with its type; they go with the list."""
        return {}

    def take(self, element: bytes) -> Taken | None:
        """The session's element for one of this format; None for anything else. Always the same for the same bytes."""
        if is_message(element) or (is_too_deep(element) and has_message_outline(element)):
            return Taken(element)
        return None

    def knows(self, element: bytes) -> bool:
        """True if the element shows who has written it; Python's LangChain has the type in the data too."""
        return not is_too_deep(element) and is_message(element) and "type" in parse_json(element)["data"]

    def give(self, element: bytes) -> bytes:
        """The element that this format has for one of a session; raises MessageCorrupt, without its position."""
        if shape(element) is not Shape.MESSAGE or not is_message(element):
            raise MessageCorrupt("is not a LangChain message")
        return self.original(element) or without_original(element)

    def unsaid(self, element: bytes) -> Collection[str]:  # noqa: ARG002 - for formats that leave something out
        """The fields of a message that `give` leaves out, because this format has no place for them."""
        return ()

    def original(self, element: bytes) -> bytes | None:
        """The element of this format that a message was made of by conversion; None for an original of anything else.

        Whoever can write elements can write any text as the original of a message.
        """
        original = original_of(element, self.elements)
        taken = None if original is None else self.take(original)
        made = taken is not None and taken.converted and taken.element == to_json_line(parse_json(element))
        return original if made else None
