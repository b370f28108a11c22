"""Signing in by OpenID Connect: the code flow with PKCE, state and nonce.

Source: https://openid.net/specs/openid-connect-core-1_0.html#CodeFlowAuth
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.starlette_client import OAuth
from joserfc.errors import JoseError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from torpor.history.protocol import SessionStore, TransientError
from torpor.worker.console import cookie, forms, redirects
from torpor.worker.console.addresses import folded, is_address
from torpor.worker.console.rendering import render
from torpor.worker.console.roles import Person
from torpor.worker.console.settings import ConsoleSettings
from torpor.worker.console.sign_in.signed_in import SignedIn

log = logging.getLogger("torpor.console")

_CALLBACK = "/sign-in/done"
_NEXT = "next"
# The cookie has room for so many bytes of the page to return to. From a longer one, people come to the overview.
_MOST_NEXT = 700
_SKEW_SECONDS = 30
_PROVIDER_SECONDS = 10
# Anybody can begin to sign in: so many wait for the provider at a time.
_AT_ONCE = 8
# No `none`, and none whose key the provider and this console share.
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")


class ProviderUnavailable(TransientError):
    """The identity provider does not answer as it should."""


class OidcSignIn:
    """Sends people to the identity provider. A cookie remembers whom it has named."""

    signs_out = True

    def __init__(self, settings: ConsoleSettings, sessions: SessionStore) -> None:
        """The people of these settings, and the Redis that notes who has signed out; opens no connection."""
        assert settings.oidc_client_secret
        self._settings = settings
        self._signed_in = SignedIn(sessions)
        self._provider_turns = asyncio.Semaphore(_AT_ONCE)
        self._provider = OAuth().register(
            "console",
            client_id=settings.oidc_client_id,
            client_secret=settings.oidc_client_secret.get_secret_value(),
            server_metadata_url=f"{(settings.oidc_issuer or '').rstrip('/')}/.well-known/openid-configuration",
            client_kwargs={
                "scope": "openid email",
                "code_challenge_method": "S256",
                "timeout": _PROVIDER_SECONDS,
            },
        )
        self.routes: Sequence[Route] = [
            Route("/sign-in", self._begin, methods=["GET"]),
            Route(_CALLBACK, self._finish, methods=["GET"]),
            Route("/sign-out", self._leave, methods=["POST"]),
        ]

    def person(self, request: Request) -> Person | None:
        """Whom the provider has named in this browser."""
        email = self._signed_in.name(request)
        return Person(email, self._settings.roles_of(email)) if email else None

    async def challenge(self, request: Request) -> Response:
        """A link to the provider, which leads back to the page."""
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return render(request, "sign_in_oidc.html", status=401, path_back=path if request.method == "GET" else "/")

    async def _begin(self, request: Request) -> Response:
        back = redirects.checked(request.query_params.get(_NEXT, "/"))
        async with self._provider_turns:
            try:
                await self._prepare()
                response: Response = await self._provider.authorize_redirect(
                    request, f"{self._settings.url}{_CALLBACK}"
                )
            except (httpx2.HTTPError, RuntimeError, ValueError) as exc:
                raise _unavailable(exc) from exc
        request.session[_NEXT] = back if cookie.size(back) <= _MOST_NEXT else "/"
        return response

    async def _finish(self, request: Request) -> Response:
        async with self._provider_turns:
            try:
                await self._prepare()
                email = await self._email(request)
            except httpx2.HTTPError as exc:
                raise _unavailable(exc) from exc
            except (AuthlibBaseError, JoseError, RuntimeError, ValueError, TypeError, KeyError) as exc:
                log.warning("somebody was not signed in: %s", type(exc).__name__)
                email = None
        if email is None:
            return render(request, "not_signed_in.html", status=403)
        back = request.session.get(_NEXT, "/")
        self._signed_in.begin(request, email)
        return redirects.to(back)

    async def _email(self, request: Request) -> str | None:
        """The verified address that the provider names; None without one. Raises the library's many errors."""
        required = {"essential": True}
        told: Any = await self._provider.authorize_access_token(
            request,
            leeway=_SKEW_SECONDS,
            claims_options={
                "iss": required | {"value": self._settings.oidc_issuer},
                "aud": required | {"value": self._settings.oidc_client_id},
            },
        )
        claims = told.get("userinfo") or {}
        email = claims.get("email")
        if claims.get("email_verified") is not True or not isinstance(email, str) or not is_address(email):
            return None
        return folded(email)

    async def _prepare(self) -> None:
        """Read what the provider says of itself, once, and hold it to what the console needs."""
        told = await self._provider.load_server_metadata()
        if told.get("issuer") != self._settings.oidc_issuer:
            raise ProviderUnavailable("the identity provider has another name than TORPOR_CONSOLE_OIDC_ISSUER says")
        supported = told.get("id_token_signing_alg_values_supported") or ["RS256"]
        told["id_token_signing_alg_values_supported"] = [each for each in supported if each in _ALGORITHMS]

    async def _leave(self, request: Request) -> Response:
        await forms.read(request)
        is_known = await run_in_threadpool(self._signed_in.end, request)
        return render(request, "signed_out.html", can_return=True, is_known=is_known)


def _unavailable(exc: Exception) -> ProviderUnavailable:
    log.warning("the identity provider does not answer: %s", type(exc).__name__)
    return ProviderUnavailable("the identity provider does not answer: try again in a minute")
