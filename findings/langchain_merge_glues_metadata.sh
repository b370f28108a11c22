#!/usr/bin/env bash
# LangChain's merge_message_runs glues the metadata of the messages that it merges together, and drops their names.
#
# Versions: langchain-core 1.8.3.
# Why it matters: providers want turns that alternate, so a chain merges what a user sent in two messages. The merging
#   is the one of stream chunks, whose metadata comes in pieces: equal texts of additional_kwargs are joined all the
#   same, other numbers are added up, lists doubled. Who looks at the user or the turn of the merged message, to bill
#   it or to find its memories, has one that never was. Two people's messages become one, of nobody. Numbers with a
#   point raise TypeError if they differ. response_metadata is not joined: the first message's stays.
# Seen:
#   one user:  {'user': 'annann', 'turn': 7, 'tags': ['vip', 'vip']} of None
#   two users: {'user': 'annbob', 'turn': 7} of None: "I am Ann. / I am Bob."
# Source: not documented. https://github.com/langchain-ai/langchain/issues/40677 (open) is about the names alone.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q langchain-core==1.8.3

"$folder/venv/bin/python" -W ignore - <<'PY'
import sys

from langchain_core.messages import HumanMessage, merge_message_runs


def said(text: str, user: str, **more: object) -> HumanMessage:
    return HumanMessage(text, name=user, additional_kwargs={"user": user, **more})


(one,) = merge_message_runs([said("Hi.", "ann", turn=3, tags=["vip"]), said("And?", "ann", turn=4, tags=["vip"])])
(two,) = merge_message_runs([said("I am Ann.", "ann", turn=3), said("I am Bob.", "bob", turn=4)])
print("one user: ", one.additional_kwargs, "of", one.name)
print("two users:", two.additional_kwargs, "of", f'{two.name}: "{" / ".join(two.content.splitlines())}"')
glued = one.additional_kwargs == {"user": "annann", "turn": 7, "tags": ["vip", "vip"]}
mixed = two.additional_kwargs == {"user": "annbob", "turn": 7} and two.name is None
sys.exit(0 if glued and mixed else "the behaviour is gone")
PY
