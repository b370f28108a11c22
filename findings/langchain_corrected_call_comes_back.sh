#!/usr/bin/env bash
# A tool call of a streamed answer that was corrected or redacted is the model's own again once it was stored and read.
#
# Versions: langchain-core 1.8.3, langgraph-checkpoint 4.3.2.
# Why it matters: a person changes the arguments of a call before it may run, or a filter takes a bank account out of
#   them before the answer is kept. An answer that was added up from chunks has the call twice, parsed and as the text
#   that came in. Reading it back parses that text again, so the stored answer has the old arguments, a process that
#   goes on with it runs them, and a call that was removed is there again. Neither is so for an answer of invoke(), or
#   after message_chunk_to_message(). LangGraph's add_messages calls that; a state without it is read back by its
#   serializer like a history.
# Seen:
#   corrected:                      {'to': 'Ann', 'amount': 10}
#   messages_from_dict, chunks:     {'to': 'Ann', 'amount': 1000}
#   JsonPlusSerializer, chunks:     {'to': 'Ann', 'amount': 1000}
#   messages_from_dict, a message:  {'to': 'Ann', 'amount': 10}
#   removed, messages_from_dict:    1 call
# Source: not documented. https://github.com/langchain-ai/langchain/issues/40609 (open) is about calls in
#   additional_kwargs.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q langchain-core==1.8.3 langgraph-checkpoint==4.3.2

"$folder/venv/bin/python" -W ignore - <<'PY'
import json
import sys

from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message, message_to_dict
from langchain_core.messages import messages_from_dict
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

CORRECTED = {"to": "Ann", "amount": 10}
serializer = JsonPlusSerializer()


def piece(args: str, **first: str) -> AIMessageChunk:
    return AIMessageChunk("", tool_call_chunks=[{"name": None, "id": None, **first, "args": args, "index": 0}])


def history(message: AIMessage) -> AIMessage:
    """The message as it is read from a chat history that stores JSON."""
    return messages_from_dict([json.loads(json.dumps(message_to_dict(message)))])[0]


def checkpoint(message: AIMessage) -> AIMessage:
    return serializer.loads_typed(serializer.dumps_typed(message))


answer = piece('{"to": "Ann", ', name="pay", id="call-1") + piece('"amount": 1000}') + AIMessageChunk("")
removed = answer.model_copy(update={"tool_calls": []})
answer.tool_calls[0]["args"] = CORRECTED
seen = {
    "corrected": answer,
    "messages_from_dict, chunks": history(answer),
    "JsonPlusSerializer, chunks": checkpoint(answer),
    "messages_from_dict, a message": history(message_chunk_to_message(answer)),
}
for name, message in seen.items():
    print(f"{name + ':':31}", message.tool_calls[0]["args"])
print(f"{'removed, messages_from_dict:':31}", len(history(removed).tool_calls), "call")
amounts = [message.tool_calls[0]["args"]["amount"] for message in seen.values()]
back = amounts == [10, 1000, 1000, 10] and (removed.tool_calls, len(history(removed).tool_calls)) == ([], 1)
sys.exit(0 if back else "the behaviour is gone")
PY
