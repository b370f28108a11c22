#!/usr/bin/env bash
# With ioredis' automatic pipelines, a transaction or pipeline overtakes the commands that were given before it.
#
# Versions: ioredis 6.0.0; Redis or Valkey. Node 20 or later must be on the PATH.
# Why it matters: Redis does the commands of a connection in their order, and Node programs rely on that when they await
#   several of them together. With enableAutoPipelining, an option for speed, a single
#   command waits for the end of the turn of the event loop, while multi().exec() and pipeline().exec() go out at once. A
#   chat then has the answer before the question, a history that was cleared and refilled is empty, and what had been
#   written before an "EXPIRE" transaction has no TTL. No error is raised. Turning the option on, or off, changes it.
# Seen:
#   enableAutoPipelining false: rpush, then multi: question, answer
#   enableAutoPipelining false: rpush, then pipeline: question, answer
#   enableAutoPipelining false: del, then multi: answer
#   enableAutoPipelining true: rpush, then multi: answer, question
#   enableAutoPipelining true: rpush, then pipeline: answer, question
#   enableAutoPipelining true: del, then multi:
# Source: the README says which commands of a turn are sent together, and nothing of their order;
#   https://github.com/redis/ioredis/issues/1978 asks about the order among single commands, which is kept.
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

sed -n 's/^#   \(enableAutoPipelining .*: .*\)/\1/p' "$0" >"$folder/expected"
cd "$folder"
npm init -y >/dev/null
npm install --silent ioredis@6.0.0 >/dev/null

cat >order.mjs <<'JS'
import Redis from "ioredis";

const pairs = {
    "rpush, then multi": (redis) => [
        redis.rpush("chat", "question"),
        redis.multi().rpush("chat", "answer").exec(),
    ],
    "rpush, then pipeline": (redis) => [
        redis.rpush("chat", "question"),
        redis.pipeline().rpush("chat", "answer").exec(),
    ],
    "del, then multi": (redis) => [redis.del("chat"), redis.multi().rpush("chat", "answer").exec()],
};
for (const enableAutoPipelining of [false, true]) {
    const redis = new Redis(Number(process.argv[2]), { enableAutoPipelining });
    for (const [name, commands] of Object.entries(pairs)) {
        await redis.del("chat");
        await Promise.all(commands(redis));
        const stored = await redis.lrange("chat", 0, -1);
        console.log(`enableAutoPipelining ${enableAutoPipelining}: ${name}: ${stored.join(", ")}`.trimEnd());
    }
    redis.disconnect();
}
JS

node order.mjs "$port" | tee seen
diff expected seen || { echo "the behaviour is gone"; exit 1; }
