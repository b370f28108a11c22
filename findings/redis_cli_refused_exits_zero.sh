#!/usr/bin/env bash
# redis-cli and valkey-cli end with exit code 0 when the server has refused the command.
#
# Versions: redis-tools 7.0.15, valkey-tools 8.0.1 (both must be on the PATH, with their servers).
# Why it matters: `redis-cli ping` is the health check of most compose files. With a password on the server and none for
#   the check, the container is healthy although nobody was let in; so it is while a server still loads its data. A shell
#   script that copies chats with `redis-cli RPUSH ... || exit 1` goes on when the server is full, and deletes the
#   originals. The option -e makes the exit code 1; a check can also look for PONG.
# Seen, for each of both programs:
#   ping refused by NOAUTH: exit 0, with -e: exit 1   RPUSH refused by OOM: exit 0, with -e: exit 1
# Source: https://redis.io/docs/latest/develop/tools/cli/ has -e, without the exit code of a call that lacks it.
set -euo pipefail

folder=$(mktemp -d)
servers=()
trap 'for server in "${servers[@]}"; do kill "$server"; wait "$server" || true; done; rm -rf "$folder"' EXIT

command -v redis-server redis-cli valkey-server valkey-cli >/dev/null || { echo "the servers and their clients are needed"; exit 1; }
unset REDISCLI_AUTH VALKEYCLI_AUTH

start() { # program, options: sets port
    port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
    "$1" --bind 127.0.0.1 --port "$port" --save '' --dir "$folder" "${@:2}" >"$folder/$port.log" &
    servers+=($!)
    for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 0.1; done
}

code() { # a command: prints its exit code, and leaves what it said in said
    local code=0
    "$@" >"$folder/said" 2>&1 || code=$?
    echo "$code"
}

wrong=0
for name in redis valkey; do
    "$name-cli" --version
    start "$name-server" --requirepass secret
    plain=$(code "$name-cli" -p "$port" ping)
    grep -q NOAUTH "$folder/said" || wrong=1
    strict=$(code "$name-cli" -e -p "$port" ping)
    start "$name-server" --maxmemory 100kb --maxmemory-policy noeviction
    full=$(code "$name-cli" -p "$port" RPUSH chat hello)
    grep -q OOM "$folder/said" || wrong=1
    full_strict=$(code "$name-cli" -e -p "$port" RPUSH chat hello)
    echo "ping refused by NOAUTH: exit $plain, with -e: exit $strict   RPUSH refused by OOM: exit $full, with -e: exit $full_strict"
    [ "$plain $strict $full $full_strict" = "0 1 0 1" ] || wrong=1
done
[ "$wrong" -eq 0 ] || { echo "the behaviour is gone, or the servers are other versions"; exit 1; }
