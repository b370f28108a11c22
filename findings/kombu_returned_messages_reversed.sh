#!/usr/bin/env bash
# A kombu consumer on Redis that closes gives back what it has fetched in reverse: the newest of it is delivered first.
#
# Versions: kombu 5.7.0, redis 8.1.0; Redis or Valkey.
# Why it matters: a Celery worker fetches some messages ahead, and each deployment closes it. With one queue for a
#   user's turns, what was said first is then worked on last, although one producer, one queue and one consumer at a
#   time seem to promise their order. Nothing is lost or doubled, so no count shows it.
# Seen:
#   sent: [0, 1, 2, 3, 4]
#   fetched by the first consumer, which closes: [0, 1, 2]
#   delivered to the next one: [2, 1, 0, 3, 4]
# Source: https://github.com/celery/kombu/pull/254 asks for what is given back to stand before what waits, not for its
#   order.
set -euo pipefail

folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'kombu[redis]==5.7.0' redis==8.1.0
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$(command -v redis-server || command -v valkey-server)" \
    --bind 127.0.0.1 --port "$port" --save '' --dir "$folder" >"$folder/server.log" &
server=$!
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 0.1; done

"$folder/venv/bin/python" -W ignore - "redis://127.0.0.1:$port/0" <<'PY'
import sys

from kombu import Connection


def fetch(count: int) -> list[int]:
    """What one consumer is delivered; it acknowledges nothing before it closes."""
    with Connection(sys.argv[1]) as connection, connection.SimpleQueue("turns") as queue:
        return [queue.get(timeout=5).payload for _ in range(count)]


with Connection(sys.argv[1]) as connection, connection.SimpleQueue("turns") as queue:
    for turn in range(5):
        queue.put(turn)
print("sent:", list(range(5)))
first = fetch(3)
print("fetched by the first consumer, which closes:", first)
second = fetch(5)
print("delivered to the next one:", second)
sys.exit(0 if first == [0, 1, 2] and second == [2, 1, 0, 3, 4] else "the behaviour is gone")
PY
