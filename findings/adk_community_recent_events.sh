#!/usr/bin/env bash
# google-adk-community's RedisSessionService deletes the older events of a session that is read with a limit.
#
# Versions: google-adk-community 0.5.0, google-adk 2.13.0, redis 5.3.1; Redis or Valkey.
# Why it matters: ADK recommends RunConfig(get_session_config=GetSessionConfig(num_recent_events=...)), so that a turn
#   of a long conversation does not load all of it. This service stores a session as one document, and with each new
#   event it writes what the caller has loaded: the first turn with the limit deletes everything before. No error is
#   raised, and the turn itself is answered well. The services of google-adk, that for Redis among them, keep all
#   events.
# Seen:
#   InMemorySessionService: 20 events, after a turn with the last 4: 22
#   RedisSessionService of google-adk: 20 events, after a turn with the last 4: 22
#   RedisSessionService of google-adk-community: 20 events, after a turn with the last 4: 6
# Source: https://github.com/google/adk-python/pull/7140 mended the same in google-adk.
set -euo pipefail

folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT

command -v redis-server >/dev/null || { echo "redis-server is needed"; exit 1; }
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q google-adk==2.13.0 google-adk-community==0.5.0 redis==5.3.1
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
redis-server --bind 127.0.0.1 --port "$port" --save '' --dir "$folder" >"$folder/server.log" &
server=$!
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 0.1; done

cat >"$folder/talk.py" <<'PY'
import asyncio
import sys

from google.adk.agents import BaseAgent, RunConfig
from google.adk.events import Event
from google.adk.integrations.redis import RedisSessionService, RedisSessionServiceConfig
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk_community.sessions import RedisSessionService as CommunityService
from google.genai import types


class Echo(BaseAgent):
    async def _run_async_impl(self, ctx):
        yield Event(
            author=self.name,
            invocation_id=ctx.invocation_id,
            content=types.Content(role="model", parts=[types.Part(text="Noted.")]),
        )


async def count_after_limit(service) -> tuple[int, int]:
    names = {"app_name": "shop", "user_id": "ann", "session_id": "chat"}
    await service.create_session(**names)
    runner = Runner(app_name="shop", agent=Echo(name="echo"), session_service=service)

    async def say(text: str, config: RunConfig) -> int:
        message = types.Content(role="user", parts=[types.Part(text=text)])
        async for _ in runner.run_async(user_id="ann", session_id="chat", new_message=message, run_config=config):
            pass
        return len((await service.get_session(**names)).events)

    for turn in range(10):
        before = await say(f"fact {turn}", RunConfig())
    recent = RunConfig(get_session_config=GetSessionConfig(num_recent_events=4))
    return before, await say("one more", recent)


async def main(port: int) -> None:
    services = {
        "InMemorySessionService": InMemorySessionService(),
        "RedisSessionService of google-adk": RedisSessionService(RedisSessionServiceConfig(port=port)),
        "RedisSessionService of google-adk-community": CommunityService(port=port),
    }
    for name, service in services.items():
        before, after = await count_after_limit(service)
        print(f"{name}: {before} events, after a turn with the last 4: {after}")


asyncio.run(main(int(sys.argv[1])))
PY

sed -n 's/^#   \(.*SessionService.*: 20 events, .*\)/\1/p' "$0" >"$folder/expected"
"$folder/venv/bin/python" -W ignore "$folder/talk.py" "$port" | tee "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour is gone"; exit 1; }
