#!/usr/bin/env bash
# Microsoft's agent framework does not store a turn that is word for word like the one before.
#
# Versions: agent-framework-core 1.23.0, agent-framework-redis 1.0.0b261022, redis 7.1.1; Redis or Valkey.
# Why it matters: "Next question." "Right." or "Lamp up." "Done.": such turns follow one another. Before it writes, a
#   history provider looks for what the history already ends with, in case that the caller sends the whole conversation
#   again. It takes the second of two equal turns for such a repetition, and leaves question and answer out. The model
#   then counts wrongly, and an export lacks what was said. Ids of the answers would tell them apart, but the clients
#   for Ollama, Anthropic and Gemini give none.
# Seen:
#   said and answered: up done up done up done no ok up done
#   InMemoryHistoryProvider: up done no ok up done
#   RedisHistoryProvider: up done no ok up done
# Source: filter_new_messages, "Prevents superlinear growth and preserves legitimate duplicate turns".
#   https://github.com/microsoft/agent-framework/pull/7242 brought it.
set -euo pipefail

folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT

command -v redis-server >/dev/null || { echo "redis-server is needed"; exit 1; }
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q agent-framework-core==1.23.0 agent-framework-redis==1.0.0b261022 redis==7.1.1
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
redis-server --bind 127.0.0.1 --port "$port" --save '' --dir "$folder" >"$folder/server.log" &
server=$!
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 0.1; done

cat >"$folder/talk.py" <<'PY'
import asyncio
import sys

from agent_framework import Agent, BaseChatClient, ChatResponse, HistoryProvider, InMemoryHistoryProvider, Message
from agent_framework.redis import RedisHistoryProvider


SAID = ("up", "up", "up", "no", "up")


class Lamp(BaseChatClient):
    """A model that answers "ok" to "no", and "done" to all else."""

    def _inner_get_response(self, *, messages, stream, options, **kwargs):
        async def respond() -> ChatResponse:
            return ChatResponse(messages=[Message("assistant", ["ok" if messages[-1].text == "no" else "done"])])

        return respond()


async def talk(provider: HistoryProvider) -> str:
    agent = Agent(client=Lamp(), context_providers=[provider])
    session = agent.create_session(session_id="ann")
    for said in SAID:
        await agent.run(said, session=session)
    stored = await provider.get_messages("ann", state=session.state.get(provider.source_id))
    return " ".join(message.text for message in stored)


async def main(port: str) -> None:
    print("said and answered:", " ".join(f"{said} {'ok' if said == 'no' else 'done'}" for said in SAID))
    redis = RedisHistoryProvider(redis_url=f"redis://127.0.0.1:{port}", application_id="lamp")
    for provider in (InMemoryHistoryProvider(), redis):
        print(f"{type(provider).__name__}: {await talk(provider)}")
    await redis.aclose()


asyncio.run(main(sys.argv[1]))
PY

sed -n 's/^#   \(.*: up done .*\)/\1/p' "$0" >"$folder/expected"
"$folder/venv/bin/python" -W ignore "$folder/talk.py" "$port" | tee "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour is gone"; exit 1; }
