#!/usr/bin/env bash
# In Chat SDK, delete() of a list works with the state in memory; with the state in Redis the list stays, without an error.
#
# Versions: @chat-adapter/state-memory 4.41.0, @chat-adapter/state-redis 4.41.1, @chat-adapter/state-ioredis 4.41.0 and chat
#   4.41.1; Redis or Valkey. Node 20 or later must be on the PATH.
# Why it matters: a bot keeps what a person said by appendToList(), and forgets it by delete() of the same key. One develops
#   and tests that with the state in memory, where a key is a key. The adapters for Redis store lists under another name
#   than values, and delete() only knows the other: what the person has had deleted is read again in the next turn, and
#   as a list has no TTL unless one is given, it stays for good. No method of the state deletes a list.
# Seen:
#   MemoryStateAdapter: 2 notes, after delete: 0
#   RedisStateAdapter: 2 notes, after delete: 2
#   IoRedisStateAdapter: 2 notes, after delete: 2
# Source: delete() of the three adapters. The README files name it without a limit.
set -euo pipefail

folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT

command -v node npm >/dev/null || { echo "Node and npm are needed"; exit 1; }
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$(command -v redis-server || command -v valkey-server)" \
    --bind 127.0.0.1 --port "$port" --save '' --dir "$folder" >"$folder/server.log" &
server=$!
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 0.1; done

sed -n 's/^#   \(.*Adapter: 2 notes, .*\)/\1/p' "$0" >"$folder/expected"
cd "$folder"
npm init -y >/dev/null
npm install --silent chat@4.41.1 @chat-adapter/state-memory@4.41.0 @chat-adapter/state-redis@4.41.1 \
    @chat-adapter/state-ioredis@4.41.0 >/dev/null

cat >forget.mjs <<'JS'
import { ConsoleLogger } from "chat";
import { createIoRedisState } from "@chat-adapter/state-ioredis";
import { createMemoryState } from "@chat-adapter/state-memory";
import { createRedisState } from "@chat-adapter/state-redis";

const url = `redis://127.0.0.1:${process.argv[2]}`;
const logger = new ConsoleLogger("silent");
const states = [
    createMemoryState(),
    createRedisState({ url, logger, keyPrefix: "one" }),
    createIoRedisState({ url, logger, keyPrefix: "two" }),
];
for (const state of states) {
    await state.connect();
    await state.appendToList("notes:ann", { text: "I have moved to Lyon." });
    await state.appendToList("notes:ann", { text: "My new number is 555." });
    const before = (await state.getList("notes:ann")).length;
    await state.delete("notes:ann");
    const after = (await state.getList("notes:ann")).length;
    console.log(`${state.constructor.name}: ${before} notes, after delete: ${after}`);
    await state.disconnect();
}
JS

node forget.mjs "$port" | tee seen
diff expected seen || { echo "the behaviour is gone"; exit 1; }
