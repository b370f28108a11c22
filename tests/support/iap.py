"""Identity-Aware Proxy: its keys over real HTTP, and what it signs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.auth import jwt
from google.auth.crypt import EsSigner

AUDIENCE = "/projects/123/global/backendServices/456"
HEADER = "x-goog-iap-jwt-assertion"


class IdentityProxy:
    """The proxy: `sign` makes the header of a request, and a server has the public keys."""

    def __init__(self) -> None:
        self.reads = 0
        self.answers = True
        self._keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.rotate("first")

    def rotate(self, name: str) -> None:
        """Sign with a new key from now on."""
        self.key_id = name
        self._keys[name] = ec.generate_private_key(ec.SECP256R1())

    def claims(self, email: str, /, **others: Any) -> dict[str, Any]:
        """What an assertion says of a person."""
        now = int(time.time())
        usual = {
            "iss": "https://cloud.google.com/iap",
            "aud": AUDIENCE,
            "sub": f"accounts.google.com:{email}",
            "email": email,
            "iat": now - 5,
            "exp": now + 595,
        }
        return {name: value for name, value in {**usual, **others}.items() if value is not None}

    def sign(self, email: str, /, key: ec.EllipticCurvePrivateKey | None = None, **others: Any) -> dict[str, str]:
        """The header of a request by a person; other claims replace the usual ones, None leaves one out."""
        signer: Any = EsSigner(key or self._keys[self.key_id], key_id=self.key_id)
        return {HEADER: jwt.encode(signer, self.claims(email, **others)).decode()}  # type: ignore[no-untyped-call]

    @property
    def public_keys(self) -> dict[str, str]:
        """The keys as the proxy publishes them."""
        form = Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        return {name: key.public_key().public_bytes(*form).decode() for name, key in self._keys.items()}

    @contextmanager
    def published(self) -> Iterator[IdentityProxy]:
        """The same while its keys can be read."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                proxy.reads += 1
                self.send_response(200 if proxy.answers else 500)
                self.end_headers()
                self.wfile.write(json.dumps(proxy.public_keys).encode())

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            self.keys_url = f"http://127.0.0.1:{server.server_port}/keys"
            yield self
            server.shutdown()
            thread.join()
