"""JSON lines: conversations from and to files, each {"session_id": str, "messages": [...]}.

In a file that people write, a message is in LangChain's stored form, {"type", "data": {...}}, or flat, {"type",
"content", ...}. An export adds "format", and then "messages" has the stored elements themselves, of whatever kind. An
element that can't stand in a line, because it is not JSON or has a line break, is {"raw": its bytes in base64}.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from torpor.history.protocol import (
    Expiry,
    SessionExists,
    SessionPurged,
    Status,
    check_session_id,
    is_too_deep,
)
from torpor.worker.archive import contents
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ImportFailed
from torpor.worker.transfer import json_texts

if TYPE_CHECKING:  # an export needs no LangChain
    from langchain_core.messages import BaseMessage

FORMAT = "torpor-messages/1"
_BREAK = re.compile(r"[\r\n]")
_DEEP = 100


@dataclass(frozen=True, slots=True)
class Conversation:
    """One line of a file; each element is what Redis stores of a message."""

    session_id: str
    elements: list[bytes]

    @property
    def messages(self) -> list[BaseMessage]:
        """LangChain's messages; raises MessageCorrupt for elements of another kind."""
        from torpor.history.adapters.messages import decode_message

        return [decode_message(element) for element in self.elements]


@dataclass(slots=True)
class Imported:
    """The counts of an import, done or planned.

    `skipped` sessions were in Redis or the archive already; `purged` ones stay away, because somebody had them erased.
    """

    sessions: int = 0
    messages: int = 0
    skipped: int = 0
    purged: int = 0


def read_conversations(path: Path) -> Iterator[Conversation]:
    """The conversations of a file; raises ImportFailed, with the number of the line, for any other line."""
    seen: dict[str, int] = {}
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    conversation = _conversation(line.decode("utf-8-sig"))
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
                    raise ImportFailed(f"{path}, line {number}: {_reason(exc)}") from exc
                first = seen.setdefault(conversation.session_id, number)
                if first != number:
                    raise ImportFailed(f"{path}, line {number}: line {first} has the same session_id")
                yield conversation
    except OSError as exc:
        raise ImportFailed(f"{path} can't be read: {exc.strerror}") from exc


def count(path: Path) -> int:
    """Check all conversations of a file, and return how many there are; raises ImportFailed."""
    return sum(1 for _ in read_conversations(path))


def import_file(
    services: Services,
    path: Path,
    *,
    expiry: Expiry = Expiry(),  # noqa: B008 - frozen
    dry_run: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> Imported:
    """Write a file's conversations to Redis, each in one atomic turn; `progress` is called after each.

    Repeatable: a session that is in Redis or the archive already is skipped, and one that was purged is passed over.
    Call `count` first, because it raises ImportFailed for a bad line before anything is written.
    """
    imported = Imported()
    for conversation in read_conversations(path):
        try:
            _import(services, conversation, expiry, dry_run=dry_run)
        except SessionExists:
            imported.skipped += 1
        except SessionPurged:
            imported.purged += 1
        else:
            imported.sessions += 1
            imported.messages += len(conversation.elements)
        progress()
    return imported


def export_line(session_id: str, elements: list[bytes]) -> bytes:
    """A session's stored elements, of whatever kind, as one line from which an import writes the same bytes."""
    parts = (orjson.dumps(session_id), orjson.dumps(FORMAT), b",".join(map(_embedded, elements)))
    return b'{"session_id":%b,"format":%b,"messages":[%b]}\n' % parts


def _import(services: Services, conversation: Conversation, expiry: Expiry, *, dry_run: bool) -> None:
    """Raises SessionExists, and SessionPurged; with `dry_run` as the import would, and nothing is written."""
    session_id = conversation.session_id
    live = services.sessions.info(session_id)
    if live and live.status is Status.PURGED:
        raise SessionPurged(f"session {session_id!r} was purged")
    if live or contents.look(services.archive, session_id):
        raise SessionExists(f"session {session_id!r} exists already")
    if not dry_run:
        services.sessions.append(
            session_id,
            conversation.elements,
            expiry=expiry,
            only_new=True,
            max_bytes=services.settings.max_message_bytes,
            max_depth=None,  # an export has what Redis had, and the depth of other messages is checked before
        )


def _embedded(element: bytes) -> bytes:
    """The element as it is if it can stand in a line; in base64 if not, or if it looks like one in base64."""
    return element if _stands_in_a_line(element) else b'{"raw":"%b"}' % b64encode(element)


def _stands_in_a_line(element: bytes) -> bool:
    try:
        text = element.decode()
        value = json.loads(text)
        if text.count("[") + text.count("{") > _DEEP:  # the line, and what reads it, add levels of their own
            json.loads("[" * _DEEP + text + "]" * _DEEP)
    except (ValueError, RecursionError):
        return False
    return text == text.strip() and not _BREAK.search(text) and not _is_raw(value)


def _is_raw(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"raw"}


def _conversation(line: str) -> Conversation:
    texts = json_texts.members(line)
    session_id, messages = (json.loads(texts[name]) for name in ("session_id", "messages"))
    if not isinstance(messages, list):
        raise TypeError('expected {"session_id": ..., "messages": [...]}')
    given = json.loads(texts.get("format", "null"))
    if given is None:
        return Conversation(check_session_id(session_id), [_encoded(message) for message in messages])
    if given != FORMAT:
        raise ValueError(f"its format is {given!r}; this version of Torpor reads {FORMAT!r}")
    return Conversation(check_session_id(session_id), [_stored(text) for text in json_texts.items(texts["messages"])])


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
