#!/usr/bin/env bash
# RunnableWithMessageHistory stores nothing of a turn whose stream was left early, even at the last of its chunks.
#
# Versions: langchain-core 1.8.3 (which calls the class deprecated).
# Why it matters: a user presses "stop" or closes the page, or a server breaks out of its loop at the chunk that says
#   chunk_position="last". The turn is stored when the iterator is exhausted, which it then never is: the answer that
#   stands on the screen is not in the history, nor is the question, and "go on" goes on with the turn before. No error
#   is raised, and the model's tokens are paid. It is the same with astream(), aclose() and a cancelled task.
# Seen:
#   read to its end:         "It rains a lot."  stored: human AIMessageChunk
#   left at the last chunk:  "It rains a lot."  stored: nothing
#   left in the middle:      "It rains"  stored: nothing
#   left in the middle, async: "It rains"  stored: nothing
# Source: not documented.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q langchain-core==1.8.3

"$folder/venv/bin/python" -W ignore - 2>"$folder/log" <<'PY' || { cat "$folder/log" >&2; exit 1; }
import asyncio
import sys
from collections.abc import Callable
from contextlib import aclosing

from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.runnables.history import RunnableWithMessageHistory

QUESTION, CONFIG = [HumanMessage("The weather?")], {"configurable": {"session_id": "chat"}}


def conversation() -> tuple[RunnableWithMessageHistory, InMemoryChatMessageHistory]:
    history = InMemoryChatMessageHistory()
    model = GenericFakeChatModel(messages=iter(["It rains a lot."]))
    return RunnableWithMessageHistory(model, lambda session_id: history), history


def show(name: str, text: str, history: InMemoryChatMessageHistory) -> list[str]:
    types = [message.type for message in history.messages]
    print(f'{name + ":":26} "{text}"  stored:', " ".join(types) or "nothing")
    return types


def read(name: str, leave: Callable[[AIMessageChunk, str], bool]) -> list[str]:
    runnable, history = conversation()
    text = ""
    for chunk in runnable.stream(QUESTION, CONFIG):
        text += chunk.content
        if leave(chunk, text):
            break
    return show(name, text, history)


async def read_async(name: str) -> list[str]:
    runnable, history = conversation()
    text = ""
    async with aclosing(runnable.astream(QUESTION, CONFIG)) as chunks:
        async for chunk in chunks:
            text += chunk.content
            if text == "It rains":
                break
    return show(name, text, history)


seen = [
    read("read to its end", lambda chunk, text: False),
    read("left at the last chunk", lambda chunk, text: chunk.chunk_position == "last"),
    read("left in the middle", lambda chunk, text: text == "It rains"),
    asyncio.run(read_async("left in the middle, async")),
]
sys.exit(0 if seen == [["human", "AIMessageChunk"], [], [], []] else "the behaviour is gone")
PY
