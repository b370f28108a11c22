"""A LangGraph graph that waits for a person's approval. The thread sleeps meanwhile, and another process resumes it.

    pip install 'torpor[archive,langgraph]' langgraph
    python examples/langgraph_approval.py --refund 120 --thread order-7 --archive gs://bucket/chats
    python examples/langgraph_approval.py --approve yes --thread order-7 --archive gs://bucket/chats

The first command prints the question and ends. Days may pass before the second one: the worker has put the thread to
sleep in Cloud Storage, and the first read wakes it up.
"""

from __future__ import annotations

import argparse
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from torpor import MemorystoreSaver, SessionArchive, connect


class Refund(TypedDict, total=False):
    """The state of a thread."""

    amount: int
    approved: bool
    answer: str


def ask(state: Refund) -> Refund:
    """Stop until a person has answered."""
    return {"approved": interrupt(f"Refund {state['amount']} euros?") == "yes"}


def answer(state: Refund) -> Refund:
    """Tell the customer."""
    return {"answer": f"We refund {state['amount']} euros." if state["approved"] else "We can't refund this."}


def graph(saver: MemorystoreSaver) -> Any:
    """Two nodes, the first of which waits for a person."""
    builder = StateGraph(Refund)
    builder.add_node("ask", ask)
    builder.add_node("tell", answer)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "tell")
    builder.add_edge("tell", END)
    return builder.compile(checkpointer=saver)


def main() -> None:
    """Begin a thread, or resume it with the person's answer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--refund", type=int, help="begin: the amount")
    parser.add_argument("--approve", choices=["yes", "no"], help="resume: the person's answer")
    parser.add_argument("--thread", required=True)
    parser.add_argument("--owner", help="the customer; a purge of the owner finds the thread")
    parser.add_argument("--redis", default="redis://localhost:6379/0")
    parser.add_argument("--archive", required=True, help="gs://bucket/prefix or file:///path, as the workers have it")
    options = parser.parse_args()

    config = {"configurable": {"thread_id": options.thread, "owner": options.owner}}
    given: Any = Command(resume=options.approve) if options.approve else {"amount": options.refund}
    with connect(options.redis) as client:
        # A thread that waits for a person may sleep after five minutes, and any other after an hour.
        saver = MemorystoreSaver(client, ttl=3600, interrupted_ttl=300, archive=SessionArchive(options.archive))
        state = graph(saver).invoke(given, config)
    waiting = [each.value for each in state.get("__interrupt__", ())]
    print(waiting[0] if waiting else state["answer"])


if __name__ == "__main__":
    main()
