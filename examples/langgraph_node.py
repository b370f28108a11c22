"""A LangGraph graph whose node reads the session's history and writes the turn to it.

    pip install 'torpor[archive]' langchain langchain-openai langgraph
    python examples/langgraph_node.py openai:gpt-5-mini "Where is my order?" --session ann-1 --archive gs://bucket/chats

The graph's own state is that of one turn; the earlier messages are in Memorystore, or asleep in Cloud Storage.
"""

from __future__ import annotations

import argparse
from typing import Any, TypedDict

from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage
from langgraph.graph import END, START, StateGraph

from torpor import Client, MemorystoreChatMessageHistory, SessionArchive, connect


class Turn(TypedDict, total=False):
    """What goes through the graph."""

    session_id: str
    question: str
    answer: str


def graph(model: BaseChatModel, client: Client, archive: SessionArchive) -> Any:
    """A graph of one node."""

    def answer(state: Turn) -> Turn:
        chat = MemorystoreChatMessageHistory(client, state["session_id"], ttl=3600, archive=archive)
        question = HumanMessage(state["question"])
        reply = model.invoke([*chat.last(50), question])  # the first read of a session that sleeps wakes it
        chat.add_messages([question, reply])  # all of a turn is written, or nothing
        return {"answer": str(reply.text)}

    builder = StateGraph(Turn)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder.compile()


def main() -> None:
    """Answer one question."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", help="as langchain.chat_models.init_chat_model takes it: provider:model")
    parser.add_argument("question")
    parser.add_argument("--session", required=True)
    parser.add_argument("--redis", default="redis://localhost:6379/0")
    parser.add_argument("--archive", required=True, help="gs://bucket/prefix or file:///path, as the workers have it")
    options = parser.parse_args()

    with connect(options.redis) as client:
        answers = graph(init_chat_model(options.model), client, SessionArchive(options.archive))
        print(answers.invoke({"session_id": options.session, "question": options.question})["answer"])


if __name__ == "__main__":
    main()
