#!/usr/bin/env bash
# ValkeySaver.list() with a filter and a limit leaves out checkpoints that match, though it finds fewer than the limit.
#
# Versions: langgraph-checkpoint-aws 1.2.6, langgraph 1.2.24, langgraph-checkpoint 4.3.2, valkey 6.2.0.
# Why it matters: "the last three things that the user said" is list(filter={"source": "input"}, limit=3). The saver
#   reads fewer ids the more it has found already, and then goes on as if it had read a full batch, so it skips some.
#   The same call on InMemorySaver finds all three. Without the limit, or without the filter, the saver's answer is
#   complete.
# Seen:
#   InMemorySaver  limit=3: steps [5, 2, -1]
#   ValkeySaver    limit=3: steps [5]
#   ValkeySaver    no limit: steps [5, 2, -1]
# Source: BaseCheckpointSaver.list, "limit: Maximum number of checkpoints to return".
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
import sys

import valkey
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph_checkpoint_aws.checkpoint.valkey import ValkeySaver

graph = StateGraph(MessagesState).add_node("answer", lambda state: {"messages": [("ai", "Yes.")]})
graph.add_edge(START, "answer").add_edge("answer", END)
thread = {"configurable": {"thread_id": "chat"}}


def inputs(saver: object, limit: int | None) -> list[int]:
    found = saver.list(thread, filter={"source": "input"}, limit=limit)
    return [checkpoint.metadata["step"] for checkpoint in found]


memory, remote = InMemorySaver(), ValkeySaver(valkey.Valkey(port=int(sys.argv[1])))
for saver in (memory, remote):
    app = graph.compile(checkpointer=saver)
    for text in ("Hello.", "And?", "Well?"):
        app.invoke({"messages": [("user", text)]}, thread)

print("InMemorySaver  limit=3: steps", inputs(memory, 3))
print("ValkeySaver    limit=3: steps", inputs(remote, 3))
print("ValkeySaver    no limit: steps", inputs(remote, None))
complete = inputs(memory, 3) == inputs(remote, None)
sys.exit(0 if complete and len(inputs(remote, 3)) < 3 else "the behaviour is gone")
PY
