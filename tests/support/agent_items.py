"""Items of the Agents SDK."""

from __future__ import annotations

from typing import Any

# Items of every shape that the SDK stores, and values at JSON's edges.
ITEMS: list[Any] = [
    {"role": "user", "content": "Wie geht's? 😀 日本語"},
    {"role": "user", "content": [{"type": "input_text", "text": "look"}, {"type": "input_image", "image_url": "x"}]},
    {"type": "message", "role": "assistant", "id": "m", "content": [{"type": "output_text", "text": "fine"}]},
    {"type": "function_call", "call_id": "c", "name": "look", "arguments": '{"at":"ü"}'},
    {"type": "function_call_output", "call_id": "c", "output": "half \ud83d of a pair"},
    {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "AA=="},
    {"role": "developer", "content": "n", "numbers": [10**20, 1e300, float("inf"), None]},
]
