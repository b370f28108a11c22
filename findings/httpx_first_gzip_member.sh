#!/usr/bin/env bash
# httpx returns only the first part of a gzip body that was joined from several; requests and others return all of it.
#
# Versions: httpx 0.28.1, httpx2 2.16.2, requests 2.34.2, aiohttp 3.14.5, Node's fetch.
# Why it matters: gzip files may be joined end to end, and archives of gzip JSON lines are: by `cat`, or by `compose` in
#   Cloud Storage. The client unpacks such a body if it comes with `Content-Encoding: gzip`. httpx, which
#   langgraph-sdk and google-genai bring along, stops at the end of the first part, and so does httpx2, which openai and
#   langsmith bring along. Each line that they return is whole, so nothing tells the reader that the rest of the
#   conversation is missing. gzip.decompress reads all of it.
# Seen:
#   requests: 200, 3 of 3 messages
#   aiohttp: 200, 3 of 3 messages
#   Node's fetch: 200, 3 of 3 messages
#   httpx: 200, 1 of 3 messages
#   httpx, streamed: 200, 1 of 3 messages
#   httpx2: 200, 1 of 3 messages
# Source: RFC 1952, section 2.2: a gzip file is a series of members. A fix for httpx was closed without being merged:
#   https://github.com/encode/httpx/pull/3270 ; a library that suffers from it:
#   https://github.com/pydantic/pydantic-ai/issues/7159
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

command -v node >/dev/null || { echo "Node is needed"; exit 1; }
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q httpx==0.28.1 httpx2==2.16.2 requests==2.34.2 aiohttp==3.14.5

"$folder/venv/bin/python" - <<'PY'
import asyncio
import gzip
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import aiohttp
import httpx
import httpx2
import requests

MESSAGES = [json.dumps({"message": number}).encode() + b"\n" for number in range(3)]
ARCHIVE = b"".join(gzip.compress(message) for message in MESSAGES)
assert gzip.decompress(ARCHIVE) == b"".join(MESSAGES)


class Bucket(BaseHTTPRequestHandler):
    """Answers each request with the archive."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(ARCHIVE)))
        self.end_headers()
        self.wfile.write(ARCHIVE)


server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/chat.jsonl"


def by_requests() -> tuple[int, bytes]:
    response = requests.get(url)
    return response.status_code, response.content


def by_aiohttp() -> tuple[int, bytes]:
    async def get() -> tuple[int, bytes]:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status, await response.read()

    return asyncio.run(get())


def by_node() -> tuple[int, bytes]:
    program = f"fetch({url!r}).then(async a => process.stdout.write(a.status + ' ' + await a.text()))"
    status, _, body = subprocess.run(["node", "-e", program], check=True, stdout=subprocess.PIPE).stdout.partition(b" ")
    return int(status), body


def by_httpx() -> tuple[int, bytes]:
    response = httpx.get(url)
    return response.status_code, response.content


def by_httpx_streamed() -> tuple[int, bytes]:
    with httpx.stream("GET", url) as response:
        return response.status_code, b"".join(response.iter_bytes(16))


def by_httpx2() -> tuple[int, bytes]:
    response = httpx2.get(url)
    return response.status_code, response.content


clients = {"requests": by_requests, "aiohttp": by_aiohttp, "Node's fetch": by_node}
clients |= {"httpx": by_httpx, "httpx, streamed": by_httpx_streamed, "httpx2": by_httpx2}
seen = []
for name, get in clients.items():
    status, body = get()
    seen.append((status, len(body.splitlines())))
    print(f"{name}: {status}, {seen[-1][1]} of {len(MESSAGES)} messages")
sys.exit(0 if seen == [(200, 3)] * 3 + [(200, 1)] * 3 else "the behaviour is gone")
PY
