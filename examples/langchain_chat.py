"""A chat in the terminal, with a chain of LangChain and a history that sleeps when nobody talks.

    pip install 'torpor[archive]' langchain langchain-openai
    python examples/langchain_chat.py openai:gpt-5-mini --session ann-1 --archive gs://my-bucket/chats

Start it again with the same session when a worker has put it to sleep: the chat goes on where it ended. An empty line
ends it.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import Any

from langchain.chat_models import init_chat_model
from langchain_core.messages import HumanMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import Runnable

from torpor import MemorystoreChatMessageHistory, SessionArchive, connect

PROMPT = ChatPromptTemplate([("system", "Be brief."), MessagesPlaceholder("history"), MessagesPlaceholder("question")])


def reply(chain: Runnable[dict[str, Any], Any], history: MemorystoreChatMessageHistory, text: str) -> str:
    """Answer with the earlier messages in mind, and write all of the turn or nothing."""
    question = HumanMessage(text)
    answer = chain.invoke({"history": history.messages, "question": [question]})
    history.add_messages([question, answer])
    return str(answer.text)


def main() -> None:
    """Answer line by line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", help="as langchain.chat_models.init_chat_model takes it: provider:model")
    parser.add_argument("--session", required=True)
    parser.add_argument("--redis", default="redis://localhost:6379/0")
    parser.add_argument("--archive", required=True, help="gs://bucket/prefix or file:///path, as the workers have it")
    options = parser.parse_args()

    chain = PROMPT | init_chat_model(options.model)
    archive = SessionArchive(options.archive)
    with connect(options.redis) as client, suppress(EOFError):
        history = MemorystoreChatMessageHistory(client, options.session, ttl=3600, archive=archive)
        while text := input("you: "):
            print("ai:", reply(chain, history, text))


if __name__ == "__main__":
    main()
