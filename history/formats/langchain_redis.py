"""The format of langchain-redis."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from torpor.history.elements import is_message, parse_json
from torpor.history.errors import MessageCorrupt
from torpor.history.formats.glob import escaped, matches
from torpor.history.formats.layout import Layout, Storage, Taken
from torpor.history.formats.original import with_original
from torpor.history.ids import encode_session_id

# After the session id: a ULID, or with older versions the time.
_NAME = re.compile(rb"[0-7][0-9A-HJKMNP-TV-Z]{25}|\d+(\.\d+)?")
# What the library does not store of a message, and Python needs.
_MISSING = {"chat": "role", "function": "name", "tool": "tool_call_id"}
# The characters of a tag that mean something in a query of the search.
_SPECIAL = re.compile(r"[\x00-/:-@\[-^`{-\x7f]")


@dataclass(frozen=True, slots=True, eq=False)
class LangChainRedis(Layout):
    """One JSON document a message, under `chat:`, the session id, `:` and a ULID. Sessions are only adopted.

    The documents of a session have one name, the key with `*` in place of the ULID. A `key_prefix` of one's own is the
    prefix. Source: RedisChatMessageHistory of langchain-redis 0.1.2 to 0.2.6.
    """

    elements: ClassVar[str] = "langchain-redis"
    no_element: ClassVar[str] = "not all of it is documents of langchain-redis"
    storage: ClassVar[Storage] = Storage.DOCUMENTS
    end: ClassVar[bytes] = b":*"
    gives: ClassVar[bool] = False
    order_is_certain: ClassVar[bool] = True
    mistakable: ClassVar[bool] = False

    prefix: str = "chat:"

    def stored_pattern(self, match: str) -> bytes:
        """The pattern for SCAN that finds the documents."""
        return self.pattern(match).removesuffix(escaped(self.end)) + self.end

    def session_key(self, key: bytes, match: str = "*") -> bytes | None:
        """The name of the documents to which one belongs."""
        session, _, name = key.removeprefix(self.prefix.encode()).rpartition(b":")
        found = self.claims(key) and session and _NAME.fullmatch(name) and matches(match.encode(), session)
        return self.prefix.encode() + session + self.end if found else None

    def match(self, pattern: str) -> str:
        """The pattern of the session ids, if the pattern of keys is the beginning of them; else all."""
        found = Layout.match(self, pattern)
        return found if re.fullmatch(r"[^:*?\[\\]*\*", found) else "*"

    def query(self, session_id: str) -> bytes:
        """The query that finds the session's documents, and others: the search ignores case.

        It cuts ids at commas, unless the index has been made without a separator.
        """
        whole = encode_session_id(session_id).decode()
        parts = filter(None, map(str.strip, whole.split(",")))
        query = " ".join(map(_tag, parts)) or "*"
        return (f"({_tag(whole)})|({query})" if "," in whole else query).encode()

    def take(self, element: bytes) -> Taken | None:
        """The message of a document, which stands beside it: it has the time of the message."""
        try:
            value = parse_json(element)
            if (
                not {"session_id", "timestamp"}
                <= value.keys()
                <= {"type", "data", "session_id", "timestamp", "message_id"}
            ):
                return None
            kind, data = value["type"], value["data"]
            if (name := _MISSING.get(kind)) and name not in data:
                data = {**data, name: ""}
            made = with_original({"type": kind, "data": data}, self.elements, element)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return Taken(made, kind) if is_message(made) else None

    def knows(self, element: bytes) -> bool:
        """True if it is a document of a message."""
        return self.take(element) is not None

    def give(self, element: bytes) -> bytes:  # noqa: ARG002 - whatever it is
        """Raise MessageCorrupt."""
        raise MessageCorrupt("can't go to langchain-redis, whose sessions are only adopted")


def _tag(text: str) -> str:
    return "@session_id:{" + _SPECIAL.sub(r"\\\g<0>", text) + "}"
