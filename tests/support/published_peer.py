"""Run by the Python of another virtual environment: langchain-google-memorystore-redis as it is published.

`published_peer.py write URL CLUSTER` writes sessions of all kinds of messages, and
`published_peer.py read URL CLUSTER SESSION...` reads them.
Both print, for each session, its id and its messages as JSON, as that library reads them.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import redis
from langchain_community.chat_message_histories import RedisChatMessageHistory  # type: ignore[import-not-found,unused-ignore]
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    message_to_dict,
)
from langchain_google_memorystore_redis import MemorystoreChatMessageHistory  # type: ignore[import-not-found,unused-ignore]

USAGE: Any = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
MESSAGES: list[BaseMessage] = [
    SystemMessage("Be brief. \u202e\x1b[2J", id="system-1"),
    HumanMessage(
        "Wie geht's? 😀 日本語", name="ann", id="1", additional_kwargs={"nan": float("nan"), "deep": [{"a": [1.5]}]}
    ),
    HumanMessage(
        [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
    ),
    AIMessage(
        "",
        id="run-1",
        tool_calls=[{"name": "look", "args": {"at": "ü", "n": 10**20}, "id": "call-1", "type": "tool_call"}],
        invalid_tool_calls=[{"name": "x", "args": "{", "id": "call-2", "error": "bad", "type": "invalid_tool_call"}],
        usage_metadata={
            "input_tokens": 1,
            "output_tokens": 2,
            "total_tokens": 3,
            "input_token_details": {"cache_read": 1},
        },
        response_metadata={"model_name": "gemini", "safety": [], "infinite": float("inf")},
    ),
    ToolMessage("fine", tool_call_id="call-1", artifact={"rows": [1, None]}, status="error", name="look"),
    FunctionMessage(content="42", name="answer"),
    ChatMessage(content="aside", role="narrator"),
    AIMessageChunk(content="piece", usage_metadata=USAGE),
    AIMessage("half \ud83d of a pair", example=True),
    HumanMessage(""),
]
SESSIONS = {"plain": None, "with a ttl": 600, "日本語/😀": None, "{tagged}:1": 900, "odd}{": None}


def connected(url: str, cluster: str) -> Any:
    return (redis.cluster.RedisCluster if cluster == "True" else redis.Redis).from_url(url)


def write(url: str, cluster: str) -> None:
    client = connected(url, cluster)
    for session_id, ttl in SESSIONS.items():
        MemorystoreChatMessageHistory(client, session_id, ttl=ttl).add_messages(MESSAGES)
    community = RedisChatMessageHistory("community", url=url, ttl=600)
    community.add_messages(MESSAGES)
    read(url, cluster, *SESSIONS)
    show("community", community.messages)


def read(url: str, cluster: str, *sessions: str) -> None:
    for session_id in sessions:
        show(session_id, MemorystoreChatMessageHistory(connected(url, cluster), session_id).messages)


def show(session_id: str, messages: list[BaseMessage]) -> None:
    # The messages are text within the line: NaN is not equal to itself.
    sys.stdout.write(json.dumps([session_id, json.dumps([message_to_dict(each) for each in messages])]) + "\n")


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](*sys.argv[2:])
