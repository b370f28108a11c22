#!/usr/bin/env bash
# A field with an alias is its default again once LangGraph has read its pydantic model from a checkpoint.
#
# Versions: langgraph 1.2.24, langgraph-checkpoint 4.3.2, pydantic 2.14.3, with InMemorySaver. All savers that use
#   LangGraph's own serializer do the same.
# Why it matters: a model of somebody's API has its names in camelCase by alias_generator=to_camel. The checkpoint
#   stores such an object by its field names, and builds it anew with them as arguments. Pydantic takes only aliases
#   there, ignores the rest, and fills in the defaults: an amount is 0, a flag is off, a list is empty. Within the run
#   all is well, because it works on the live object. After an interrupt, or with the next turn, the values are gone and
#   nothing raises. With populate_by_name=True the object comes back whole.
# Seen:
#   to_camel: asks to approve 120.5 to order A7, then refunds 0.0 to order None
#   to_camel, populate_by_name: asks to approve 120.5 to order A7, then refunds 120.5 to order A7
# Source: https://github.com/langchain-ai/langgraph/issues/2555 (open) is about aliases in the input of a graph, not in
#   its checkpoints.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q langgraph==1.2.24 langgraph-checkpoint==4.3.2 pydantic==2.14.3

cat >"$folder/refund.py" <<'PY'
from typing import TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import StateGraph
from langgraph.types import Command, interrupt
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Refund(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    order_id: str | None = None
    refund_amount: float = 0.0


class RefundByName(Refund):
    model_config = ConfigDict(populate_by_name=True)


class State(TypedDict):
    refund: Refund


def text(refund: Refund) -> str:
    return f"{refund.refund_amount} to order {refund.order_id}"


for name, model in (("to_camel", Refund), ("to_camel, populate_by_name", RefundByName)):
    done = []
    graph = StateGraph(State)
    answer = '{"orderId": "A7", "refundAmount": 120.5}'
    graph.add_node("look_up", lambda state, model=model: {"refund": model.model_validate_json(answer)})
    graph.add_node("approve", lambda state: interrupt(text(state["refund"])) and None)
    graph.add_node("pay", lambda state, done=done: done.append(text(state["refund"])))
    graph.set_entry_point("look_up")
    graph.add_edge("look_up", "approve")
    graph.add_edge("approve", "pay")
    agent = graph.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "ann"}}
    [asked] = agent.invoke({}, config)["__interrupt__"]
    agent.invoke(Command(resume=True), config)
    print(f"{name}: asks to approve {asked.value}, then refunds {done[0]}")
PY

sed -n 's/^#   \(to_camel.*\)/\1/p' "$0" >"$folder/expected"
"$folder/venv/bin/python" "$folder/refund.py" | tee "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour is gone"; exit 1; }
