"""Messages of every kind that Python's LangChain stores, by name."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    HumanMessageChunk,
    SystemMessage,
    ToolMessage,
)

_USAGE: Any = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
_CALL: Any = {"name": "look", "args": {"at": "ü", "n": 2**53}, "id": "call-1", "type": "tool_call"}
_CHUNK: Any = {"name": "look", "args": '{"at":"x"}', "id": "call-4", "index": 0, "type": "tool_call_chunk"}

SAID: dict[str, BaseMessage] = {
    "human": HumanMessage("Wie geht's? 😀 日本語", name="ann", id="1", additional_kwargs={"deep": [{"a": None}]}),
    "human of blocks": HumanMessage([{"type": "text", "text": "look"}]),
    "human chunk": HumanMessageChunk(content="piece"),
    "system": SystemMessage("Be brief."),
    "ai with tool calls": AIMessage("", tool_calls=[_CALL], usage_metadata=_USAGE),
    "ai, half a pair": AIMessage("half \ud83d of a pair"),
    "ai chunk": AIMessageChunk(content="piece", tool_call_chunks=[_CHUNK], usage_metadata=_USAGE),
    "tool": ToolMessage("bad", tool_call_id="call-1", artifact={"rows": [1, None]}, status="error", name="look"),
    "function": FunctionMessage(content="42", name="answer"),
    "chat": ChatMessage(content="aside", role="narrator"),
}
