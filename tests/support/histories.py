"""Chat histories, and the descriptions of their sessions."""

from __future__ import annotations

from typing import Any

import redis
import redis.asyncio
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from redis.backoff import NoBackoff
from redis.retry import Retry

from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import (
    SessionInfo,
)

TURN: list[BaseMessage] = [
    HumanMessage("Wie geht's? 😀"),
    AIMessage("", tool_calls=[{"name": "look", "args": {"at": "ü"}, "id": "call-1", "type": "tool_call"}]),
    ToolMessage("fine", tool_call_id="call-1"),
    AIMessage("gut\n", id="run-1"),
]
NO_RETRY = Retry(NoBackoff(), 0)


def history(client: redis.Redis, session_id: str = "s", **options: Any) -> MemorystoreChatMessageHistory:
    return MemorystoreChatMessageHistory(client, session_id, **options)


def described(chat: MemorystoreChatMessageHistory) -> SessionInfo:
    info = chat.info()
    assert info is not None
    return info
