"""A ChatMessage of LlamaIndex as LangChain's message, and the reverse.

Source: llama_index/core/base/llms/types.py of llama-index-core 0.11 and 0.14.25. The former has a text as `content`.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from torpor.history.elements import parse_json
from torpor.history.errors import MessageCorrupt
from torpor.history.formats.blocks import Block, Text, ToolCall, block_of, part_of

# The roles, and LangChain's types for them.
_TYPES = {
    "user": "human", "assistant": "ai", "chatbot": "ai", "model": "ai", "system": "system", "developer": "system",
    "tool": "tool", "function": "function",
}  # fmt: skip
_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool", "function": "function"}
# The field in which LangChain notes that a system message is a developer's.
_OPENAI_ROLE = "__openai_role__"
_FIELDS = {"content", "additional_kwargs", "name", "tool_calls", "invalid_tool_calls", "tool_call_id", "role", "type"}
# Fields that say nothing beyond the others.
_DERIVED = {"tool_call_chunks", "chunk_position", "example"}


class _ChatMessage(BaseModel):
    """What the library reads; another element makes all messages of a list unreadable to it."""

    model_config = ConfigDict(strict=True)

    role: Literal["user", "assistant", "chatbot", "model", "system", "developer", "tool", "function"]
    additional_kwargs: dict[str, Any]
    blocks: list[Block]


def check(element: bytes) -> None:
    """Raise ValueError if LlamaIndex can't read an element."""
    _ChatMessage.model_validate_json(element)


def taken(value: Any) -> dict[str, Any]:
    """LangChain's message of a ChatMessage; raises ValueError, TypeError or KeyError for anything else."""
    if value.keys() == {"role", "content", "additional_kwargs"}:
        text = value["content"]
        value = {**value, "blocks": [] if text is None else [{"block_type": "text", "text": text}]}
    message = _ChatMessage.model_validate({name: value[name] for name in _ChatMessage.model_fields})
    if value.keys() - {"content"} != _ChatMessage.model_fields.keys():
        raise ValueError("it is no ChatMessage")
    more, kind = dict(message.additional_kwargs), _TYPES[message.role]
    data: dict[str, Any] = {"content": ""}
    if isinstance(more.get("name"), str):
        data["name"] = more.pop("name")
    if kind == "ai":
        data.update(_calls_of(message, more))
    parts = [part_of(each) for each in message.blocks if kind != "ai" or not isinstance(each, ToolCall)]
    if parts:
        alone = len(parts) == 1 and parts[0]["type"] == "text"
        data["content"] = parts[0]["text"] if alone else parts
    if kind == "tool":
        call_id = more.pop("tool_call_id", None)
        data["tool_call_id"] = call_id if isinstance(call_id, str) else ""
    if kind == "function":
        data.setdefault("name", "")
    if message.role == "developer":
        more[_OPENAI_ROLE] = "developer"
    return {"type": kind, "data": {**data, **({"additional_kwargs": more} if more else {})}}


def _calls_of(message: _ChatMessage, more: dict[str, Any]) -> dict[str, Any]:
    """The calls of tools in the blocks, and OpenAI's in `more`, which lose those; a call that is in both is one."""
    calls = [
        (each.tool_call_id, each.tool_name, each.tool_kwargs) for each in message.blocks if isinstance(each, ToolCall)
    ]
    others = more.get("tool_calls")
    match others:
        case [{"function": {"name": str(), "arguments": _}}, *_]:
            called = [(each.get("id"), each["function"]["name"], each["function"]["arguments"]) for each in others]
            calls += [each for each in called if each[0] is None or each[0] not in {known for known, *_ in calls}]
            del more["tool_calls"]
    valid, invalid = [], []
    for call_id, name, arguments in calls:
        known = {"name": name, "id": call_id}
        parsed = _parsed(arguments)
        if isinstance(parsed, dict):
            valid.append({**known, "args": parsed, "type": "tool_call"})
        else:
            text = arguments if isinstance(arguments, str) else json.dumps(arguments)
            invalid.append({**known, "args": text, "error": None, "type": "invalid_tool_call"})
    found = {"tool_calls": valid, "invalid_tool_calls": invalid}
    return {name: each for name, each in found.items() if each}


def _parsed(arguments: Any) -> Any:
    if not isinstance(arguments, str):
        return arguments
    try:
        return parse_json(arguments.encode()) if arguments.strip() else {}
    except ValueError:
        return None


def given(value: dict[str, Any]) -> dict[str, Any]:
    """A ChatMessage that says what a LangChain message says; raises MessageCorrupt, ValueError or TypeError."""
    kind, data = value["type"].removesuffix("MessageChunk").lower(), value["data"]
    more = dict(data.get("additional_kwargs") or {})
    role = _ROLES.get(kind) or (kind == "chat" and data.get("role") in _TYPES and data["role"])
    if not role:
        raise MessageCorrupt(f"is of the type {kind!r}, for which LlamaIndex has no role")
    if kind == "system" and more.get(_OPENAI_ROLE) == "developer":
        role = more.pop(_OPENAI_ROLE)
    if more.get("images"):
        raise MessageCorrupt("has images in additional_kwargs, which LlamaIndex can't read")
    if kind == "tool" and data.get("tool_call_id"):
        more["tool_call_id"] = data["tool_call_id"]
    if data.get("name"):
        more["name"] = data["name"]
    calls = _calls(data)
    blocks = [*_content(data, {each.tool_call_id for each in calls}), *calls]
    return {"role": role, "additional_kwargs": more, "blocks": [each.model_dump() for each in blocks]}


def _calls(data: dict[str, Any]) -> list[ToolCall]:
    found = [(each, each.get("args") or {}) for each in data.get("tool_calls") or []]
    found += [(each, each.get("args") or "") for each in data.get("invalid_tool_calls") or []]
    return [
        ToolCall(tool_call_id=each.get("id"), tool_name=each.get("name") or "", tool_kwargs=arguments)
        for each, arguments in found
    ]


def _content(data: dict[str, Any], calls: set[str | None]) -> list[BaseModel]:
    content = data["content"]
    if isinstance(content, str):
        return [Text(text=content)] if content or not calls else []
    blocks = []
    for number, part in enumerate(content):
        if isinstance(part, dict) and (part.get("call_id") or part.get("id")) in calls - {None}:
            continue  # a provider's form of a call that stands in tool_calls
        block = block_of(part)
        if block is None:
            named = f"type {part.get('type')!r}" if isinstance(part, dict) else type(part).__name__
            raise MessageCorrupt(f"has a part {number} of the {named}, for which LlamaIndex has no block")
        blocks.append(block)
    return blocks


def unsaid(data: dict[str, Any]) -> list[str]:
    """The fields of a message that `given` leaves out."""
    return [
        name
        for name, value in data.items()
        if value and name not in _FIELDS | _DERIVED and (name, value) != ("status", "success")
    ]
