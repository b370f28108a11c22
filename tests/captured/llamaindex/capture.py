"""Writes every kind of message with LlamaIndex's own store to a Redis, and prints what Redis then has as JSON:

    python capture.py redis://localhost:6379/0 > core-0.14.25.json

Run it in an environment that has llama-index-storage-chat-store-redis.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import redis
import redis.asyncio
from llama_index.core.base.llms import types
from llama_index.core.llms import ChatMessage, MessageRole
from llama_index.storage.chat_store.redis import RedisChatStore

PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452")
CALL = {"id": "call-1", "type": "function", "function": {"name": "look", "arguments": '{"at":"ü"}'}}


def blocks(role: str, *made: Callable[[], Any], **more: Any) -> Callable[[], ChatMessage]:
    def make() -> ChatMessage:
        if "blocks" not in ChatMessage.model_fields:
            raise ValueError("this version would pass over them")
        return ChatMessage(role=role, blocks=[each() for each in made], **more)

    return make


def block(name: str, **parts: Any) -> Callable[[], Any]:
    return lambda: getattr(types, name)(**parts)


def says(role: str, text: Any, **more: Any) -> Callable[[], ChatMessage]:
    return lambda: ChatMessage(role=role, content=text, **more)


text = block("TextBlock", text="a block")
tool_call = block("ToolCallBlock", tool_call_id="call-1", tool_name="look", tool_kwargs={"at": "ü", "n": 2})

KINDS: dict[str, Callable[[], ChatMessage]] = {
    "user": says("user", "Wie geht's? 😀 日本語\n\u2028"),
    "user, empty": says("user", ""),
    "user, no content": says("user", None),
    "user with additional_kwargs": says("user", "x", additional_kwargs={"name": "ann", "deep": [{"a": [1.5, None]}]}),
    "user with a large number": says("user", "x", additional_kwargs={"n": 10**20, "f": 1e300}),
    "user of two texts": blocks("user", text, block("TextBlock", text="another")),
    "user with an image": blocks("user", text, block("ImageBlock", image=PNG, detail="low")),
    "user with the URL of an image": blocks("user", text, block("ImageBlock", url="https://example.com/a.png")),
    "user with the path of an image": blocks("user", block("ImageBlock", path=__file__)),
    "user with a sound": blocks("user", block("AudioBlock", audio=b"RIFF\0\1", format="wav")),
    "user with a film": blocks("user", block("VideoBlock", video=b"film\0\1", video_mimetype="video/mp4", fps=2)),
    "user with a document": blocks(
        "user", block("DocumentBlock", data=b"%PDF-\0", document_mimetype="application/pdf", title="a paper")
    ),
    "user with the URL of a document": blocks("user", block("DocumentBlock", url="https://example.com/a.pdf")),
    "user with a cache point": blocks(
        "user", text, lambda: types.CachePoint(cache_control=types.CacheControl(type="ephemeral"))
    ),
    "user with a citable text": blocks(
        "user", lambda: types.CitableBlock(title="t", source="s", content=[types.TextBlock(text="cited")])
    ),
    "system": says("system", "Be brief."),
    "developer": says("developer", "Be brief."),
    "assistant": says("assistant", "fine"),
    "assistant, no content": says("assistant", None),
    "assistant with a citation": blocks(
        "assistant",
        text,
        lambda: types.CitationBlock(
            cited_content=types.TextBlock(text="cited"), source="s", title="t", additional_location_info={"page": 1}
        ),
    ),
    "assistant with thinking": blocks("assistant", block("ThinkingBlock", content="hm", num_tokens=3), text),
    "assistant with signed thinking": blocks(
        "assistant", block("ThinkingBlock", content="hm", additional_information={"signature": "AA=="}), text
    ),
    "assistant with a tool call": blocks("assistant", tool_call),
    "assistant with a text and two tool calls": blocks(
        "assistant", text, tool_call, block("ToolCallBlock", tool_call_id="call-2", tool_name="look")
    ),
    "assistant with a tool call before a text": blocks("assistant", tool_call, text),
    "assistant, tool call without id": blocks("assistant", block("ToolCallBlock", tool_name="look")),
    "assistant, tool call of text": blocks(
        "assistant", block("ToolCallBlock", tool_call_id="call-1", tool_name="look", tool_kwargs='{"at":"x"}')
    ),
    "assistant, tool call of half a text": blocks(
        "assistant", block("ToolCallBlock", tool_call_id="call-1", tool_name="look", tool_kwargs='{"at"')
    ),
    "assistant with OpenAI's tool calls": says("assistant", None, additional_kwargs={"tool_calls": [CALL]}),
    "assistant with a text and OpenAI's tool calls": says("assistant", "x", additional_kwargs={"tool_calls": [CALL]}),
    "assistant with both kinds of tool calls": blocks("assistant", tool_call, additional_kwargs={"tool_calls": [CALL]}),
    "tool": says("tool", "fine", additional_kwargs={"tool_call_id": "call-1", "name": "look"}),
    "tool without a name": says("tool", "fine", additional_kwargs={"tool_call_id": "call-1"}),
    "tool without a call": says("tool", "fine"),
    "tool of blocks": blocks("tool", text, block("ImageBlock", image=PNG), additional_kwargs={"tool_call_id": "c"}),
    "function": says("function", "42", additional_kwargs={"name": "answer"}),
    "function without a name": says("function", "42"),
    "chatbot": says("chatbot", "fine"),
    "model": says("model", "fine"),
}
SESSION = ["system", "user", "assistant with OpenAI's tool calls", "tool", "assistant"]

url = sys.argv[1]
client: Any = redis.Redis.from_url(url)
store = RedisChatStore(redis_client=client, aredis_client=redis.asyncio.Redis.from_url(url), ttl=600)
elements: dict[str, str] = {}
refused: list[str] = []
for kind, make in KINDS.items():
    try:
        store.add_message("one", make())
        elements[kind] = client.lrange("one", 0, -1)[0].decode().replace(__file__, "/captured")
    except Exception:
        refused.append(kind)
    client.delete("one")
assert {each.value for each in MessageRole} <= {json.loads(each)["role"] for each in elements.values()}
for kind in SESSION:
    store.add_message("session", KINDS[kind]())
session = [each.decode() for each in client.lrange("session", 0, -1)]
store.delete_message("session", 0)
reversed_ = [each.decode() for each in client.lrange("session", 0, -1)]
client.delete("session")
packages = {name: version(name) for name in ("llama-index-core", "llama-index-storage-chat-store-redis")}
found = {"packages": packages, "elements": elements, "refused": refused, "list": session, "after_a_deletion": reversed_}
sys.stdout.write(json.dumps(found, ensure_ascii=False, indent=1) + "\n")
