"""Samples of elements, from which the dictionary is trained: the frameworks' own members around our own words."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata

from torpor.history.adapters.messages import encode_message
from torpor.history.elements import to_json_line

_HERE = Path(__file__).parent
_PHRASES = (_HERE / "phrases.txt").read_text().splitlines()
_FRAGMENTS = (_HERE / "fragments.txt").read_text()
_TOOLS = ["search", "lookup", "get_order", "get_weather", "find_items", "create_ticket", "send_email", "run_query"]
_MEMBERS = [
    "id", "name", "query", "limit", "offset", "status", "type", "title", "text", "value", "price", "total", "count",
    "date", "time", "city", "country", "address", "email", "phone", "user_id", "order_id", "items", "results", "error",
    "message", "description", "category", "quantity", "url", "created_at", "updated_at", "location", "currency",
]  # fmt: skip

# How many words of a text stay as they are. The others are new, as most of a text is that the dictionary does not have:
# the tables of letters that come with the dictionary must be good for those.
_KNOWN = 0.4
_WORDS = [word for phrase in _PHRASES for word in phrase.split(" ")]
_FIRST = [word[0] for word in _WORDS if word]
_NEXT: dict[str, list[str]] = {}
for _word in _WORDS:
    for _letter, _following in pairwise([*_word, " "]):
        _NEXT.setdefault(_letter, []).append(_following)


class Samples:
    """Makes elements; the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def some(self, count: int) -> Iterator[bytes]:
        """So many elements of all kinds."""
        for _ in range(count):
            yield self._random.choices(
                [self._message, self._item],
                [4, 1],
            )[0]()

    def _message(self) -> bytes:
        makers = [self._human, self._answer, self._calling, self._tool, self._system]
        return encode_message(self._random.choices(makers, [6, 6, 4, 4, 1])[0]())

    def _human(self) -> BaseMessage:
        return HumanMessage(self._text(1, 3), id=self._maybe(self._uuid()))

    def _system(self) -> BaseMessage:
        return SystemMessage(self._text(2, 6))

    def _answer(self) -> BaseMessage:
        said = self._text(1, 6)
        if self._random.random() < 0.15:
            said += "\n\n" + self._fragment()
        content: Any = [{"type": "text", "text": said}] if self._random.random() < 0.15 else said
        return AIMessage(content, **self._provider())

    def _calling(self) -> BaseMessage:
        calls = [
            {"name": self._tool_name(), "args": self._object(), "id": self._call_id(), "type": "tool_call"}
            for _ in range(self._random.randint(1, 2))
        ]
        return AIMessage("", tool_calls=calls, **self._provider())

    def _tool(self) -> BaseMessage:
        found: Any = self._object() if self._random.random() < 0.5 else {"results": [self._object() for _ in range(3)]}
        content = json.dumps(found) if self._random.random() < 0.7 else self._text(1, 2)
        return ToolMessage(content, tool_call_id=self._call_id(), name=self._tool_name(), id=self._maybe(self._uuid()))

    def _item(self) -> bytes:
        """An item of the Agents SDK, as the models' APIs have it."""
        text = self._text(1, 4)
        items: list[Any] = [
            {"role": "user", "content": text},
            {
                "id": f"msg_{self._hex(48)}",
                "content": [{"annotations": [], "text": text, "type": "output_text", "logprobs": []}],
                "role": "assistant",
                "status": "completed",
                "type": "message",
            },
            {
                "arguments": json.dumps(self._object()),
                "call_id": self._call_id(),
                "name": self._tool_name(),
                "type": "function_call",
                "id": f"fc_{self._hex(48)}",
                "status": "completed",
            },
            {"call_id": self._call_id(), "output": text, "type": "function_call_output"},
            {"id": f"rs_{self._hex(48)}", "summary": [{"text": text, "type": "summary_text"}], "type": "reasoning"},
        ]
        return to_json_line(self._random.choice(items))

    def _provider(self) -> dict[str, Any]:
        """What a model's provider adds to an answer; nothing in half of them."""
        given, taken = self._random.randint(20, 9_000), self._random.randint(5, 900)
        usage = UsageMetadata(
            input_tokens=given,
            output_tokens=taken,
            total_tokens=given + taken,
            input_token_details=InputTokenDetails(cache_read=0, audio=0),
            output_token_details=OutputTokenDetails(reasoning=0, audio=0),
        )
        identity = f"run-{self._uuid()}" if self._random.random() < 0.5 else f"lc_run--{self._uuid()}-0"
        metadata: list[dict[str, Any]] = [
            {
                "token_usage": {
                    "completion_tokens": taken,
                    "prompt_tokens": given,
                    "total_tokens": given + taken,
                    "completion_tokens_details": {"accepted_prediction_tokens": 0, "reasoning_tokens": 0},
                    "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 0},
                },
                "model_provider": "openai",
                "model_name": "gpt-5-mini",
                "system_fingerprint": f"fp_{self._hex(10)}",
                "id": f"chatcmpl-{self._hex(29)}",
                "finish_reason": self._random.choice(["stop", "tool_calls", "length"]),
                "logprobs": None,
            },
            {
                "id": f"msg_{self._hex(24)}",
                "model": "claude-sonnet-4-5",
                "stop_reason": self._random.choice(["end_turn", "tool_use"]),
                "stop_sequence": None,
                "usage": {
                    "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": 0,
                    "input_tokens": given,
                    "output_tokens": taken,
                    "service_tier": "standard",
                },
                "model_name": "claude-sonnet-4-5",
                "model_provider": "anthropic",
            },
            {
                "prompt_feedback": {"block_reason": 0, "safety_ratings": []},
                "finish_reason": "STOP",
                "model_name": "gemini-2.5-flash",
                "safety_ratings": [
                    {"category": "HARM_CATEGORY_HATE_SPEECH", "probability": "NEGLIGIBLE", "blocked": False},
                    {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "NEGLIGIBLE", "blocked": False},
                    {"category": "HARM_CATEGORY_HARASSMENT", "probability": "NEGLIGIBLE", "blocked": False},
                    {"category": "HARM_CATEGORY_SEXUALLY_EXPLICIT", "probability": "NEGLIGIBLE", "blocked": False},
                ],
                "model_provider": "google_genai",
            },
        ]
        full = {"id": identity, "response_metadata": self._random.choice(metadata), "usage_metadata": usage}
        return self._random.choice([{}, {}, full, {"id": identity}])

    def _text(self, least: int, most: int) -> str:
        """Sentences, and runs of words of them, so that no sentence counts as a whole."""
        parts = []
        for _ in range(self._random.randint(least, most)):
            words = self._random.choice(_PHRASES).split(" ")
            begin = self._random.randrange(len(words))
            chosen = words[begin : begin + self._random.randint(3, 14)]
            parts.append(" ".join(word if self._random.random() < _KNOWN else self._word() for word in chosen))
        return " ".join(parts)

    def _word(self) -> str:
        """A word that nobody knows, with the letters of ours."""
        letters = [self._random.choice(_FIRST)]
        while len(letters) < 14 and (following := self._random.choice(_NEXT[letters[-1]])) != " ":
            letters.append(following)
        return "".join(letters)

    def _fragment(self) -> str:
        lines = _FRAGMENTS.splitlines()
        begin = self._random.randrange(len(lines))
        return "\n".join(lines[begin : begin + self._random.randint(2, 8)])

    def _object(self) -> dict[str, Any]:
        return {name: self._value() for name in self._random.sample(_MEMBERS, self._random.randint(1, 5))}

    def _value(self) -> Any:
        return self._random.choice(
            [
                self._random.choice(_PHRASES).split(" ")[0],
                self._text(1, 1),
                self._random.randint(0, 2_000),
                round(self._random.uniform(0, 200), 2),
                self._random.choice([True, False, None]),
                f"2026-{self._random.randint(1, 12):02}-{self._random.randint(1, 28):02}T10:30:00Z",
            ]
        )

    def _tool_name(self) -> str:
        return self._random.choice(_TOOLS)

    def _call_id(self) -> str:
        return self._random.choice([f"call_{self._hex(24)}", f"toolu_{self._hex(24)}", self._uuid()])

    def _maybe(self, value: str) -> str | None:
        return value if self._random.random() < 0.5 else None

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def _hex(self, length: int) -> str:
        return f"{self._random.getrandbits(4 * length):0{length}x}"
