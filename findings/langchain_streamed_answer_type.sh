#!/usr/bin/env bash
# An answer that was streamed and then stored in a chat history is no "ai" message to LangChain's filters and trimmers.
#
# Versions: langchain-core 1.8.3.
# Why it matters: adding up the chunks of a stream gives an AIMessageChunk. It is an AIMessage to isinstance() and
#   reads like one, but its type is stored as "AIMessageChunk" and comes back as that.
#   filter_messages(include_types=["ai"]) leaves the answer out. trim_messages(end_on="ai"), with room for everything,
#   cuts it off together with the question. The classes in place of the names (end_on=AIMessage) find it.
# Seen:
#   stored types: ['human', 'ai', 'human', 'AIMessageChunk']
#   filter, include_types=["ai"]: ['Hello.']
#   trim, end_on="ai": ['Hi.', 'Hello.']
#   trim, end_on=AIMessage: ['Hi.', 'Hello.', 'The weather?', 'It rains.']
# Source: the docstring of trim_messages lets end_on be a name ('system', 'human', 'ai') or a class.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q langchain-core==1.8.3

"$folder/venv/bin/python" -W ignore - <<'PY'
import json
import sys

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, filter_messages, message_to_dict, messages_from_dict
from langchain_core.messages import trim_messages

model = GenericFakeChatModel(messages=iter(["It rains."]))
answer = None
for chunk in model.stream("The weather?"):
    answer = chunk if answer is None else answer + chunk

said = [HumanMessage("Hi."), AIMessage("Hello."), HumanMessage("The weather?"), answer]
stored = [json.dumps(message_to_dict(message)) for message in said]
read = messages_from_dict([json.loads(element) for element in stored])


def trim(end_on: object) -> list[str]:
    kept = trim_messages(read, max_tokens=100, token_counter=len, end_on=end_on)
    return [message.content for message in kept]


filtered = [message.content for message in filter_messages(read, include_types=["ai"])]
print("stored types:", [json.loads(element)["type"] for element in stored])
print('filter, include_types=["ai"]:', filtered)
print('trim, end_on="ai":', trim("ai"))
print("trim, end_on=AIMessage:", trim(AIMessage))
gone = filtered == ["Hello."] and trim("ai") == ["Hi.", "Hello."] and len(trim(AIMessage)) == 4
sys.exit(0 if gone else "the behaviour is gone")
PY
