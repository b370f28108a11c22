#!/usr/bin/env bash
# Google's LangChain package for Memorystore returns ids that it has stored as text as numbers, two of them as the same.
#
# Versions: langchain-google-memorystore-redis 0.3.0, langchain-core 0.3.86, redis 5.3.1; Redis or Valkey.
# Why it matters: MemorystoreDocumentSaver stores a text of the metadata as it is and anything else as JSON, so a text
#   that is also JSON can't be told from it: MemorystoreDocumentLoader parses both. Of hexadecimal ids, one with an "e"
#   among its digits comes back as another number, or as infinity, and a search or a deletion by "the session of this
#   document" meets another session or none. A tag "null" becomes None, version "1.10" becomes 1.1. No error is raised.
# Seen:
#   stored '123e4567', loaded inf
#   stored '987e6543', loaded inf
#   stored '1e2', loaded 100.0
#   stored '100', loaded 100
#   stored '1.10', loaded 1.1
#   stored 'null', loaded None
#   stored '0012', loaded '0012'
#   stored '9b1deb4d', loaded '9b1deb4d'
#   2 pairs of sessions have become equal
# Source: the docstrings say that a value of the metadata is serialized "if it is a dict", and nothing of text.
set -euo pipefail

folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q langchain-google-memorystore-redis==0.3.0 langchain-core==0.3.86 redis==5.3.1
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$(command -v redis-server || command -v valkey-server)" \
    --bind 127.0.0.1 --port "$port" --save '' --dir "$folder" >"$folder/server.log" &
server=$!
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 0.1; done

cat >"$folder/load.py" <<'PY'
import sys
from itertools import combinations

import redis
from langchain_core.documents import Document
from langchain_google_memorystore_redis import MemorystoreDocumentLoader, MemorystoreDocumentSaver

SESSIONS = ["123e4567", "987e6543", "1e2", "100", "1.10", "null", "0012", "9b1deb4d"]
client = redis.Redis(port=int(sys.argv[1]))
saver = MemorystoreDocumentSaver(client=client, key_prefix="note:", content_field="text")
saver.add_documents([Document(page_content=session, metadata={"session": session}) for session in SESSIONS])

loader = MemorystoreDocumentLoader(client=client, key_prefix="note:", content_fields={"text"})
loaded = {document.page_content: document.metadata["session"] for document in loader.load()}
for session in SESSIONS:
    print(f"stored {session!r}, loaded {loaded[session]!r}")
print(sum(one == other for one, other in combinations(loaded.values(), 2)), "pairs of sessions have become equal")
PY

sed -n 's/^#   \(stored .*, loaded .*\)/\1/p; s/^#   \([0-9]* pairs .*\)/\1/p' "$0" >"$folder/expected"
"$folder/venv/bin/python" -W ignore "$folder/load.py" "$port" | tee "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour is gone"; exit 1; }
