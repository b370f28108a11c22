"""Writes every kind of message with langchain-redis to a Redis with modules, and prints the documents as JSON:

    python capture.py redis://localhost:6379/0 > 0.2.6.json

Run it in an environment that has langchain-redis.
"""

from __future__ import annotations

import json
import sys
import warnings
from importlib.metadata import version
from typing import Any

import redis
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_redis import RedisChatMessageHistory

warnings.simplefilter("ignore")
CALL: Any = {"name": "look", "args": {"at": "ü"}, "id": "call-1", "type": "tool_call"}
OPENAI = {"id": "call-1", "type": "function", "function": {"name": "look", "arguments": '{"at":"ü"}'}}
USAGE: Any = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
KINDS: dict[str, BaseMessage] = {
    "human": HumanMessage("Wie geht's? 😀 日本語\n\u2028", id="1", name="ann"),
    "human, empty": HumanMessage(""),
    "human with additional_kwargs": HumanMessage("x", additional_kwargs={"deep": [{"a": [1.5, None]}], "n": 2**53 + 1}),
    "human of texts": HumanMessage(["a", "b"]),
    "human of blocks": HumanMessage([{"type": "text", "text": "look"}, IMAGE]),
    "system": SystemMessage("Be brief."),
    "ai": AIMessage("fine", usage_metadata=USAGE, response_metadata={"model_name": "m"}),
    "ai with tool calls": AIMessage("", tool_calls=[CALL]),
    "ai with OpenAI's tool calls": AIMessage("", additional_kwargs={"tool_calls": [OPENAI]}),
    "ai chunk": AIMessageChunk(content="piece"),
    "tool": ToolMessage("bad", tool_call_id="call-1", name="look", status="error", artifact={"rows": [1]}),
    "function": FunctionMessage(content="42", name="answer"),
    "chat": ChatMessage(content="aside", role="narrator"),
    "remove": RemoveMessage(id="1"),
}

url = sys.argv[1]
client: Any = redis.Redis.from_url(url, protocol=2)
client.flushall()


def documents() -> dict[str, str]:
    found = {
        key: client.eval("return redis.call('JSON.GET', KEYS[1])", 1, key).decode() for key in client.keys("chat:*")
    }
    ordered = sorted(found, key=lambda key: json.loads(found[key])["timestamp"])
    return {key.decode(): found[key] for key in ordered}


elements: dict[str, str] = {}
refused: list[str] = []
for kind, message in KINDS.items():
    history = RedisChatMessageHistory("s", redis_url=f"{url}?protocol=2")
    try:
        history.add_message(message)
        [elements[kind]] = documents().values()
    except Exception:
        refused.append(kind)
    client.flushall()
history = RedisChatMessageHistory("session", redis_url=f"{url}?protocol=2", ttl=600)
history.add_messages([KINDS[kind] for kind in ("system", "human", "ai with tool calls", "tool", "ai")])
session = documents()
client.flushall()
packages = {name: version(name) for name in ("langchain-redis", "langchain-core")}
found = {
    "packages": packages,
    "elements": elements,
    "refused": refused,
    "keys": list(session),
    "list": list(session.values()),
}
sys.stdout.write(json.dumps(found, ensure_ascii=False, indent=1) + "\n")
