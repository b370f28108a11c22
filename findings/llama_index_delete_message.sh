#!/usr/bin/env bash
# Deleting one message from LlamaIndex's RedisChatStore reverses all the others and takes the TTL off the conversation.
#
# Versions: llama-index-storage-chat-store-redis 0.8.0, llama-index-core 0.14.25, redis 8.1.0; Redis or Valkey.
# Why it matters: an application that takes back one message ("regenerate", "delete this") sends the conversation to
#   the model newest first from then on. A conversation that had to expire stays in Redis for good. Nothing is logged.
# Seen:
#   before: ['one', 'two', 'three', 'four'] ttl 3600
#   after deleting 'two': ['four', 'three', 'one'] ttl -1
# Source: the order is the subject of https://github.com/run-llama/llama_index/pull/22963 (open); the TTL is in neither
#   the documentation nor that pull request.
set -euo pipefail

folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q llama-index-storage-chat-store-redis==0.8.0 llama-index-core==0.14.25 redis==8.1.0
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$(command -v redis-server || command -v valkey-server)" \
    --bind 127.0.0.1 --port "$port" --save '' --dir "$folder" >"$folder/server.log" &
server=$!
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 0.1; done

"$folder/venv/bin/python" -W ignore - "$port" <<'PY'
import sys

import redis
import redis.asyncio
from llama_index.core.llms import ChatMessage
from llama_index.storage.chat_store.redis import RedisChatStore

port = int(sys.argv[1])
client = redis.Redis(port=port)
store = RedisChatStore(redis_client=client, aredis_client=redis.asyncio.Redis(port=port), ttl=3600)
for text in ("one", "two", "three", "four"):
    store.add_message("chat", ChatMessage(role="user", content=text))


def texts() -> list[str]:
    return [message.content for message in store.get_messages("chat")]


print("before:", texts(), "ttl", client.ttl("chat"))
store.delete_message("chat", 1)
print("after deleting 'two':", texts(), "ttl", client.ttl("chat"))
sys.exit(0 if texts() == ["four", "three", "one"] and client.ttl("chat") == -1 else "the behaviour is gone")
PY
