"""JSON lines: conversations from and to files, each {"session_id": str, "messages": [...]}.

A message is in LangChain's stored form, {"type", "data": {...}}, or flat, {"type", "content", ...}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from torpor.history.protocol import Expiry, InvalidArgument, MessageCorrupt, SessionExists, check_session_id, parse_json
from torpor.worker.archive import contents
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ImportFailed

if TYPE_CHECKING:  # an export needs no LangChain
    from langchain_core.messages import BaseMessage


@dataclass(frozen=True, slots=True)
class Conversation:
    """One line of a file."""

    session_id: str
    messages: list[BaseMessage]


@dataclass(frozen=True, slots=True)
class Imported:
    """The counts of an import, done or planned. `skipped` sessions were in Redis or the archive already."""

    sessions: int
    messages: int
    skipped: int


def read_conversations(path: Path) -> Iterator[Conversation]:
    """The conversations of a file; raises ImportFailed, with the number of the line, for any other line."""
    seen: dict[str, int] = {}
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    conversation = _conversation(parse_json(line))
                except (ValueError, TypeError, KeyError, AttributeError) as exc:
                    raise ImportFailed(f"{path}, line {number}: {_reason(exc)}") from exc
                first = seen.setdefault(conversation.session_id, number)
                if first != number:
                    raise ImportFailed(f"{path}, line {number}: line {first} has the same session_id")
                yield conversation
    except OSError as exc:
        raise ImportFailed(f"{path} can't be read: {exc.strerror}") from exc


def count(path: Path) -> int:
    """Check all conversations of a file, and return how many there are; raises ImportFailed."""
    return sum(1 for conversation in read_conversations(path) if _encoded(path, conversation) is not None)


def import_file(
    services: Services,
    path: Path,
    *,
    expiry: Expiry = Expiry(),  # noqa: B008 - frozen
    dry_run: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> Imported:
    """Write a file's conversations to Redis, each in one atomic turn; `progress` is called after each.

    Repeatable: a session that is in Redis or the archive already is skipped. Call `count` first, because it raises
    ImportFailed for a bad line before anything is written.
    """
    sessions = messages = skipped = 0
    for conversation in read_conversations(path):
        if _import(services, path, conversation, expiry, dry_run=dry_run):
            sessions += 1
            messages += len(conversation.messages)
        else:
            skipped += 1
        progress()
    return Imported(sessions, messages, skipped)


def export_line(session_id: str, elements: list[bytes]) -> bytes:
    """A session's stored messages as one line; raises MessageCorrupt for a message that is not JSON."""
    for position, element in enumerate(elements):
        try:
            parse_json(element)
        except ValueError as exc:
            raise MessageCorrupt(f"message {position} of session {session_id!r} is not JSON") from exc
    parts = (orjson.dumps(session_id), b",".join(elements))
    return b'{"session_id":%b,"messages":[%b]}\n' % parts


def _import(services: Services, path: Path, conversation: Conversation, expiry: Expiry, *, dry_run: bool) -> bool:
    session_id = conversation.session_id
    if contents.look(services.archive, session_id):
        return False
    if dry_run:
        return services.sessions.info(session_id) is None
    elements = _encoded(path, conversation)
    try:
        services.sessions.append(session_id, elements, expiry=expiry, only_new=True)
    except SessionExists:
        return False
    return True


def _encoded(path: Path, conversation: Conversation) -> list[bytes]:
    from torpor.history.adapters.messages import encode_message

    try:
        return [encode_message(message) for message in conversation.messages]
    except InvalidArgument as exc:
        raise ImportFailed(f"{path}, session {conversation.session_id!r}: {exc}") from exc


def _conversation(line: Any) -> Conversation:
    from langchain_core.messages import messages_from_dict

    if not isinstance(line, dict) or not isinstance(line["messages"], list):
        raise TypeError('expected {"session_id": ..., "messages": [...]}')
    session_id = check_session_id(line["session_id"])
    messages = [_stored_form(message) for message in line["messages"]]
    if not messages:
        raise ValueError("it has no messages")
    return Conversation(session_id, messages_from_dict(messages))


def _stored_form(message: Any) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise TypeError(f"a message must be an object, not {type(message).__name__}")
    if isinstance(message.get("data"), dict) and "content" not in message:
        return message
    return {"type": message["type"], "data": {key: value for key, value in message.items() if key != "type"}}


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return str(error).splitlines()[0]
