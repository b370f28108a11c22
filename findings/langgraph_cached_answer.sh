#!/usr/bin/env bash
# An answer from LangChain's cache of model answers is not added to a LangGraph thread that has it already.
#
# Versions: langchain-core 1.8.3, langgraph 1.2.24, with InMemoryCache and InMemorySaver.
# Why it matters: a cached answer keeps the id of the message that was stored, and the messages of a thread replace
#   those of the same id. A node that calls the model without the history (a router, a summary, answers to common
#   questions) asks the same thing twice in one thread. The second answer then takes the place of the first, and the
#   thread ends with the user's question: an application that returns the last message repeats the user's words, and the
#   next call of the model has two questions in a row. It costs nothing without the cache, so it begins on the day that
#   somebody turns it on.
# Seen:
#   without a cache: human ai human ai human ai, the last message: "At nine."
#   with the cache: human ai human ai human, the last message: "When do you open?"
# Source: set_llm_cache does not name ids. https://github.com/langchain-ai/langchain/pull/33915 leaves the ids of the
#   prompt out of the cache's key.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q langchain-core==1.8.3 langgraph==1.2.24

cat >"$folder/ask.py" <<'PY'
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState, StateGraph


class Shop(BaseChatModel):
    """A model that answers each message by itself."""

    @property
    def _llm_type(self) -> str:
        return "shop"

    def _generate(self, messages: list[BaseMessage], *args: object, **kwargs: object) -> ChatResult:
        answer = "At nine." if "open" in messages[-1].text else "You are welcome."
        return ChatResult(generations=[ChatGeneration(message=AIMessage(answer))])


for name, cache in (("without a cache", None), ("with the cache", InMemoryCache())):
    set_llm_cache(cache)
    graph = StateGraph(MessagesState)
    graph.add_node("answer", lambda state: {"messages": [Shop().invoke(state["messages"][-1:])]})
    graph.set_entry_point("answer")
    agent = graph.compile(checkpointer=InMemorySaver())
    for question in ("When do you open?", "Thanks.", "When do you open?"):
        config = {"configurable": {"thread_id": "ann"}}
        messages = agent.invoke({"messages": [("user", question)]}, config)["messages"]
    print(f'{name}: {" ".join(message.type for message in messages)}, the last message: "{messages[-1].text}"')
PY

sed -n 's/^#   \(with.*, the last message: .*\)/\1/p' "$0" >"$folder/expected"
"$folder/venv/bin/python" "$folder/ask.py" | tee "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour is gone"; exit 1; }
