"""Whether messages stand in the order in which they were said. LangChain's messages have no time."""

from __future__ import annotations

from typing import Any

from torpor.history.elements import parse_json


class Order:
    """Looks at LangChain messages one after the other, as if the oldest came first.

    A tool answers after it was called; this proves an order. A system message or a human begins a conversation and an
    AI ends it; these are signs, because a bot may greet first, and a question may still have no answer.
    """

    def __init__(self) -> None:
        self._calls: set[str] = set()
        self._answers: set[str] = set()
        self._right = 0
        self._wrong = 0
        self._first = ""
        self._last = ""
        self._read = 0
        self._typed = 0
        self._blank = 0

    def add(self, element: bytes) -> None:
        """Look at the next LangChain message, if it is not nested too deep to be read."""
        try:
            value = parse_json(element)
        except ValueError:
            return
        if "data" not in value:
            return  # an item of the Agents SDK
        kind, data = value["type"].removesuffix("MessageChunk").lower(), value["data"]
        self._first, self._last = self._first or kind, kind
        self._read += 1
        self._typed += "type" in data
        self._blank += data.get("additional_kwargs") == {}
        if kind == "ai":
            calls = _ids(data.get("tool_calls"), "id")
            self._wrong += len(calls & self._answers)
            self._calls |= calls
        elif kind == "tool":
            answers = _ids([data], "tool_call_id")
            self._right += len(answers & self._calls)
            self._answers |= answers

    @property
    def is_wrong(self) -> bool:
        """True if the messages prove that the newest came first."""
        return self._wrong > self._right

    @property
    def seems_wrong(self) -> bool:
        """True if the newest seems to have come first, and nothing proves the contrary."""
        if self._right != self._wrong:
            return self.is_wrong
        if "system" in (self._first, self._last):
            return self._first != "system"
        return self._first in ("ai", "tool") and self._last == "human"

    @property
    def seems_right(self) -> bool:
        """True if the oldest seems to have come first, and nothing proves the contrary."""
        if self._right != self._wrong:
            return not self.is_wrong
        if "system" in (self._first, self._last):
            return self._last != "system"
        return self._first == "human" and self._last in ("ai", "tool")

    @property
    def is_right(self) -> bool:
        """True if the messages prove that the oldest came first."""
        return self._right > self._wrong

    @property
    def are_javascripts(self) -> bool:
        """True if LangChain.js has written several: only it writes empty fields, and no type in the data."""
        return self.may_be_javascripts and self._blank > 0

    @property
    def may_be_javascripts(self) -> bool:
        """True if there are several messages, and none has its type in the data, as Python's LangChain writes it."""
        return self._read > 1 and not self._typed


def _ids(parts: Any, name: str) -> set[str]:
    found = [part.get(name) for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return {each for each in found if isinstance(each, str) and each}
