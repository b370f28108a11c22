#!/usr/bin/env bash
# Two users whose sessions agno saves to Cloud Storage at the same time: one of them has no session afterwards.
#
# Versions: agno 3.1.10, google-cloud-storage 3.17.1.
# Why it matters: `GcsJsonDb` keeps the sessions of all users in one object. Each save reads it, changes one session and
#   writes everything back, without a precondition on the generation that was read. So it is not the same session that
#   two turns must share for one to be lost, as in most stores: any two turns of anybody will do, and neither is told.
#   Cloud Storage would refuse the second write (412) if it were sent with `if_generation_match`.
# Seen:
#   saved one after the other: ann, bob
#   saved at the same time: ann (and both saves have returned their session)
# Source: `GcsJsonDb.upsert_session`. Other stores of agno: https://github.com/agno-agi/agno/issues/7479, one session.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q agno==3.1.10 google-cloud-storage==3.17.1

AGNO_TELEMETRY=false "$folder/venv/bin/python" -W ignore - <<'PY'
import email
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

objects: dict[str, bytes] = {}


class Bucket(BaseHTTPRequestHandler):
    """As much of Cloud Storage as it takes to write and read whole objects."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kind = b"Content-Type: " + self.headers["Content-Type"].encode()
        description, content = email.message_from_bytes(kind + b"\n\n" + body).get_payload()
        objects[json.loads(description.get_payload())["name"]] = content.get_payload(decode=True)
        self.answer(200, b"{}")

    def do_GET(self) -> None:
        _, _, name = urlsplit(self.path).path.partition("/o/")
        body = objects.get(unquote(name))
        self.answer(200, body) if body is not None else self.answer(404, b"no such object")


server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["STORAGE_EMULATOR_HOST"] = f"http://127.0.0.1:{server.server_port}"

from agno.db.base import SessionType  # noqa: E402
from agno.db.gcs_json import GcsJsonDb  # noqa: E402
from agno.session import AgentSession  # noqa: E402
from google.auth.credentials import AnonymousCredentials  # noqa: E402


class Process(GcsJsonDb):
    """One process of an application, which can be held up between its read and its write."""

    between = staticmethod(lambda: None)

    def _write_json_file(self, *args: object) -> None:
        self.between()
        super()._write_json_file(*args)


def process(prefix: str) -> Process:
    return Process("chats", prefix, project="p", credentials=AnonymousCredentials())


def save(db: Process, user: str) -> None:
    saved = db.upsert_session(AgentSession(session_id=f"chat of {user}", user_id=user, agent_id="agent"))
    assert saved.user_id == user


def users(db: Process) -> str:
    return ", ".join(sorted(session.user_id for session in db.get_sessions(SessionType.AGENT)))


seen = []
one, two = process("in-turn"), process("in-turn")
save(one, "ann")
save(two, "bob")
seen.append(users(one))
print("saved one after the other:", seen[-1])

one, two = process("at-once"), process("at-once")
one.between = lambda: save(two, "bob")
save(one, "ann")
seen.append(users(one))
print("saved at the same time:", seen[-1])
sys.exit(0 if seen == ["ann, bob", "ann"] else "the behaviour is gone")
PY
