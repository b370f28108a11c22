"""JSON lines: conversations from and to files, each {"session_id": str, "owner": str, "messages": [...]}.

The owner may be missing. In a file that people write, a message is in LangChain's stored form, {"type", "data": {...}},
or flat, {"type", "content", ...}. An export adds "format", and then "messages" has the stored elements themselves, of
whatever kind. An element that can't stand in a line, because it is not JSON or has a line break, is {"raw": its bytes
in base64}.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count as count_from
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from torpor.history.protocol import MAX_MESSAGE_BYTES, check_owner, check_session_id, has_too_many_values, is_too_deep
from torpor.worker.errors import ImportFailed
from torpor.worker.transfer import json_texts

if TYPE_CHECKING:  # an export needs no LangChain
    from langchain_core.messages import BaseMessage

FORMAT = "torpor-messages/1"
_BREAK = re.compile(r"[\r\n]")
_DEEP = 100
_READ_BYTES = 512 * 1024
# A line is a whole session, and is held in memory.
_MESSAGES_A_LINE = 16


@dataclass(frozen=True, slots=True)
class OwnerSource:
    """Where the owner of a line's session comes from: `name` for all lines, or the value of a `field` in each line.

    A line may always name it as "owner". A line without the `field`, or that names two owners, is wrong.
    """

    name: str | None = None
    field: str | None = None

    def owner(self, texts: Mapping[str, str]) -> str | None:
        """The owner of a line, by the texts of its members; raises ValueError and InvalidOwner."""
        of_field = None if self.field is None else _owner(texts, self.field)
        if self.field is not None and of_field is None:
            raise ValueError(f"{self.field!r} is missing")
        found = {self.name, _owner(texts, "owner"), of_field} - {None}
        if len(found) > 1:
            raise ValueError(f"it names {len(found)} owners: {', '.join(sorted(map(repr, found)))}")
        return found.pop() if found else None


@dataclass(frozen=True, slots=True)
class Conversation:
    """One line of a file; each element is what Redis stores of a message. `line` is the line's number."""

    session_id: str
    elements: list[bytes] = field(repr=False)
    owner: str | None = None
    line: int = field(default=0, compare=False)

    @property
    def messages(self) -> list[BaseMessage]:
        """LangChain's messages; raises MessageCorrupt for elements of another kind."""
        from torpor.history.adapters.messages import decode_message

        return [decode_message(element) for element in self.elements]


def read_conversations(
    path: Path, owners: OwnerSource = OwnerSource(), *, max_message_bytes: int = MAX_MESSAGE_BYTES
) -> Iterator[Conversation]:
    """The conversations of a file; raises ImportFailed, with the number of the line, for any other line.

    A line may have the size of 16 messages at the limit. A longer one is measured and not read.
    """
    seen: dict[str, int] = {}
    try:
        with path.open("rb") as file:
            for number, line in enumerate(_lines(path, file, _MESSAGES_A_LINE * max_message_bytes), start=1):
                if not line.strip():
                    continue
                try:
                    conversation = replace(_conversation(line.decode("utf-8-sig"), owners), line=number)
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
                    raise ImportFailed(f"{path}, line {number}: {_reason(exc)}") from exc
                first = seen.setdefault(conversation.session_id, number)
                if first != number:
                    raise ImportFailed(f"{path}, line {number}: line {first} has the same session_id")
                yield conversation
    except OSError as exc:
        raise ImportFailed(f"{path} can't be read: {exc.strerror}") from exc


def session_ids(
    path: Path, owners: OwnerSource = OwnerSource(), *, max_message_bytes: int = MAX_MESSAGE_BYTES
) -> list[str]:
    """Check all conversations of a file, and return whose they are; raises ImportFailed."""
    return [each.session_id for each in read_conversations(path, owners, max_message_bytes=max_message_bytes)]


