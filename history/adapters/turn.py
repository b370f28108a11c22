"""The turns of LangChain's RunnableWithMessageHistory.

It reads a history before a turn, and in list mode once more at its end, only to take as many messages off the turn's
input as there are by then (`_exit_history`). Where the session was put to sleep, woken, cleared, purged or written to
meanwhile, that is too few, and old messages are written a second time, or too many, and new ones are not written. So
the read at the end is answered with what the turn began with; nothing but its caller tells it from any other.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from inspect import currentframe

from langchain_core.messages import BaseMessage

_LANGCHAIN = "langchain_core.runnables.history"
_BEGIN = {"_enter_history", "_aenter_history"}
_END = {"_exit_history", "_aexit_history"}
_WRITE = {"add_messages", "aadd_messages"}

# How far LangChain may be from what it calls: our own frames, and those of a class that is built on ours.
_NEAR = 24

# Turns that fail are never ended.
_REMEMBERED = 16


class Turns:
    """What the turns that a history is used in began with. Safe to share among threads.

    Turns at the same time that share one history are taken to have begun as the last of them.
    """

    def __init__(self) -> None:
        self._begun: deque[Sequence[BaseMessage]] = deque(maxlen=_REMEMBERED)

    def read_again(self) -> list[BaseMessage] | None:
        """What LangChain finds at the end of a turn; None for whoever else reads."""
        *_, last = (None, *self._begun)
        # What is written to may read itself first, as a history does that keeps its last messages only.
        return list(last) if last is not None and _caller(unless=_WRITE) in _END else None

    def read(self, messages: Sequence[BaseMessage]) -> None:
        """The history was read: by LangChain, this begins a turn."""
        if _caller() in _BEGIN:
            self._begun.append(messages)

    def written(self) -> None:
        """The history is written to: by LangChain, this ends a turn."""
        if self._begun and _caller() in _END:
            with suppress(IndexError):
                self._begun.popleft()


def _caller(*, unless: Collection[str] = ()) -> str:
    """The function of LangChain's that uses a history, and not by way of those named; empty for other users."""
    if _LANGCHAIN not in sys.modules:
        return ""
    frame = currentframe()
    for _ in range(_NEAR):
        frame = frame and frame.f_back
        if frame is None:
            break
        name = frame.f_code.co_name
        if frame.f_globals.get("__name__") == _LANGCHAIN:
            return name
        if name in unless:
            break
    return ""
