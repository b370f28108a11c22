#!/usr/bin/env bash
# A message object that is given to a LangGraph thread a second time is not added to it: only the answer is.
#
# Versions: langgraph 1.2.24, langgraph-checkpoint 4.3.2, langchain-core 1.8.3.
# Why it matters: the reducer add_messages writes a new id into the caller's own object. A constant of the module, such
#   as NUDGE = HumanMessage("Go on."), has the same id from its first use on, in all threads, and add_messages replaces
#   what has the id already. From the second use on, the model is called with a transcript that ends in its own last
#   answer. ("user", "Go on.") in its place is added each time.
# Seen:
#   the constant: ['Go on.', 'answer 1', 'answer 2', 'answer 3']
#   the pair: ['Go on.', 'answer 1', 'Go on.', 'answer 2', 'Go on.', 'answer 3']
# Source: add_messages says that a message on the right with an id of the left replaces it, not that it sets the id.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q langgraph==1.2.24 langgraph-checkpoint==4.3.2 langchain-core==1.8.3

"$folder/venv/bin/python" -W ignore - <<'PY'
import itertools
import sys

from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph

NUDGE = HumanMessage("Go on.")


def transcript(nudge: object) -> list[str]:
    numbers = itertools.count(1)
    graph = StateGraph(MessagesState)
    graph.add_node("answer", lambda state: {"messages": [("ai", f"answer {next(numbers)}")]})
    graph.add_edge(START, "answer").add_edge("answer", END)
    app = graph.compile(checkpointer=InMemorySaver())
    for _ in range(3):
        state = app.invoke({"messages": [nudge]}, {"configurable": {"thread_id": "chat"}})
    return [message.content for message in state["messages"]]


constant, pair = transcript(NUDGE), transcript(("user", "Go on."))
print("the constant:", constant)
print("the pair:", pair)
sys.exit(0 if constant.count("Go on.") == 1 and pair.count("Go on.") == 3 else "the behaviour is gone")
PY
