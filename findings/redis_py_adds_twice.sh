#!/usr/bin/env bash
# Since redis-py 6, a message that is added while the server stands still for longer than the timeout is stored twice.
#
# Versions: redis-py 5.3.1, 6.4.0 and 8.1.0, on Redis 7.0.15 or Valkey 8.0.1.
# Why it matters: redis-py 5 raises TimeoutError. Since version 6, a command whose answer is late is sent again, up to
#   three times. A server that was only busy then does both: RPUSH, INCR and XADD are done twice, without an error.
#   `retry_on_timeout=False` is still accepted and does not prevent it. A Retry with 0 retries does.
# Seen, when the server stands still for 1.5 s and the client waits for 1 s:
#   redis-py 5.3.1: TimeoutError, stored: hello
#   redis-py 6.4.0: answer 2, stored: hello hello
#   redis-py 6.4.0, retry_on_timeout=False: answer 2, stored: hello hello
#   redis-py 6.4.0, Retry(NoBackoff(), 0): TimeoutError, stored: hello
#   redis-py 8.1.0: answer 2, stored: hello hello
#   redis-py 8.1.0, retry_on_timeout=False: answer 2, stored: hello hello
#   redis-py 8.1.0, Retry(NoBackoff(), 0): TimeoutError, stored: hello
# Source: https://github.com/redis/redis-py/issues/3554 describes this for a Retry that the caller asked for.
set -euo pipefail

folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill -CONT "$server"; kill "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT

"$(command -v redis-server || command -v valkey-server)" \
    --port 0 --unixsocket "$folder/socket" --save '' --dir "$folder" >"$folder/server.log" &
server=$!
for _ in $(seq 100); do [ -S "$folder/socket" ] && break || sleep 0.1; done

cat >"$folder/add.py" <<'PY'
import os
import signal
import sys
import threading
import warnings

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

warnings.simplefilter("ignore", DeprecationWarning)
path, server = sys.argv[1], int(sys.argv[2])
options = {"": {}}
if not redis.__version__.startswith("5."):
    options[", retry_on_timeout=False"] = {"retry_on_timeout": False}
    options[", Retry(NoBackoff(), 0)"] = {"retry": Retry(NoBackoff(), 0)}

for name, given in options.items():
    client = redis.Redis(unix_socket_path=path, socket_timeout=1, decode_responses=True, **given)
    client.delete("chat")
    os.kill(server, signal.SIGSTOP)
    goes_on = threading.Timer(1.5, os.kill, (server, signal.SIGCONT))
    goes_on.start()
    try:
        outcome = f"answer {client.rpush('chat', 'hello')}"
    except redis.exceptions.TimeoutError:
        outcome = "TimeoutError"
    goes_on.join()
    print(f"redis-py {redis.__version__}{name}: {outcome}, stored: {' '.join(client.lrange('chat', 0, -1))}")
PY

sed -n 's/^#   \(redis-py .*\)/\1/p' "$0" >"$folder/expected"
for version in 5.3.1 6.4.0 8.1.0; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install -q "redis==$version"
    "$folder/$version/bin/python" "$folder/add.py" "$folder/socket" "$server" | tee -a "$folder/seen"
done
diff "$folder/expected" "$folder/seen" || { echo "the behaviour is gone"; exit 1; }
