#!/usr/bin/env bash
# In langgraph-checkpoint-plainredis, a fork of a thread writes its messages over those of the branch that it left.
#
# Versions: langgraph-checkpoint-plainredis 0.1.0, langgraph 1.2.24, langgraph-checkpoint 4.3.2, redis 8.1.0.
# Why it matters: "edit" and "regenerate" run a thread again from an earlier checkpoint, and the old answer is kept for
#   the arrows beside it. The saver stores a channel's value under the thread and the channel's version, and its
#   versions are a plain count: both branches have a version 4 of "messages". The branch that was first then shows, and
#   goes on with, what was said in the other. InMemorySaver adds a random part to each version.
# Seen:
#   InMemorySaver  before the fork: Hello. / re: Hello. / A house? / re: A house?
#   InMemorySaver  after the fork:  Hello. / re: Hello. / A house? / re: A house?
#   RedisSaver     before the fork: Hello. / re: Hello. / A house? / re: A house?
#   RedisSaver     after the fork:  Hello. / re: Hello. / A boat? / re: A boat?
# Source: not documented. The module says that it stores values by channel and version "exactly like the
#   in-memory/sqlite savers do". JavaScript's PostgresSaver has the same collision, and keeps the first branch:
#   https://github.com/langchain-ai/langgraphjs/issues/1812.
set -euo pipefail

folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q langgraph-checkpoint-plainredis==0.1.0 langgraph==1.2.24 langgraph-checkpoint==4.3.2 \
    redis==8.1.0
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$(command -v redis-server || command -v valkey-server)" \
    --bind 127.0.0.1 --port "$port" --save '' --dir "$folder" >"$folder/server.log" &
server=$!
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 0.1; done

"$folder/venv/bin/python" -W ignore - "$port" <<'PY'
import sys

import redis
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph_checkpoint_plainredis import RedisSaver


def answer(state: MessagesState) -> dict:
    return {"messages": [("ai", "re: " + state["messages"][-1].content)]}


graph = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").add_edge("answer", END)
thread = {"configurable": {"thread_id": "chat"}}


def fork(saver: object) -> list[str]:
    app = graph.compile(checkpointer=saver)

    def texts(config: dict) -> str:
        return " / ".join(message.content for message in app.get_state(config).values["messages"])

    app.invoke({"messages": [("user", "Hello.")]}, thread)
    parting = app.get_state(thread).config
    app.invoke({"messages": [("user", "A house?")]}, parting)
    branch = app.get_state(thread).config
    seen = [texts(branch)]
    app.invoke({"messages": [("user", "A boat?")]}, parting)
    seen.append(texts(branch))
    name = type(saver).__name__
    print(f"{name:14} before the fork: {seen[0]}\n{name:14} after the fork:  {seen[1]}")
    return seen


memory, remote = fork(InMemorySaver()), fork(RedisSaver(client=redis.Redis(port=int(sys.argv[1]))))
overwritten = memory[0] == memory[1] == remote[0] and "A house?" not in remote[1] and "A boat?" in remote[1]
sys.exit(0 if overwritten else "the behaviour is gone")
PY
