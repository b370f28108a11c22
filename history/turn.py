"""What is new in what is written back at the end of a turn.

LangChain's RunnableWithMessageHistory reads a history before a turn, reads it again at its end, and takes as many of
the messages that it hands back for old ones as there are by then (`_exit_history`). Where the session was archived,
cleared or purged meanwhile, it reads fewer, and would write old messages a second time.
"""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import BaseMessage, message_to_dict


class Turn:
    """What a history was read as since its last write."""

    def __init__(self) -> None:
        self._epoch: int | None = None
        self._read: Sequence[BaseMessage] = ()
        self._still_there = 0

    def note(self, epoch: int | None, messages: Sequence[BaseMessage]) -> None:
        """The history was read: `messages` of `epoch`, None where there was no session."""
        if len(messages) >= len(self._read):
            self._epoch, self._read = epoch, tuple(messages)
        self._still_there = len(messages)

    def forget(self) -> None:
        """The history was written: the next read begins another turn."""
        self._epoch, self._read, self._still_there = None, (), 0

    @property
    def epoch(self) -> int | None:
        """In which epoch the messages were read that could come a second time; None where there are none."""
        return self._epoch if self._read else None

    def new(self, messages: Sequence[BaseMessage]) -> Sequence[BaseMessage]:
        """What is new in `messages`, where the session has left the epoch that it was read in.

        Those are old that were there at the beginning of the turn, and no more at its end: they would come first.
        """
        old = self._read[self._still_there :]
        repeated = len(messages) >= len(old) and all(map(_same, old, messages))
        return messages[len(old) :] if repeated else messages


def _same(one: BaseMessage, other: BaseMessage) -> bool:
    return one == other or message_to_dict(one) == message_to_dict(other)
