#!/usr/bin/env bash
# redis-py cuts a timedelta to whole seconds: expire() with one below a second deletes the key, and reports success.
#
# Versions: redis 8.1.0, valkey 6.2.0 (valkey-py); Redis or Valkey.
# Why it matters: a TTL that is computed, such as "what is left of this turn's budget" or a timeout of a setting that is
#   divided by the number of tries, may be below a second. expire() then sends EXPIRE with 0, by which the server deletes
#   the conversation at once, and returns True. Of 1.9 seconds, it takes 1. pexpire() keeps both. expireat() does the same
#   with a datetime: one that lies ahead by less than a second is in the past. The lock that was to be held for the rest
#   of the second is gone, too.
# Seen:
#   redis 8.1.0: expire(1.9 s): True, the key is there, ttl 1000 ms
#   redis 8.1.0: expire(0.9 s): True, the key is gone
#   redis 8.1.0: pexpire(0.9 s): True, the key is there, ttl 900 ms
#   redis 8.1.0: expireat(in 0.9 s): True, the key is gone
#   valkey 6.2.0: expire(1.9 s): True, the key is there, ttl 1000 ms
#   valkey 6.2.0: expire(0.9 s): True, the key is gone
#   valkey 6.2.0: pexpire(0.9 s): True, the key is there, ttl 900 ms
#   valkey 6.2.0: expireat(in 0.9 s): True, the key is gone
# Source: the docstring says that the time is "an integer or a Python timedelta object", and nothing of rounding.
set -euo pipefail

folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q redis==8.1.0 valkey==6.2.0
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$(command -v redis-server || command -v valkey-server)" \
    --bind 127.0.0.1 --port "$port" --save '' --dir "$folder" >"$folder/server.log" &
server=$!
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 0.1; done

cat >"$folder/expire.py" <<'PY'
import sys
import time
from datetime import datetime, timedelta, timezone
from importlib.metadata import version

import redis
import valkey


def start_of_a_second() -> datetime:
    """Waits for the start of a second, so that 0.9 s later is the same second."""
    time.sleep(1 - time.time() % 1)
    return datetime.now(timezone.utc)


port = int(sys.argv[1])
for name, client in {"redis": redis.Redis(port=port), "valkey": valkey.Valkey(port=port)}.items():
    calls = {
        "expire(1.9 s)": lambda: client.expire("chat", timedelta(seconds=1.9)),
        "expire(0.9 s)": lambda: client.expire("chat", timedelta(seconds=0.9)),
        "pexpire(0.9 s)": lambda: client.pexpire("chat", timedelta(seconds=0.9)),
        "expireat(in 0.9 s)": lambda: client.expireat("chat", start_of_a_second() + timedelta(seconds=0.9)),
    }
    for call, run in calls.items():
        client.delete("chat")
        client.rpush("chat", "hello")
        answer, left = run(), client.pttl("chat")
        # Up to 100 ms pass between the two commands.
        there = f"the key is there, ttl {-(-left // 100) * 100} ms" if client.exists("chat") else "the key is gone"
        print(f"{name} {version(name)}: {call}: {answer}, {there}")
PY

sed -n 's/^#   \([a-z]* [0-9.]*: .*expire.*\)/\1/p' "$0" >"$folder/expected"
"$folder/venv/bin/python" "$folder/expire.py" "$port" | tee "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour is gone"; exit 1; }
