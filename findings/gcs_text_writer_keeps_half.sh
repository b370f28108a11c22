#!/usr/bin/env bash
# blob.open("wt") stores the half of an object that was written before an exception; blob.open("wb") stores nothing.
#
# Versions: google-cloud-storage 3.17.1, against a local HTTP server that takes resumable uploads.
# Why it matters: "with blob.open('wt') as file: for message in chat: file.write(...)" is how an archive of chats is
#   written as JSON lines. If a message cannot be read or encoded halfway, version 3 cancels the upload, but only that
#   of a binary writer: in text mode the io.TextIOWrapper around it closes it, and a closed writer completes the upload.
#   The object is whole to all who look at it later, and replaces a whole one of the same name.
# Seen:
#   wb: RuntimeError: connection lost; stored: nothing
#   wt: RuntimeError: connection lost; stored: 2 of 4 messages
# Source: the README of version 3 says that "The BlobWriter class now attempts to terminate an ongoing resumable upload
#   if the writer exits with an exception". The exception of text mode is not documented.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q google-cloud-storage==3.17.1

"$folder/venv/bin/python" -W ignore - <<'PY'
import base64
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import google_crc32c
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

stored: dict[str, bytes] = {}


class Uploads(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, payload: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(payload))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def do_POST(self) -> None:
        name = json.loads(self.body())["name"]
        self.answer(200, Location=f"http://127.0.0.1:{self.server.server_port}/uploads/{name}")

    def do_PUT(self) -> None:
        name = self.path.rsplit("/", 1)[1]
        stored[name] = self.body()
        checksum = base64.b64encode(google_crc32c.Checksum(stored[name]).digest()).decode()
        resource = json.dumps({"name": name, "crc32c": checksum}).encode()
        self.answer(200, resource, **{"Content-Type": "application/json"})

    def do_DELETE(self) -> None:
        self.answer(499)


def messages() -> Iterator[str]:
    """Four messages, if the database did not go away."""
    yield '{"type": "human", "content": "Hello."}\n'
    yield '{"type": "ai", "content": "Hello."}\n'
    raise RuntimeError("connection lost")


server = ThreadingHTTPServer(("127.0.0.1", 0), Uploads)
threading.Thread(target=server.serve_forever, daemon=True).start()
endpoint = {"api_endpoint": f"http://127.0.0.1:{server.server_port}"}
bucket = storage.Client(project="p", credentials=AnonymousCredentials(), client_options=endpoint).bucket("chats")

for mode in ("wb", "wt"):
    try:
        with bucket.blob(mode).open(mode) as file:
            for message in messages():
                file.write(message if mode == "wt" else message.encode())
    except RuntimeError as error:
        found = f"{stored[mode].count(b'content')} of 4 messages" if mode in stored else "nothing"
        print(f"{mode}: RuntimeError: {error}; stored: {found}")
sys.exit(0 if "wb" not in stored and stored.get("wt", b"").count(b"\n") == 2 else "the behaviour is gone")
PY
