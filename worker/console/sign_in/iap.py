"""Signing in by Identity-Aware Proxy, which signs who makes each request.

Source: https://cloud.google.com/iap/docs/signed-headers-howto
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.auth import jwt
from google.auth.exceptions import GoogleAuthError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from torpor.worker.console.addresses import folded, is_address
from torpor.worker.console.rendering import render
from torpor.worker.console.roles import Person
from torpor.worker.console.settings import ConsoleSettings
from torpor.worker.console.sign_in.signing_keys import SigningKeys

# X-Goog-Authenticated-User-Email is not signed, so anybody who gets around the proxy could send it.
_HEADER = "x-goog-iap-jwt-assertion"
_ISSUER = "https://cloud.google.com/iap"
_KEYS = "https://www.gstatic.com/iap/verify/public_key"
# How far the clocks of the proxy and of this host may be apart.
_SKEW_SECONDS = 30
# An assertion has about 700 characters.
_MOST_CHARACTERS = 8_192


class IapSignIn:
    """Believes the proxy's signature on each request. There is nothing to sign in to or out of."""

    routes: Sequence[Route] = ()
    signs_out = False

    def __init__(self, settings: ConsoleSettings, keys_url: str = _KEYS) -> None:
        """The people of these settings; the proxy's public keys come from `keys_url`."""
        self._settings = settings
        self._keys = SigningKeys(keys_url)

    def person(self, request: Request) -> Person | None:
        """Whom the proxy has signed for; raises KeysUnavailable."""
        given = request.headers.getlist(_HEADER)
        if len(given) != 1 or len(given[0]) > _MOST_CHARACTERS:
            return None
        claims = self._verified(given[0])
        if claims is None or claims.get("iss") != _ISSUER:
            return None
        email = claims.get("email")
        if not isinstance(email, str) or not is_address(email):
            return None
        return Person(folded(email), self._settings.roles_of(email))

    async def challenge(self, request: Request) -> Response:
        """Say that the request has not come through the proxy."""
        return render(request, "not_signed.html", status=401)

    def _verified(self, assertion: str) -> dict[str, Any] | None:
        """What an assertion says; None if it is not signed by the proxy for this console, or has expired."""
        try:
            header = jwt.decode_header(assertion)
            if header.get("alg") != "ES256" or not isinstance(kid := header.get("kid"), str):
                return None
            key = self._keys.of(kid)
            if key is None:
                return None
            audience = self._settings.iap_audience
            claims = jwt.decode(assertion, {kid: key}, audience=audience, clock_skew_in_seconds=_SKEW_SECONDS)
        except (GoogleAuthError, ValueError, TypeError, RecursionError):  # malformed in one of many ways
            return None
        return dict(claims)
