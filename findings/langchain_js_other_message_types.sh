#!/usr/bin/env bash
# A chat history in Redis that LangChain's Python and JavaScript share: one message of the other language hides them all.
#
# Versions: @langchain/core 1.4.0 (Node 20 or later must be on the PATH), langchain-core 1.8.3.
# Why it matters: a front end in Node and a back end in Python keep a conversation under one key, because both store
#   {"type", "data"}. A ChatMessage is stored as "chat" by Python and as "generic" by JavaScript, and neither knows the
#   other's name. Both libraries decode a history as a whole, so the question and the answer that both could read are not
#   shown either.
# Seen:
#   JavaScript reads what Python wrote:  human, ai -> 2 messages    human, chat, ai -> Got unexpected type: chat
#   Python reads what JavaScript wrote:  human, ai -> 2 messages    human, generic, ai -> ValueError
# Source: https://reference.langchain.com/python/langchain-core/messages names messages_from_dict, without the types of
#   the other language.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

command -v node npm >/dev/null || { echo "Node and npm are needed"; exit 1; }
(cd "$folder" && npm init -y >/dev/null && npm install --silent @langchain/core@1.4.0 >/dev/null)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q langchain-core==1.8.3

cat >"$folder/javascript.mjs" <<'JS'
import { readFileSync, writeFileSync } from "node:fs";
import * as core from "@langchain/core/messages";

const human = new core.HumanMessage("Hi.");
const ai = new core.AIMessage("Hello.");
const histories = {
    "human, ai": [human, ai],
    "human, generic, ai": [human, new core.ChatMessage("Is that all?", "critic"), ai],
};
const stored = Object.entries(histories).map(([name, said]) => [name, core.mapChatMessagesToStoredMessages(said)]);
writeFileSync("of_javascript.json", JSON.stringify(Object.fromEntries(stored)));
for (const [name, written] of Object.entries(JSON.parse(readFileSync("of_python.json")))) {
    try {
        console.log(`JavaScript: ${name} -> ${core.mapStoredMessagesToChatMessages(written).length} messages`);
    } catch (error) {
        console.log(`JavaScript: ${name} -> ${error.message}`);
    }
}
JS

cat >"$folder/of_python.py" <<'PY'
import json
from pathlib import Path

from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, messages_to_dict

human, ai = HumanMessage("Hi."), AIMessage("Hello.")
histories = {"human, ai": [human, ai], "human, chat, ai": [human, ChatMessage("Is that all?", role="critic"), ai]}
stored = {name: messages_to_dict(said) for name, said in histories.items()}
Path("of_python.json").write_text(json.dumps(stored))
PY

cat >"$folder/reads.py" <<'PY'
import json
from pathlib import Path

from langchain_core.messages import messages_from_dict

for name, written in json.loads(Path("of_javascript.json").read_text()).items():
    try:
        print(f"Python: {name} -> {len(messages_from_dict(written))} messages")
    except ValueError:
        print(f"Python: {name} -> ValueError")
PY

cd "$folder"
venv/bin/python -W ignore of_python.py
{ node javascript.mjs && venv/bin/python -W ignore reads.py; } | tee seen
diff - seen <<'SEEN' || { echo "the behaviour is gone"; exit 1; }
JavaScript: human, ai -> 2 messages
JavaScript: human, chat, ai -> Got unexpected type: chat
Python: human, ai -> 2 messages
Python: human, generic, ai -> ValueError
SEEN
