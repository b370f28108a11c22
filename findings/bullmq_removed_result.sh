#!/usr/bin/env bash
# BullMQ keeps the result of a job that was removed: in the stream of events, without a TTL.
#
# Versions: bullmq 6.7.0 with ioredis 6.0.0; Redis or Valkey. Node 20 or later must be on the PATH.
# Why it matters: a worker that asks a model returns the answer as the result of its job. With removeOnComplete, or after
#   job.remove(), getJob() finds nothing, and one takes the words for gone. But the event of the completion has the
#   whole result, that of a failure the message of the error, that of a progress its data. The stream has the last
#   10,000 events or so of the queue, for as long as nothing new comes, and is part of each snapshot. drain() and clean()
#   do not touch it; only trimEvents(0) and obliterate() do.
# Seen:
#   removeOnComplete: job found false, result in Redis true
#   job.remove(): job found false, result in Redis true
#   removeOnFail: job found false, error in Redis true
#   after drain and clean: results in Redis true, ttl -1
#   after trimEvents(0): results in Redis false
# Source: https://docs.bullmq.io/guide/events says that events are kept in a stream that is trimmed to some 10,000, and
#   https://docs.bullmq.io/guide/queues/auto-removal-of-jobs nothing of what an event keeps of a removed job.
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

sed -n '/^# Seen:/,/^# Source:/{s/^#   //p}' "$0" | head -5 >"$folder/expected"
cd "$folder"
npm init -y >/dev/null
npm install --silent bullmq@6.7.0 ioredis@6.0.0 >/dev/null

cat >jobs.mjs <<'JS'
import { Queue, QueueEvents, Worker } from "bullmq";
import Redis from "ioredis";

const connection = { host: "127.0.0.1", port: Number(process.argv[2]) };
const redis = new Redis(connection);
const queue = new Queue("answers", { connection });
const events = new QueueEvents("answers", { connection });
await events.waitUntilReady();
const worker = new Worker(
    "answers",
    async (job) => {
        if (job.name === "fails") throw new Error(`${job.data.person} is in debt`);
        return `${job.data.person} is ill`;
    },
    { connection },
);

/** Is the text in any key of this Redis? */
async function has(text) {
    for (const key of await redis.keys("*")) {
        if ((await redis.dumpBuffer(key)).includes(text)) return true;
        if ((await redis.type(key)) === "stream" && JSON.stringify(await redis.xrange(key, "-", "+")).includes(text))
            return true;
    }
    return false;
}

async function found(job) {
    return (await queue.getJob(job.id)) !== undefined;
}

const removed = await queue.add("works", { person: "Ann" }, { removeOnComplete: true });
await removed.waitUntilFinished(events);
console.log(`removeOnComplete: job found ${await found(removed)}, result in Redis ${await has("Ann is ill")}`);

const kept = await queue.add("works", { person: "Bob" });
await kept.waitUntilFinished(events);
await kept.remove();
console.log(`job.remove(): job found ${await found(kept)}, result in Redis ${await has("Bob is ill")}`);

const failed = await queue.add("fails", { person: "Cleo" }, { removeOnFail: true });
await failed.waitUntilFinished(events).catch(() => {});
console.log(`removeOnFail: job found ${await found(failed)}, error in Redis ${await has("Cleo is in debt")}`);

async function anything() {
    return (await has("Ann is ill")) || (await has("Bob is ill")) || (await has("Cleo is in debt"));
}

await queue.drain(true);
await queue.clean(0, 0, "completed");
await queue.clean(0, 0, "failed");
const ttl = await redis.ttl("bull:answers:events");
console.log(`after drain and clean: results in Redis ${await anything()}, ttl ${ttl}`);
await queue.trimEvents(0);
console.log(`after trimEvents(0): results in Redis ${await anything()}`);
await Promise.all([worker.close(), queue.close(), events.close()]);
redis.disconnect();
JS

node jobs.mjs "$port" | tee seen
diff expected seen || { echo "the behaviour is gone"; exit 1; }
