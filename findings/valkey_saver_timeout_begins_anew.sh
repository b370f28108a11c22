#!/usr/bin/env bash
# ValkeySaver takes a read that times out for a new thread, so the agent begins anew and forgets for good.
#
# Versions: langgraph-checkpoint-aws 1.2.6, langgraph 1.2.24, langgraph-checkpoint 4.3.2, valkey 6.2.0.
# Why it matters: one reply that is late (a failover, a slow command of somebody else) is logged and answered with "no
#   checkpoint". If the server is back a moment later, as it is, the turn is written as a thread of its own in front of
#   the old one: from then on the conversation has that turn as its first. The user gets an answer, and no error.
# Seen (the server pauses once, for 0.7 s; the client waits 0.5 s):
#   turn 1: the model is given 1 messages
#   turn 2: the model is given 3 messages
#   turn 3: the model is given 5 messages
#   Error in get_tuple: Timeout reading from socket
#   turn 4: the model is given 1 messages
#   turn 5: the model is given 3 messages
# Source: BaseCheckpointSaver.get_tuple returns None if there is no checkpoint; langgraph-checkpoint-plainredis 0.1.0
#   raises the client's TimeoutError here.
set -euo pipefail

folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'langgraph-checkpoint-aws[valkey]==1.2.6' langgraph==1.2.24 \
    langgraph-checkpoint==4.3.2 valkey==6.2.0
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$(command -v valkey-server || command -v redis-server)" \
    --bind 127.0.0.1 --port "$port" --save '' --dir "$folder" >"$folder/server.log" &
server=$!
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 0.1; done

"$folder/venv/bin/python" -W ignore - "$port" <<'PY'
import logging
import sys
import time

import valkey
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph_checkpoint_aws.checkpoint.valkey import ValkeySaver

logging.basicConfig(level=logging.ERROR, format="%(message)s", stream=sys.stdout)
port = int(sys.argv[1])
given: list[int] = []


def answer(state: MessagesState) -> dict:
    given.append(len(state["messages"]))
    return {"messages": [("ai", "Yes.")]}


graph = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").add_edge("answer", END)
app = graph.compile(checkpointer=ValkeySaver(valkey.Valkey(port=port, socket_timeout=0.5)))
thread = {"configurable": {"thread_id": "chat"}}
for turn in range(1, 6):
    if turn == 4:
        valkey.Valkey(port=port).client_pause(700)
    app.invoke({"messages": [("user", "And?")]}, thread)
    print(f"turn {turn}: the model is given {given[-1]} messages", flush=True)
    if turn == 4:
        time.sleep(0.5)
sys.exit(0 if given == [1, 3, 5, 1, 3] else "the behaviour is gone")
PY
