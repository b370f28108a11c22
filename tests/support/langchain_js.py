"""LangChain.js itself, installed with npm: its histories write and read, over Redis or over Upstash's REST protocol."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis

from support.keyspace import raw
from support.paths import TESTS
from support.servers import missing
from support.waiting import scaled

_PROGRAM = """
import { mapStoredMessagesToChatMessages } from "@langchain/core/messages";
const { KIND, URL, SESSIONS, MESSAGES } = process.env;
async function historyOf(sessionId) {
  if (KIND === "redis") {
    const { RedisChatMessageHistory } = await import("@langchain/redis");
    return new RedisChatMessageHistory({ sessionId, sessionTTL: 600, config: { url: URL } });
  }
  const { UpstashRedisChatMessageHistory } = await import("@langchain/community/stores/message/upstash_redis");
  return new UpstashRedisChatMessageHistory({ sessionId, sessionTTL: 600, config: { url: URL, token: "t" } });
}
const partsOf = (message) => {
  const { content, role, name, id, tool_calls, tool_call_id, status, artifact, usage_metadata, ...more } = message;
  const { additional_kwargs, response_metadata, invalid_tool_calls } = more;
  return { class: message.constructor.name, content, role, name, id, tool_calls, tool_call_id, status, artifact,
    usage_metadata, additional_kwargs, response_metadata, invalid_tool_calls };
};
const told = [];
for (const session of JSON.parse(SESSIONS)) {
  const history = await historyOf(session);
  for (const message of mapStoredMessagesToChatMessages(JSON.parse(MESSAGES))) await history.addMessage(message);
  told.push(await history.getMessages().then((found) => found.map(partsOf), (error) => `can't read: ${error.message}`));
}
console.log(JSON.stringify(told));
process.exit(0);
"""


@dataclass(frozen=True)
class LangChainJs:
    """The packages in a folder, with a history of Redis, or of Upstash, at a URL."""

    folder: Path
    kind: str
    url: str

    def read(self, *session_ids: str) -> list[Any]:
        """The messages of each session, or the error with which it can't be read."""
        return self._run(session_ids, ())

    def write(self, session_id: str, *messages: dict[str, Any]) -> Any:
        """Add messages, in the form in which LangChain stores them, and read the session."""
        [read] = self._run([session_id], messages)
        return read

    def _run(self, session_ids: Sequence[str], messages: Sequence[dict[str, Any]]) -> list[Any]:
        given = {
            "KIND": self.kind,
            "URL": self.url,
            "SESSIONS": json.dumps(session_ids),
            "MESSAGES": json.dumps(messages),
        }
        done = subprocess.run(
            ["node", "--input-type=module", "--eval", _PROGRAM],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], **given},
            check=False,
            capture_output=True,
            text=True,
            timeout=scaled(60),
        )
        assert done.returncode == 0, done.stderr
        read: list[Any] = json.loads(done.stdout)
        return read


def install(folder: Path) -> Path:
    """Install the packages of the lock file."""
    npm = shutil.which("npm")
    if not (npm and shutil.which("node")):
        missing("Node")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(TESTS / "langchain_js" / name, folder)
    command = [npm, "ci", "--no-audit", "--no-fund", "--legacy-peer-deps"]
    installed = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"npm can't install the packages: {installed.stderr.strip()}")
    return folder


@contextmanager
def upstash(client: redis.Redis) -> Iterator[str]:
    """The URL of a server that speaks Upstash's REST protocol and passes the commands to a Redis.

    Source: https://upstash.com/docs/redis/features/restapi.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            encoded = self.headers.get("Upstash-Encoding") == "base64"

            def reply(command: list[Any]) -> dict[str, Any]:
                return {"result": _as_json(raw(client, *command), encoded=encoded)}

            answer = [reply(each) for each in given] if self.path == "/pipeline" else reply(given)
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _as_json(value: Any, *, encoded: bool) -> Any:
    if isinstance(value, list):
        return [_as_json(each, encoded=encoded) for each in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode() if encoded else value.decode()
    return value
