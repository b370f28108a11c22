"""LangGraph threads in the ledger: each checkpoint has the messages of its parent and one of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from support.savers import checkpoint, config
from torpor import MemorystoreSaver
from torpor.history.records.record import Checkpoint, Record, from_element
from torpor.history.records.thread import Thread

_SERDE = JsonPlusSerializer()
# Long enough for a reference to the value before.
_PADDING = "." * 100


def is_thread(session: str) -> bool:
    return session.startswith("thread-")


class GrowingThread:
    """A thread as a process that runs a graph has it: it reads the thread once and then goes on from what it wrote."""

    def __init__(self, saver: MemorystoreSaver, session: str, owner: str | None) -> None:
        self._saver = saver
        self._start = config(session, **({} if owner is None else {"owner": owner}))
        self._where: Any = None
        self._messages: list[str] = []
        self._version: Any = None

    def forget(self) -> None:
        """Read the thread again before the next checkpoint, as another process does."""
        self._where = None

    def catch_up(self) -> None:
        """Read the thread, and wake it if it sleeps, unless the process knows it."""
        if self._where is not None:
            return
        found = self._saver.get_tuple(self._start)
        self._messages = found.checkpoint["channel_values"]["messages"] if found else []
        self._version = found.checkpoint["channel_versions"]["messages"] if found else None
        self._where = found.config if found else self._start

    def put(self, texts: Sequence[str]) -> None:
        """Write a checkpoint with one more message."""
        [text] = texts
        where, self._where = self._where, None  # it stays forgotten if this fails
        self._version = self._saver.get_next_version(self._version, None)
        versions = {"messages": self._version}
        self._messages = [*self._messages, text + _PADDING]
        made = checkpoint({"messages": self._messages}, versions)
        self._where = self._saver.put(where, made, {"source": "loop", "step": 1, "text": text}, versions)  # type: ignore[typeddict-unknown-key]

    def put_writes(self, texts: Sequence[str]) -> None:
        """Write what a task has done after the checkpoint."""
        self._saver.put_writes(self._where, [("messages", [text + _PADDING for text in texts])], texts[0])

    def delete(self) -> None:
        """Delete the thread."""
        self.forget()
        self._saver.delete_thread(self._start["configurable"]["thread_id"])


def text_of(element: bytes) -> str:
    """The ledger's name of a record."""
    return _text(from_element(element))


def wrong_values(session: str, elements: Sequence[bytes]) -> list[str]:
    """The checkpoints that have not the messages of their parents and their own message."""
    thread = Thread(session, elements)
    found: dict[str, list[str]] = {}
    wrong = []
    for name in reversed(thread.names()):
        stored = thread.get(name)
        assert stored
        messages = _SERDE.loads_typed(stored.values["messages"])
        expected = [*found.get(stored.checkpoint.parent or "", []), _text(stored.checkpoint) + _PADDING]
        found[name.id] = messages
        if messages != expected:
            wrong.append(f"{_text(stored.checkpoint)}: {messages} instead of {expected}")
    return wrong


def _text(record: Record) -> str:
    if isinstance(record, Checkpoint):
        text: str = _SERDE.loads_typed(record.rest)[1]["text"]
        return text
    return record.task
