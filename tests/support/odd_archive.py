"""An archive with everything that a query engine may stumble over, and what it holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any
from uuid import UUID

import redis
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from support.savers import checkpoint, config
from support.transcripts import read_transcript
from torpor import MemorystoreChatMessageHistory, MemorystoreSaver
from torpor.worker.archive import contents, names
from torpor.worker.archive.contents import Segment
from torpor.worker.archive.segment import pack
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import RestoreOutcome, restore_session

# The objects of a session come before all others if the first byte of its SHA-256 is below this.
_EARLY = 0x08
# Query engines look at so many files, in the order of their names, to learn the fields.
SAMPLED_FILES = 32
ITEMS = [
    b'{"role":"user","content":"Where is my order?"}',
    b'{"type":"function_call","call_id":"c1","name":"find","arguments":"{\\"ID\\": 7}"}',
    b'{"type":"function_call_output","call_id":"c1","output":"on its way"}',
    b'{"type":"message","role":"assistant","content":[{"type":"output_text","text":"On"},{"text":"Friday."}]}',
]
# No JSON; two lines; far more values than text.
UNUSUAL = [
    b"\xff no message",
    b'{"type": "human",\n "data": {"content": "two lines"}}',
    b'{"a":[%b[]]}' % (b"[]," * 400_000),
]
DEEP = 190
LONG_TEXT = "many words " * 110_000


def fill(client: redis.Redis, services: Services) -> dict[str, list[bytes]]:
    """Put odd sessions to sleep; returns the stored messages of each."""
    for session_id, messages in _chats():
        _say(client, services, session_id, messages)
    _sleep_raw(services, "items", ITEMS)
    _sleep_raw(services, "unusual", UNUSUAL)
    _sleep_thread(client, services)
    _change_only_the_expiry(client, services)
    _upload_again(services, "0012")
    chats = [session_id for session_id, _ in _chats()]
    others = ["items", "unusual", "thread", "expiry"]
    assert not any(map(_is_early, (*chats[SAMPLED_FILES + 1 :], *others)))
    return {session_id: read_transcript(services, session_id) for session_id in (*chats, *others)}


def _chats() -> Iterator[tuple[str, list[BaseMessage]]]:
    # First, by the names of their objects, come UUIDs and dates alone; then something else.
    early = _ids(before=True)
    for number in range(SAMPLED_FILES + 1):
        dated = HumanMessage(f"question {number}", id=str(UUID(int=number)), response_metadata={"on": "2026-01-01"})
        yield next(early), [dated]
    late = _ids(before=False)
    yield next(late), [HumanMessage("later", id="run-1", response_metadata={"on": "yesterday"})]
    yield f"late {next(late)}", _called({"id": 1})
    yield f"late {next(late)}", _called({"ID": "x"})
    for text in ("abcdef00-0000-4000-8000-00000000abcd", "ABCDEF00-0000-4000-8000-00000000ABCD"):
        yield text, [HumanMessage(text)]
    yield "0012", [HumanMessage("a number as an id"), AIMessage("yes", id="run-2")]
    yield "2026-01-01", [HumanMessage("a date as an id")]
    nested: Any = "the innermost"
    for _ in range(DEEP):
        nested = [nested]
    yield "deep", [AIMessage("deep", additional_kwargs={"nested": nested})]
    yield "numbers", [AIMessage("numbers", additional_kwargs={"large": 2**70, "exact": 12345678901234567890})]
    yield "Was gibt's? 😀/\t\\\"", [HumanMessage("quotes ' \" \\ and\nlines\u2028 \x7f 😀")]
    yield "long", [HumanMessage(LONG_TEXT)]


def _called(arguments: dict[str, Any]) -> list[BaseMessage]:
    call = {"name": "find", "args": arguments, "id": "call-1"}
    return [HumanMessage("find it"), AIMessage("", tool_calls=[call]), ToolMessage("found", tool_call_id="call-1")]


def _ids(*, before: bool) -> Iterator[str]:
    """Ids that are UUIDs, whose objects come first by their names, or other ids, whose objects come later."""
    for number in count(1):
        session_id = str(UUID(int=number << 64)) if before else f"user {number}"
        if _is_early(session_id) is before:
            yield session_id


def _is_early(session_id: str) -> bool:
    return hashlib.sha256(session_id.encode()).digest()[0] < _EARLY


def _say(client: redis.Redis, services: Services, session_id: str, messages: list[BaseMessage]) -> None:
    MemorystoreChatMessageHistory(client, session_id, owner="ann").add_messages(messages)
    assert archive_session(services, session_id).outcome is Outcome.ARCHIVED


def _sleep_raw(services: Services, session_id: str, elements: list[bytes]) -> None:
    services.sessions.append(session_id, elements)
    assert archive_session(services, session_id).outcome is Outcome.ARCHIVED


def _sleep_thread(client: redis.Redis, services: Services) -> None:
    saver = MemorystoreSaver(client, owner="ann")
    question, answer = HumanMessage("Where is my order?"), AIMessage("It arrives on Friday.")
    metadata: Any = {"source": "loop", "step": 0, "parents": {}}
    version = saver.get_next_version(None, None)
    first = checkpoint({"messages": [question]}, {"messages": version})
    where = saver.put(config("thread"), first, metadata, {"messages": version})
    saver.put_writes(where, [("messages", [answer])], "task-1", "~__pregel_pull, model")
    later: Any = {"messages": saver.get_next_version(version, None)}
    again: Any = {**metadata, "step": 1}
    saver.put(where, checkpoint({"messages": [question, answer]}, later), again, later)
    assert archive_session(services, "thread").outcome is Outcome.ARCHIVED


def _change_only_the_expiry(client: redis.Redis, services: Services) -> None:
    """A segment without messages."""
    _say(client, services, "expiry", [HumanMessage("for an hour")])
    assert restore_session(services, "expiry").outcome is RestoreOutcome.RESTORED
    MemorystoreChatMessageHistory(client, "expiry", owner="ann").set_expiry(ttl=3600)
    assert archive_session(services, "expiry").outcome is Outcome.ARCHIVED
    assert 0 in {segment.name.stop - segment.name.start for segment in _segments(services, "expiry")}


def _upload_again(services: Services, session_id: str) -> None:
    """A segment with the messages of another one, as a worker leaves it that lost its lease during the upload."""
    [first] = _segments(services, session_id)
    epoch, at_ms = first.name.epoch, first.name.epoch // 1000 + 5
    packed = pack(session_id, epoch, 0, at_ms, [read_transcript(services, session_id)])
    described = dict(first.stored.metadata) | {"sha256": packed.sha256}
    described.pop("check")
    with packed.body:
        name = names.segment_name(session_id, packed.name)
        services.archive.put(name, packed.body, packed.size, metadata=described)


def _segments(services: Services, session_id: str) -> Sequence[Segment]:
    return contents.look(services.archive, session_id).segments
