"""In which order messages stand, as far as they tell."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from torpor.history.adapters.messages import encode_message
from torpor.history.order import Order

SYSTEM, HUMAN, AI = SystemMessage("s"), HumanMessage("h"), AIMessage("a")
CALL = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "1"}])
ANSWER = ToolMessage("found", tool_call_id="1")


def look(messages: list[BaseMessage]) -> Order:
    order = Order()
    for message in messages:
        order.add(encode_message(message))
    return order


@pytest.mark.parametrize(
    ("messages", "proved"),
    [
        ([HUMAN, AI], False),
        ([HUMAN, AI, HUMAN, AI], False),
        ([HUMAN, AIMessageChunk(content="a")], False),
        ([SYSTEM, HUMAN, AI], False),
        ([SYSTEM, AI, HUMAN], False),
        ([HUMAN, CALL, ANSWER, AI], True),
        ([HUMAN, CALL, ANSWER], True),
        ([AI, HUMAN, CALL, ANSWER, AI, HUMAN], True),
    ],
    ids=lambda value: "-".join(each.type for each in value) if isinstance(value, list) else "",
)
def test_a_conversation_and_its_reverse_are_told_apart(messages: list[BaseMessage], proved: object) -> None:
    right, wrong = look(messages), look(messages[::-1])
    assert (right.is_wrong, right.seems_wrong, right.seems_right) == (False, False, True)
    assert (wrong.is_wrong, wrong.seems_wrong, wrong.seems_right) == (proved, True, False)


@pytest.mark.parametrize("messages", [[], [HUMAN], [AI], [SYSTEM], [HUMAN] * 3, [HUMAN, AI, HUMAN], [AI, HUMAN, AI]])
def test_what_tells_nothing_is_taken_as_it_is(messages: list[BaseMessage]) -> None:
    for order in (look(messages), look(messages[::-1])):
        assert (order.seems_wrong, order.seems_right) == (False, False)
