"""Signing in with the token that the command prints: for one machine, whose user has all roles."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from torpor.worker.console.rendering import render
from torpor.worker.console.roles import Person, Role

# Who the audit trail names; the entry's `login` has the user and the host of the process.
_LOCAL = Person("local", frozenset(Role))
_SIGNED_IN = "signed_in"


class TokenSignIn:
    """Asks once for the token of this process. A cookie remembers that it was right."""

    def __init__(self, token: str | None = None) -> None:
        """A new token, unless one is given."""
        self.token = token or secrets.token_urlsafe(24)
        self.routes: Sequence[Route] = [Route("/sign-in", self._sign_in, methods=["GET", "POST"])]

    def person(self, request: Request) -> Person | None:
        """The user of this machine."""
        return _LOCAL if request.session.get(_SIGNED_IN) == self.token[:8] else None

    async def challenge(self, request: Request) -> Response:
        """A form that asks for the token."""
        return render(request, "sign_in.html", status=401)

    async def _sign_in(self, request: Request) -> Response:
        given = request.query_params.get("token") or (await request.form()).get("token")
        if not isinstance(given, str) or not given:
            return await self.challenge(request)
        if not secrets.compare_digest(given.encode(), self.token.encode()):
            return render(request, "sign_in.html", status=403, wrong=True)
        request.session[_SIGNED_IN] = self.token[:8]
        return RedirectResponse("/", status_code=303)
