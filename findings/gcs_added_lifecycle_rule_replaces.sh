#!/usr/bin/env bash
# add_lifecycle_delete_rule() on client.bucket(name) replaces the lifecycle rules that the bucket has.
#
# Versions: google-cloud-storage 3.17.1, against a local HTTP server that stores a bucket's fields as they are patched.
# Why it matters: client.bucket(name), the call for reading and writing objects, asks the server for nothing. The rules
#   that a new one is added to are then none, and patch() sends the new one as all of them. A setup that adds "delete
#   exports after 7 days" takes away "delete chats after 30 days", with no error: people's words stay for good.
#   client.get_bucket(name), or bucket.reload() before, keeps the other rules.
# Seen:
#   before:                       30 days: chats/
#   added to client.bucket():     7 days: exports/
#   added to client.get_bucket(): 30 days: chats/, 7 days: exports/
# Source: add_lifecycle_delete_rule, 'Add a "delete" rule to lifecycle rules configured for this bucket'. Google's
#   sample calls get_bucket() and does not say why.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q google-cloud-storage==3.17.1

"$folder/venv/bin/python" -W ignore - <<'PY'
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

RULE = {"action": {"type": "Delete"}, "condition": {"age": 30, "matchesPrefix": ["chats/"]}}
fields: dict[str, object] = {}


class Bucket(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        payload = json.dumps({"kind": "storage#bucket", "name": "archive", **fields}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def do_PATCH(self) -> None:
        fields.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.do_GET()


server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
threading.Thread(target=server.serve_forever, daemon=True).start()
endpoint = {"api_endpoint": f"http://127.0.0.1:{server.server_port}"}
client = storage.Client(project="p", credentials=AnonymousCredentials(), client_options=endpoint)


def rules() -> str:
    conditions = [rule["condition"] for rule in client.get_bucket("archive").lifecycle_rules]
    return ", ".join(f"{condition['age']} days: {condition['matchesPrefix'][0]}" for condition in conditions)


seen = []
for obtain in (None, client.bucket, client.get_bucket):
    fields["lifecycle"] = {"rule": [RULE]}
    if obtain:
        bucket = obtain("archive")
        bucket.add_lifecycle_delete_rule(age=7, matches_prefix=["exports/"])
        bucket.patch()
    seen.append(rules())
    print(f"{f'added to client.{obtain.__name__}():' if obtain else 'before:':29}", seen[-1])
expected = ["30 days: chats/", "7 days: exports/", "30 days: chats/, 7 days: exports/"]
sys.exit(0 if seen == expected else "the behaviour is gone")
PY
