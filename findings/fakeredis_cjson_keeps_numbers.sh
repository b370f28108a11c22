#!/usr/bin/env bash
# A Lua script that changes one field of a stored message leaves the others whole in fakeredis, and not in a server.
#
# Versions: fakeredis 2.41.0, lupa 2.8, redis 8.1.0; redis-server 7.0.15 or valkey-server 8.0.1.
# Why it matters: to mark a message as read, a script decodes its JSON with cjson, sets a field and encodes it again.
#   A server's cjson writes numbers with 14 digits, so an id in microseconds or a snowflake becomes another one, and
#   times lose their fraction. It writes an empty list as an object, which no reader of "tool_calls" expects. fakeredis
#   does it with Python's json: the tests of the script see nothing of that. Its own fault is the reverse one, an
#   empty object that becomes a list.
# Seen:
#   stored:    {"id": 1764374400123456, "at": 1764374400.123456, "tool_calls": [], "meta": {}}
#   fakeredis: {"at": 1764374400.123456, "id": 1764374400123456, "meta": [], "read": true, "tool_calls": []}
#   server:    {"at": 1764374400.1235, "id": 1764374400123500.0, "meta": {}, "read": true, "tool_calls": {}}
# Source: https://github.com/redis/redis/issues/7520 (numbers) and https://github.com/redis/redis/issues/856 (lists)
#   tell of the server. That fakeredis differs is not documented.
set -euo pipefail

folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'fakeredis[lua]==2.41.0' lupa==2.8 redis==8.1.0
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$(command -v redis-server || command -v valkey-server)" \
    --bind 127.0.0.1 --port "$port" --save '' --dir "$folder" >"$folder/server.log" &
server=$!
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 0.1; done

"$folder/venv/bin/python" -W ignore - "$port" <<'PY'
import json
import sys

import fakeredis
import redis

MARK_AS_READ = """
local message = cjson.decode(redis.call('LINDEX', KEYS[1], ARGV[1]))
message['read'] = true
redis.call('LSET', KEYS[1], ARGV[1], cjson.encode(message))
"""
stored = {"id": 1764374400123456, "at": 1764374400.123456, "tool_calls": [], "meta": {}}


def mark(client: redis.Redis) -> dict:
    client.rpush("chat", json.dumps(stored))
    client.eval(MARK_AS_READ, 1, "chat", 0)
    return json.loads(client.lindex("chat", 0))


fake, real = mark(fakeredis.FakeRedis()), mark(redis.Redis(port=int(sys.argv[1])))
print("stored:   ", json.dumps(stored))
print("fakeredis:", json.dumps(fake, sort_keys=True))
print("server:   ", json.dumps(real, sort_keys=True))
kept = fake == stored | {"read": True, "meta": []}
changed = real["id"] != stored["id"] and real["at"] != stored["at"] and real["tool_calls"] == {}
sys.exit(0 if kept and changed else "the behaviour is gone")
PY
