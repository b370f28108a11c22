"""An OpenID Connect provider over real HTTP, which names whoever the test says, and signs with keys of its own."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from support.waiting import wait_until

CLIENT_ID = "torpor-console"
CLIENT_SECRET = "secret-of-the-client-at-the-provider"


@cache
def _keys() -> dict[str, Any]:
    return {
        "RS256": RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"}),
        "ES256": ECKey.generate_key("P-256", {"kid": "ec", "use": "sig"}),
    }


class IdentityProvider:
    """The provider. `email` is who is signed in there, and `claims` replace what it says; None leaves one out."""

    def __init__(self) -> None:
        self.email = "dpo@example.com"
        self.claims: dict[str, Any] = {}
        self.algorithm = "RS256"
        self.issuer_told: str | None = None
        self.answers = True
        self.keys = _keys()
        self.signing_key: Any = None
        self.unsigned = False
        self.with_id_token = True
        self._codes: dict[str, dict[str, str]] = {}

    @contextmanager
    def running(self) -> Iterator[IdentityProvider]:
        routes = [
            Route("/.well-known/openid-configuration", self._configuration),
            Route("/keys", self._keys),
            Route("/authorize", self._authorize),
            Route("/token", self._token, methods=["POST"]),
        ]
        with socket.create_server(("127.0.0.1", 0)) as bound:
            self.issuer = f"http://127.0.0.1:{bound.getsockname()[1]}"
            server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_config=None, lifespan="off"))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
            thread.start()
            try:
                wait_until(lambda: server.started)
                yield self
            finally:
                server.should_exit = True
                thread.join()

    async def _configuration(self, request: Request) -> Response:
        if not self.answers:
            return Response(status_code=500)
        return JSONResponse(
            {
                "issuer": self.issuer_told or self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                # Some providers list these too; a client must not take them.
                "id_token_signing_alg_values_supported": ["RS256", "ES256", "HS256", "none"],
            }
        )

    async def _keys(self, request: Request) -> Response:
        return JSONResponse({"keys": [key.as_dict(private=False) for key in self.keys.values()]})

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        assert asked["client_id"] == CLIENT_ID
        assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
        assert {"openid", "email"} <= set(asked["scope"].split())
        code = secrets.token_urlsafe()
        self._codes[code] = asked
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}", 302)

    async def _token(self, request: Request) -> Response:
        form = await request.form()
        asked = self._codes.pop(str(form.get("code")), None)
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {basic}":
            return JSONResponse({"error": "invalid_client"}, 401)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(str(form.get("code_verifier")).encode()).digest())
        if (
            asked is None
            or form.get("redirect_uri") != asked["redirect_uri"]
            or challenge.decode().rstrip("=") != asked["code_challenge"]
        ):
            return JSONResponse({"error": "invalid_grant"}, 400)
        told = {"access_token": secrets.token_urlsafe(), "token_type": "Bearer", "expires_in": 300}
        return JSONResponse(told | ({"id_token": self._id_token(asked["nonce"])} if self.with_id_token else {}))

    def _id_token(self, nonce: str) -> str:
        now = int(time.time())
        usual = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "sub": "1234",
            "email": self.email,
            "email_verified": True,
            "nonce": nonce,
            "iat": now,
            "exp": now + 300,
        }
        claims = {name: value for name, value in {**usual, **self.claims}.items() if value is not None}
        if self.unsigned:
            parts = [base64.urlsafe_b64encode(json.dumps(each).encode()) for each in ({"alg": "none"}, claims)]
            return b".".join([each.rstrip(b"=") for each in parts] + [b""]).decode()
        key = self.signing_key or self.keys[self.algorithm]
        header = {"alg": self.algorithm} | ({"kid": key.kid} if key.kid else {})
        return jwt.encode(header, claims, key, algorithms=[self.algorithm])
