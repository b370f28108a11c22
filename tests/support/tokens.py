"""Access tokens for tests: a source of them, and a metadata server from which google-auth gets them."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support.tls import EncryptedServer


class Tokens:
    """A source of tokens that some servers accept as soon as they are issued; `before` is called at each refresh."""

    def __init__(self, servers: Sequence[EncryptedServer] = (), life: timedelta | None = timedelta(hours=1)) -> None:
        self.token: str | None = None
        self.expiry: datetime | None = None
        self.life = life
        self.issued: list[str] = []
        self.before: Callable[[], object] = lambda: None
        self._servers = servers
        self._valid: list[str] = []

    def refresh(self, request: Any) -> None:
        self.before()
        self.token = f"ya29.{uuid.uuid4().hex}"
        self.expiry = None if self.life is None else (datetime.now(UTC) + self.life).replace(tzinfo=None)
        self.issued.append(self.token)
        self._allow([*self._valid, self.token])

    def expire(self) -> None:
        """Have the servers refuse the tokens that were issued so far."""
        self._allow([])

    def _allow(self, valid: list[str]) -> None:
        self._valid = valid
        for server in self._servers:
            server.allow(*valid)


@contextmanager
def metadata_server(tokens: Tokens, folder: Path) -> Iterator[Mapping[str, str]]:
    """An environment in which google-auth takes this machine for one of Google's, and gets these tokens.

    https://cloud.google.com/compute/docs/metadata/predefined-metadata-keys
    """
    lock = threading.Lock()

    def issue() -> dict[str, Any]:
        with lock:
            tokens.refresh(None)
            life = tokens.life or timedelta(days=1)
            return {"access_token": tokens.token, "expires_in": life.total_seconds(), "token_type": "Bearer"}

    accounts, account = "/computeMetadata/v1/instance/service-accounts", {"email": "torpor@a-project", "scopes": []}
    answers: dict[str, Callable[[], Any]] = {
        "/": dict,
        "/computeMetadata/v1/project/project-id": lambda: "a-project",
        f"{accounts}/default/": lambda: account,
        f"{accounts}/{account['email']}/": lambda: account,
        f"{accounts}/default/token": issue,
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0])
            self.send_response(200 if answer else 404)
            self.send_header("Metadata-Flavor", "Google")
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            if answer:
                self.wfile.write(json.dumps(answer()).encode())

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"127.0.0.1:{server.server_port}"
        # google-auth looks for credentials in the user's own folder first.
        yield {"GCE_METADATA_HOST": address, "GCE_METADATA_IP": address, "CLOUDSDK_CONFIG": str(folder)}
        server.shutdown()
        thread.join()
