#!/usr/bin/env bash
# Valkey 8 forgets a script that EVAL brought after 500 others, and its EVALSHA fails; Redis 7.0 keeps it.
#
# Versions: redis-server 7.0.15, valkey-server 8.0.1 (both must be on the PATH), redis 8.1.0 as the client.
# Why it matters: a common way to run a script is EVAL once and EVALSHA from then on, with no way back. On Redis 7.0
#   that holds as long as the server runs. After a move to Valkey (Memorystore for Redis to Memorystore for Valkey),
#   somebody else's scripts push it out: 500 texts that differ, such as ones with a session id formatted into them, are
#   enough. In a MULTI, the commands beside the EVALSHA are done all the same. Scripts that SCRIPT LOAD brought stay.
# Seen, after 600 other scripts:
#   redis_version 7.0.15: EVALSHA of an evaluated script: 1   of a loaded one: 2
#   valkey_version 8.0.1: EVALSHA of an evaluated script: NoScriptError   of a loaded one: 2
# Source: https://github.com/valkey-io/valkey/pull/637 ; Redis does so from 7.4 on:
#   https://redis.io/docs/latest/commands/eval/
set -euo pipefail

folder=$(mktemp -d)
servers=()
trap 'for server in "${servers[@]}"; do kill "$server"; wait "$server" || true; done; rm -rf "$folder"' EXIT

command -v redis-server valkey-server >/dev/null || { echo "redis-server 7.0 and valkey-server 8 are needed"; exit 1; }
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q redis==8.1.0
ports=()
for program in redis-server valkey-server; do
    port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
    "$program" --bind 127.0.0.1 --port "$port" --save '' --dir "$folder" >"$folder/$program.log" &
    servers+=($!)
    ports+=("$port")
    for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 0.1; done
done

"$folder/venv/bin/python" - "${ports[@]}" <<'PY'
import hashlib
import sys

import redis

EVALUATED, LOADED = "return 1", "return 2"


def by_hash(client: redis.Redis, script: str) -> object:
    try:
        return client.evalsha(hashlib.sha1(script.encode()).hexdigest(), 0)
    except redis.exceptions.NoScriptError:
        return "NoScriptError"


seen = []
for port in sys.argv[1:]:
    client = redis.Redis(port=int(port))
    client.eval(EVALUATED, 0)
    client.script_load(LOADED)
    for number in range(600):
        client.eval(f"return 'session {number}'", 0)
    info = client.info("server")
    name = "valkey_version" if "valkey_version" in info else "redis_version"
    seen += [by_hash(client, EVALUATED), by_hash(client, LOADED)]
    print(f"{name} {info[name]}: EVALSHA of an evaluated script: {seen[-2]}   of a loaded one: {seen[-1]}")
sys.exit(0 if seen == [1, 2, "NoScriptError", 2] else "the behaviour is gone, or the servers are other versions")
PY
