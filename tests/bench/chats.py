"""The conversations for the measurements: questions of 60 and answers of 600 characters, made of words."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Sequence

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, message_to_dict
from langchain_core.messages.ai import UsageMetadata

from torpor.history.adapters.messages import encode_message

_SYLLABLES = [
    "ba",
    "ce",
    "di",
    "fo",
    "gu",
    "ha",
    "je",
    "ki",
    "lo",
    "mu",
    "na",
    "pe",
    "ri",
    "so",
    "tu",
    "va",
    "we",
    "xi",
    "yo",
    "zu",
]
_random = random.Random(7)
_WORDS = ["".join(_random.choices(_SYLLABLES, k=_random.randint(1, 4))) for _ in range(1_500)]


def text(size: int) -> str:
    """A text of `size` characters."""
    return " ".join(_random.choices(_WORDS, k=size // 2))[:size]


def turn() -> list[BaseMessage]:
    """A question and its answer."""
    return [HumanMessage(text(60)), AIMessage(text(600))]


def plain(count: int) -> list[BaseMessage]:
    """`count` messages of turns."""
    return [message for _ in range(count // 2) for message in turn()]


def rich(count: int) -> list[BaseMessage]:
    """`count` messages; the answers have tool calls, ids, usage and response metadata."""
    return [message for number in range(count // 2) for message in _rich_turn(number)]


def _rich_turn(number: int) -> list[BaseMessage]:
    usage = UsageMetadata(input_tokens=812, output_tokens=96, total_tokens=908)
    answer = AIMessage(
        text(300),
        id=f"run-{uuid.uuid4()}",
        tool_calls=[{"name": "search", "args": {"query": text(20), "limit": 3}, "id": f"call_{number}"}],
        usage_metadata=usage,
        response_metadata={
            "model_name": "gemini-2.5-pro",
            "finish_reason": "STOP",
            "safety_ratings": [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "NEGLIGIBLE"}] * 4,
        },
    )
    return [HumanMessage(text(60), id=str(uuid.uuid4())), answer]


def ours(messages: Sequence[BaseMessage]) -> list[bytes]:
    """Messages as Torpor stores them."""
    return [encode_message(message) for message in messages]


def theirs(messages: Sequence[BaseMessage]) -> list[bytes]:
    """Messages as the peer stores them."""
    return [json.dumps(message_to_dict(message)).encode() for message in messages]


def session_ids(count: int) -> list[str]:
    """Fresh session ids, as applications make them."""
    return [str(uuid.uuid4()) for _ in range(count)]
