"""The turns of LangChain's RunnableWithMessageHistory.

It reads a history before a turn. In list mode it reads it again at the end (`_exit_history`), only to count the
messages, and takes that many off the turn's input; the rest is new. If the session was archived, woken, cleared, purged
or written to meanwhile, the count is wrong: with too few, old messages are written a second time; with too many, new
ones are not written. Therefore the read at the end returns the messages with which the turn began. Only its caller
distinguishes this read from any other.
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

# The most frames between LangChain and our own: those of this package, and of a class that inherits from ours.
_NEAR = 24

# A turn that fails is never ended, so the number is bounded.
_REMEMBERED = 16


class Turns:
    """The messages with which each running turn of a history began. Safe to share among threads.

    If several turns use one history at the same time, all count as begun with the messages of the last one.
    """

    def __init__(self) -> None:
        self._begun: deque[Sequence[BaseMessage]] = deque(maxlen=_REMEMBERED)

    def read_again(self) -> list[BaseMessage] | None:
        """The messages for LangChain's read at the end of a turn; None if this is another read."""
        *_, last = (None, *self._begun)
        # A write may read first, for example in a history that keeps only its last messages.
        return list(last) if last is not None and _caller(unless=_WRITE) in _END else None

    def read(self, messages: Sequence[BaseMessage]) -> None:
        """Remember the messages of a read that begins a turn of LangChain's."""
        if _caller() in _BEGIN:
            self._begun.append(messages)

    def written(self) -> None:
        """Forget the oldest turn if this write of LangChain's ends one."""
        if self._begun and _caller() in _END:
            with suppress(IndexError):
                self._begun.popleft()


def _caller(*, unless: Collection[str] = ()) -> str:
    """The name of the LangChain function that uses the history, not through those in `unless`; empty if none does."""
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
