#!/usr/bin/env bash
# Two turns of one Strands session that overlap are stored under the same numbers: the second replaces the first.
#
# Versions: strands-agents 1.62.0 with FileSessionManager.
# Why it matters: a session manager counts the messages that it has read when its agent was made, and writes the next
#   one as message_<count>, without a look at what lies there. A user with two devices, or a request that is sent again
#   while the first is at work, has both answers on the screen and one of them in the history. No error is raised.
#   S3SessionManager has the same numbers, and puts its objects without a condition.
# Seen:
#   answered: re: from the phone | re: from the laptop
#   stored: ['Hello.', 're: Hello.', 'from the laptop', 're: from the laptop']
# Source: https://github.com/strands-agents/docs/issues/480 (open) asks for these limits to be documented.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q strands-agents==1.62.0

"$folder/venv/bin/python" -W ignore - "$folder/sessions" <<'PY'
import sys

from strands import Agent
from strands.models import Model
from strands.session.file_session_manager import FileSessionManager


class Echo(Model):
    def update_config(self, **_):
        pass

    def get_config(self):
        return {}

    async def structured_output(self, *_, **__):
        yield {}

    async def stream(self, messages, *_, **__):
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockStart": {"start": {}}}
        yield {"contentBlockDelta": {"delta": {"text": "re: " + messages[-1]["content"][0]["text"]}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn"}}


def agent() -> Agent:
    manager = FileSessionManager(session_id="chat", storage_dir=sys.argv[1])
    return Agent(model=Echo(), agent_id="assistant", callback_handler=None, session_manager=manager)


agent()("Hello.")
phone, laptop = agent(), agent()  # two requests, each with an agent of its own
answers = [str(phone("from the phone")).strip(), str(laptop("from the laptop")).strip()]
stored = [message["content"][0]["text"] for message in agent().messages]
print("answered:", " | ".join(answers))
print("stored:", stored)
lost = "from the phone" not in stored and "from the laptop" in stored
sys.exit(0 if lost else "the behaviour is gone")
PY
