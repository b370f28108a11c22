#!/usr/bin/env bash
# A Blob of google-cloud-storage that uploaded an object says that it does not exist once somebody else replaced it.
#
# Versions: google-cloud-storage 3.17.1, against a local HTTP server with the JSON API's rule for ?generation=.
# Why it matters: an upload, a reload or a listing leaves the object's generation in the Blob, and each later request
#   names it, although nobody asked for that generation. When another process has rewritten the chat, the first one's
#   exists() is False and its download is NotFound. "if blob.exists(): blob.delete()" leaves the person's words in the
#   bucket, in the belief that they are gone. A new bucket.blob(name) sees the object.
# Seen:
#   the Blob that uploaded: exists True
#   after another upload, the same Blob: exists False
#   after another upload, a new Blob: exists True
#   the request of the first: {'generation': '1', 'fields': 'name', 'prettyPrint': 'false'}
# Source: https://cloud.google.com/storage/docs/json_api/v1/objects/get ("generation: If present, selects a specific
#   revision of this object (as opposed to the latest version, the default)").
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q google-cloud-storage==3.17.1

"$folder/venv/bin/python" -W ignore - <<'PY'
import email
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

generations: dict[str, int] = {}
asked: list[dict[str, str]] = []


class Objects(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: dict) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def resource(self, name: str) -> dict:
        return {"kind": "storage#object", "bucket": "chats", "name": name, "generation": str(generations[name])}

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        parts = email.message_from_bytes(b"Content-Type: " + self.headers["Content-Type"].encode() + b"\n\n" + body)
        name = json.loads(parts.get_payload(0).get_payload())["name"]
        generations[name] = generations.get(name, 0) + 1
        self.answer(200, self.resource(name))

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query, name = dict(parse_qsl(url.query)), url.path.rsplit("/", 1)[1]
        if "/o/" in url.path:
            asked.append(query)
        current = str(generations.get(name, ""))
        if current and query.get("generation", current) == current:
            self.answer(200, self.resource(name))
        else:
            self.answer(404, {"error": {"code": 404, "message": "No such object"}})


server = ThreadingHTTPServer(("127.0.0.1", 0), Objects)
threading.Thread(target=server.serve_forever, daemon=True).start()
endpoint = {"api_endpoint": f"http://127.0.0.1:{server.server_port}"}
bucket = storage.Client(project="p", credentials=AnonymousCredentials(), client_options=endpoint).bucket("chats")

blob = bucket.blob("chat")
blob.upload_from_string("Hello.")
before = blob.exists()
bucket.blob("chat").upload_from_string("Hello. And?")
asked.clear()
after, new = blob.exists(), bucket.blob("chat").exists()
print("the Blob that uploaded: exists", before)
print("after another upload, the same Blob: exists", after)
print("after another upload, a new Blob: exists", new)
print("the request of the first:", asked[0])
sys.exit(0 if (before, after, new) == (True, False, True) else "the behaviour is gone")
PY
