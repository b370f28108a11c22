#!/usr/bin/env bash
# A tool that returns bytes as its artifact leaves a LangChain history in Redis with a tool call that has no answer.
#
# Versions: langchain-community 0.4.2, langchain-core 1.8.3, redis 8.1.0; Redis or Valkey.
# Why it matters: an artifact may be anything, such as an image, and never reaches the model. The history stores it as
#   JSON all the same, one message after the other. The turn's question and tool call are written before the tool's
#   message raises TypeError, and the answer after it is not. From then on each read has a call without a result, which
#   OpenAI's chat API refuses, so the session is stuck until somebody clears it.
# Seen:
#   add_messages: TypeError: Object of type bytes is not JSON serializable
#   stored: human, ai with 1 tool call
# Source: ToolMessage.artifact, "Artifact of the Tool execution which is not meant to be sent to the model".
set -euo pipefail

folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q langchain-community==0.4.2 langchain-core==1.8.3 redis==8.1.0
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$(command -v redis-server || command -v valkey-server)" \
    --bind 127.0.0.1 --port "$port" --save '' --dir "$folder" >"$folder/server.log" &
server=$!
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 0.1; done

"$folder/venv/bin/python" -W ignore - "$port" <<'PY'
import sys

from langchain_community.chat_message_histories import RedisChatMessageHistory
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool


@tool(response_format="content_and_artifact")
def draw(subject: str) -> tuple[str, bytes]:
    """Draw a picture."""
    return f"A picture of {subject} was drawn.", b"\x89PNG"


call = {"name": "draw", "args": {"subject": "a house"}, "id": "call-1", "type": "tool_call"}
turn = [HumanMessage("Draw a house."), AIMessage("", tool_calls=[call]), draw.invoke(call), AIMessage("Here it is.")]
history = RedisChatMessageHistory("chat", url=f"redis://127.0.0.1:{sys.argv[1]}/0")
try:
    history.add_messages(turn)
    sys.exit("the behaviour is gone")
except TypeError as error:
    print("add_messages: TypeError:", error)
stored = history.messages
print("stored:", ", ".join(m.type + (" with 1 tool call" if getattr(m, "tool_calls", []) else "") for m in stored))
sys.exit(0 if [message.type for message in stored] == ["human", "ai"] else "the behaviour is gone")
PY
