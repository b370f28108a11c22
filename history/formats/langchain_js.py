"""The format of LangChain.js."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from typing import Any, ClassVar

from torpor.history.elements import is_message, parse_json, to_json_line
from torpor.history.errors import MessageCorrupt
from torpor.history.formats.layout import Layout, Taken
from torpor.history.formats.original import with_original
from torpor.history.limits import is_too_deep


@dataclass(frozen=True, slots=True, eq=False)
class LangChainJs(Layout):
    """The key is the session id, and the newest message comes first.

    A message that Python can't read is converted, and has its original beside it. The others stay the bytes that they
    are. Sources: RedisChatMessageHistory of @langchain/redis 1.1.2 and of @langchain/community 1.1.29, and `toDict` of
    @langchain/core 0.1 to 1.4.
    """

    elements: ClassVar[str] = "langchain-js"
    no_element: ClassVar[str] = "not all of it is messages of LangChain.js"

    newest_first: bool = True

    def take(self, element: bytes) -> Taken | None:
        """The element, converted if Python can't read it."""
        # No zero-argument super(): it does not find the class that slots=True makes.
        if taken := Layout.take(self, element):
            return taken
        try:
            value = parse_json(element)
            made = with_original(_converted(value), self.elements, element)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return Taken(made, str(value["type"])) if is_message(made) else None

    def knows(self, element: bytes) -> bool:
        """True if Python can't read it, or if it has `additional_kwargs` and no type in its data."""
        if is_too_deep(element) or (taken := self.take(element)) is None or Layout.knows(self, element):
            return False
        return taken.converted is not None or "additional_kwargs" in parse_json(element)["data"]

    def give(self, element: bytes) -> bytes:
        """The original if there is one, else the message as JavaScript writes it; raises MessageCorrupt."""
        given = Layout.give(self, element)
        if self.original(element):
            return given
        value = parse_json(given)
        kind = value["type"]
        named = {"chat": "generic"}.get(kind, kind.removesuffix("MessageChunk").lower())
        if named not in _KINDS:
            raise MessageCorrupt(f"is of the type {kind!r}, which LangChain.js can't read")
        if place := _inexact(value["data"]):
            raise MessageCorrupt(f"has {place}, which JavaScript reads as another value")
        if named == kind:
            return given
        data = {name: each for name, each in value["data"].items() if name != "type"}
        return to_json_line({"type": named, "data": data})


# The types that `mapStoredMessageToChatMessage` of @langchain/core reads.
_KINDS = {"human", "ai", "system", "tool", "function", "generic"}
# Each integer up to the first one is a double; none above the second one is.
_EXACT, _LARGEST = 2**53, int(sys.float_info.max)


def _inexact(value: Any) -> str | None:
    """Describe the first number that JavaScript can't represent: its JSON has no NaN, and its numbers are doubles."""
    if isinstance(value, dict | list):
        return next(filter(None, map(_inexact, value.values() if isinstance(value, dict) else value)), None)
    if isinstance(value, float) and not math.isfinite(value):
        return "a number that is not finite"
    if isinstance(value, int) and abs(value) > _EXACT and (abs(value) > _LARGEST or int(float(value)) != value):
        return "an integer that no double can hold"
    return None


def _converted(value: Any) -> dict[str, Any]:
    """A message of LangChain.js as Python's; raises an error for anything else."""
    kind = value["type"]
    data = dict(value["data"]) if value.keys() == {"type", "data"} else _flat(value)
    if data.get("content") is None:  # a message of content blocks alone, or of no text
        data["content"] = data.pop("content_blocks", None) or ""
    if kind == "generic":
        return {"type": "chat", "data": {**data, "role": data.get("role") or ""}}
    if kind == "ai":
        _mend_calls(data)
        _mend_usage(data)
    needed = {"tool": "tool_call_id", "function": "name"}.get(kind)
    if needed and data.get(needed) is None:
        data[needed] = ""
    return {"type": kind, "data": data}


def _flat(value: dict[str, Any]) -> dict[str, Any]:
    """The data of a message that has none: {"type", "text", "role"}, or {"type"} if JavaScript lost the content."""
    if not value.keys() <= {"type", "text", "role"}:
        raise ValueError("it is no message")
    return {"content": value.get("text"), **({"role": value["role"]} if value.get("role") else {})}


def _mend_calls(data: dict[str, Any]) -> None:
    """Give each tool call what Python needs; one whose arguments are no object is an invalid tool call."""
    valid, invalid = [], list(data.get("invalid_tool_calls") or [])
    for call in data.get("tool_calls") or []:
        arguments = _arguments(call.get("args"))
        named = {**call, "name": call.get("name") or "", "id": call.get("id")}
        if isinstance(arguments, dict):
            valid.append({**named, "args": arguments})
        else:
            text = arguments if isinstance(arguments, str) else json.dumps(arguments)
            invalid.append({**named, "args": text, "error": None, "type": "invalid_tool_call"})
    data["tool_calls"], data["invalid_tool_calls"] = valid, invalid


def _arguments(given: Any) -> Any:
    """The arguments of a tool call as an object, if they are one, or the JSON text of one, or nothing."""
    if given is None:
        return {}
    if isinstance(given, str):
        try:
            parsed = parse_json(given.encode())
        except ValueError:
            return given
        return parsed if isinstance(parsed, dict) else given
    return given


def _mend_usage(data: dict[str, Any]) -> None:
    """Complete the counts of tokens: a missing one is none, and the total is the sum."""
    if not (usage := data.pop("usage_metadata", None)):
        return
    parts = {name: usage.get(name) or 0 for name in ("input_tokens", "output_tokens")}
    total = usage.get("total_tokens")
    data["usage_metadata"] = {**usage, **parts, "total_tokens": sum(parts.values()) if total is None else total}
