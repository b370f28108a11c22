#!/usr/bin/env bash
# redis-py 8 keeps the replies of its methods as they were, and changes those of the same commands sent as raw ones.
#
# Versions: redis 7.4.1 and 8.1.0 with the defaults of each; any Redis or Valkey from 7.0.
# Why it matters: version 8 speaks RESP3 by default and turns replies of its own methods back into the old shape. What
#   goes through execute_command() and no method, in a pipeline too, is as the protocol has it: a flat list of bytes
#   becomes a list of pairs, and scores become floats. Code that reads an index of sessions by raw commands (for
#   options that the methods do not have) takes pairs for members after the update, with no error at that place.
# Seen:
#   redis 7.4.1: method [(b'chat', 1.5)]  raw [b'chat', b'1.5']  script [b'chat', b'1.5']
#   redis 8.1.0: method [(b'chat', 1.5)]  raw [[b'chat', 1.5]]  script [b'chat', b'1.5']
# Source: https://github.com/redis/redis-py/releases/tag/v8.0.0b2 tells of the new default, and not of raw commands.
#   `protocol=2` gives back the old replies.
set -euo pipefail

folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
for version in 7.4.1 8.1.0; do
    "$folder/venv/bin/pip" install -q --target "$folder/redis-$version" "redis==$version"
done
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$(command -v redis-server || command -v valkey-server)" \
    --bind 127.0.0.1 --port "$port" --save '' --dir "$folder" >"$folder/server.log" &
server=$!
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 0.1; done

cat >"$folder/read.py" <<'PY'
import sys

import redis

client = redis.Redis(port=int(sys.argv[1]))
client.zadd("due", {"chat": 1.5})
method = client.zrange("due", 0, -1, withscores=True)
raw = client.execute_command("ZRANGE", "due", 0, -1, "WITHSCORES")
script = client.eval("return redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')", 1, "due")
print(f"redis {redis.__version__}: method {method}  raw {raw}  script {script}")
PY
for version in 7.4.1 8.1.0; do
    PYTHONPATH="$folder/redis-$version" "$folder/venv/bin/python" "$folder/read.py" "$port" | tee -a "$folder/seen"
done
old="redis 7.4.1: method [(b'chat', 1.5)]  raw [b'chat', b'1.5']  script [b'chat', b'1.5']"
new="redis 8.1.0: method [(b'chat', 1.5)]  raw [[b'chat', 1.5]]  script [b'chat', b'1.5']"
[ "$(cat "$folder/seen")" = "$old"$'\n'"$new" ] || { echo "the behaviour is gone"; exit 1; }