def export_line(session_id: str, elements: Iterable[bytes], owner: str | None = None) -> Iterator[bytes]:
    """A session's stored elements, of whatever kind, as one line from which an import writes the same bytes.

    The line comes in parts, and each element is a part as it is.
    """
    owned = b"" if owner is None else b'"owner":%b,' % orjson.dumps(owner)
    parts = (orjson.dumps(session_id), owned, orjson.dumps(FORMAT))
    before = b'{"session_id":%b,%b"format":%b,"messages":[' % parts
    for element in elements:
        yield before
        yield _embedded(element)
        before = b","
    yield (b"" if before == b"," else before) + b"]}\n"


def _lines(path: Path, file: BinaryIO, longest: int) -> Iterator[bytes]:
    """The lines of a file. A long one is measured before it is held; raises ImportFailed if it is too long."""
    for number in count_from(1):
        begun = file.tell()
        line = file.readline(_READ_BYTES)
        if not line:
            return
        if len(line) == _READ_BYTES and not line.endswith(b"\n"):
            if not _ends_within(file, begun, longest):
                raise ImportFailed(
                    f"{path}, line {number}: it has more than {longest:,} bytes, the size of "
                    f"{_MESSAGES_A_LINE} messages at the limit (TORPOR_MAX_MESSAGE_BYTES)"
                )
            file.seek(begun)
            line = file.readline()
        yield line


def _ends_within(file: BinaryIO, begun: int, longest: int) -> bool:
    """True if the line that began at a position has at most `longest` bytes. Reads no more than that of it."""
    while file.tell() - begun <= longest:
        part = file.readline(_READ_BYTES)
        if not part or part.endswith(b"\n"):
            return file.tell() - begun <= longest
    return False


def _embedded(element: bytes) -> bytes:
    """The element as it is if it can stand in a line; in base64 if not, or if it looks like one in base64."""
    return element if _stands_in_a_line(element) else b'{"raw":"%b"}' % b64encode(element)


def _stands_in_a_line(element: bytes) -> bool:
    if has_too_many_values(element):
        return False
    try:
        text = element.decode()
        if _is_raw(json.loads(text)):
            return False
        if text.count("[") + text.count("{") > _DEEP:  # the line, and what reads it, add levels of their own
            json.loads("[" * _DEEP + text + "]" * _DEEP)
    except (ValueError, RecursionError):
        return False
    return text == text.strip() and not _BREAK.search(text)


def _is_raw(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"raw"}


def _owner(texts: Mapping[str, str], name: str) -> str | None:
    """The owner that a member names, as text or as a whole number; None if it is missing or null."""
    value = json.loads(texts.get(name, "null"))
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str | None):
        raise TypeError(f"{name!r} must be an owner as text, not {type(value).__name__}")
    return None if value is None else check_owner(value)


def _conversation(line: str, owners: OwnerSource) -> Conversation:
    texts = json_texts.members(line)
    session_id, messages = (json.loads(texts[name]) for name in ("session_id", "messages"))
    if not isinstance(messages, list):
        raise TypeError('expected {"session_id": ..., "messages": [...]}')
    given = json.loads(texts.get("format", "null"))
    if given not in (None, FORMAT):
        raise ValueError(f"its format is {given!r}; this version of Torpor reads {FORMAT!r}")
    if given is None:
        elements = [_encoded(message) for message in messages]
    else:
        elements = [_stored(text) for text in json_texts.items(texts["messages"])]
    return Conversation(check_session_id(session_id), elements, owners.owner(texts))


def _stored(text: str) -> bytes:
    """The element of an export."""
    value = json.loads(text)
    return b64decode(value["raw"], validate=True) if _is_raw(value) else text.encode()


def _encoded(message: Any) -> bytes:
    """The element of a message in LangChain's stored form, or flat."""
    from langchain_core.messages import messages_from_dict

    from torpor.history.adapters.messages import encode_message

    if not isinstance(message, dict):
        raise TypeError(f"a message must be an object, not {type(message).__name__}")
    if not isinstance(message.get("data"), dict) or "content" in message:
        message = {"type": message["type"], "data": {key: value for key, value in message.items() if key != "type"}}
    element = encode_message(messages_from_dict([message])[0])
    if is_too_deep(element):
        raise ValueError("a message is nested too deep")
    return element


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return str(error).splitlines()[0]
