#!/usr/bin/env bash
# In langgraph-checkpoint-plainredis, a TTL deletes what has not changed in a thread, while the thread is in use.
#
# Versions: langgraph-checkpoint-plainredis 0.1.0, langgraph 1.2.24, langgraph-checkpoint 4.3.2, redis 8.1.0.
# Why it matters: the saver keeps each channel's value under a key of its own and sets the TTL of those alone that a
#   step changes. The messages change with each turn and live on; who the user is was set once, and goes after one TTL.
#   The graph goes on with a state that has a hole in it, and neither the saver nor LangGraph says so.
# Seen (ttl=2, one turn each 0.4 s):
#   0.0 s: 2 messages, the user is Ada
#   ...
#   2.1 s: 12 messages, the user is None
# Source: the docstring of the package's module promises the usual "no checkpoint" errors for expired threads.
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
import time

import redis
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph_checkpoint_plainredis import RedisSaver


class State(MessagesState):
    user: str


def answer(state: State) -> dict:
    return {"messages": [("ai", "Yes.")]}


graph = StateGraph(State).add_node("answer", answer).add_edge(START, "answer").add_edge("answer", END)
app = graph.compile(checkpointer=RedisSaver(client=redis.Redis(port=int(sys.argv[1])), ttl=2))
thread = {"configurable": {"thread_id": "chat"}}

begun = time.monotonic()
state = app.invoke({"messages": [("user", "Hello.")], "user": "Ada"}, thread)
while True:
    seconds = time.monotonic() - begun
    print(f"{seconds:.1f} s: {len(state['messages'])} messages, the user is {state.get('user')}")
    if seconds > 4 or "user" not in state:
        break
    time.sleep(0.4)
    state = app.invoke({"messages": [("user", "And?")]}, thread)
lost = "user" not in state and len(state["messages"]) > 4
sys.exit(0 if lost else "the behaviour is gone")
PY
