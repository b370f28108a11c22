#!/usr/bin/env bash
# Deleting one session of strands-valkey-session-manager deletes all sessions whose id begins like its own.
#
# Versions: strands-valkey-session-manager 0.1.0, strands-agents 1.62.0, valkey 6.2.0, fakeredis 2.41.0.
# Why it matters: delete_session("user-1") looks for keys like "session:user-1*" and deletes what it finds, which is all
#   of user-10, user-11 and user-100 too. Ids that count, or "ann" beside "ann-2", are enough. A request for the
#   deletion of one person's chats takes other people's, and nothing tells of it. (The manager needs JSON.SET, which a
#   plain server lacks, so fakeredis stands in for Valkey with its JSON module; the deletion is SCAN and DEL.)
# Seen:
#   sessions: user-1 user-10 user-100 user-11 user-2
#   after delete_session("user-1"): user-2
# Source: the method's docstring, "Delete session and all associated data from Valkey"; the rest is not documented.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q strands-valkey-session-manager==0.1.0 strands-agents==1.62.0 valkey==6.2.0 \
    'fakeredis[json,valkey]==2.41.0'

"$folder/venv/bin/python" -W ignore - <<'PY'
import sys

import fakeredis
from strands_valkey_session_manager import ValkeySessionManager

client = fakeredis.FakeValkey(decode_responses=True)


def sessions() -> list[str]:
    return sorted(key.removeprefix("session:") for key in client.keys("session:*"))


for number in (1, 2, 10, 11, 100):
    manager = ValkeySessionManager(session_id=f"user-{number}", client=client)
print("sessions:", *sessions())
manager.delete_session("user-1")
print('after delete_session("user-1"):', *sessions())
sys.exit(0 if sessions() == ["user-2"] else "the behaviour is gone")
PY
