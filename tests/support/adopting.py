"""Histories that adopt the sessions of other libraries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import redis
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from support.foreign import LAYOUTS, Foreign
from support.keyspace import raw
from support.observed import ObservedStore, StoreCall
from torpor import MemorystoreChatMessageHistory

FORMATS = list(LAYOUTS)
MEMORYSTORE = LAYOUTS["memorystore"]
TURN: list[BaseMessage] = [
    HumanMessage("Wie geht's? 😀", id="1", additional_kwargs={"nan": [1.5, None]}),
    AIMessage("", tool_calls=[{"name": "look", "args": {"at": "ü"}, "id": "call-1", "type": "tool_call"}]),
    ToolMessage("fine", tool_call_id="call-1"),
    AIMessage("gut \ud83d\n", usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),
]
WEIRD_IDS = ["{a}", "a{b}c", "a}b", "}{", "{}a", "{", "a{b", "{{a}}", "a*[b]?\\", "a b\n", "日本語", "x" * 1_024]


def history(client: Any, session_id: str = "s", adopt: Any = "memorystore", **options: Any) -> Any:
    return MemorystoreChatMessageHistory(client, session_id, adopt=adopt, **options)


def said(chat: MemorystoreChatMessageHistory) -> list[str]:
    return [str(message.content) for message in chat.messages]


def leftovers(client: Any) -> list[bytes]:
    """The keys that an unfinished adoption leaves."""
    return [key for pattern in ("torpor:adopting:*", "{torpor:*}:a") for key in raw(client, "KEYS", pattern)]


class Killed(BaseException):
    """Ends the process here."""


T = TypeVar("T")


class Moments:
    """The moments before and after each call; the process dies at the nth of them."""

    def __init__(self) -> None:
        self.passed = 0
        self.dies_at: int | None = None
        self.meanwhile: Callable[[], object] = lambda: None

    def make(self, _: StoreCall, act: Callable[[], T]) -> T:
        self._pass()
        result = act()
        self._pass()
        return result

    def _pass(self) -> None:
        self.meanwhile()
        self.passed += 1
        if self.passed - 1 == self.dies_at:
            raise Killed


# Expiry


def idle_seconds(chat: MemorystoreChatMessageHistory) -> float:
    info = chat.info()
    assert info
    return info.idle_timeout.total_seconds()


def kill_when(client: redis.Redis, *, taken: bool) -> None:
    if taken == bool(raw(client, "KEYS", "torpor:adopting:*")):
        raise Killed


# Faults


def moments(client: redis.Redis, name: str) -> int:
    """How many moments an adoption has, before and after each of its calls."""
    Foreign(client, LAYOUTS[name]).add(*"abcde")
    passing = Moments()
    store = ObservedStore(client, passing)
    store.append("other", [b"{}"])  # the deployment is known
    passing.passed = 0
    store.adopt("s", LAYOUTS[name])
    return passing.passed
