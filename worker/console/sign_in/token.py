"""Signing in with the token that the command prints: for one machine, whose user has all roles."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from torpor.worker.console import forms, redirects
from torpor.worker.console.admission import Rate
from torpor.worker.console.rendering import render
from torpor.worker.console.roles import Person, Role

# Who the audit trail names; the entry's `login` has the user and the host of the process.
_LOCAL = Person("local", frozenset(Role))
_GRANT = "grant"
_GUESSES_A_MINUTE = 10


class TokenSignIn:
    """Asks once for the token of this process. A cookie remembers that it was right."""

    signs_out = True

    def __init__(self, token: str | None = None) -> None:
        """A new token, unless one is given."""
        self.token = token or secrets.token_urlsafe(24)
        # What the cookie has: nothing of the token, and worth nothing for another process.
        self._grants: set[str] = set()
        self._guesses = Rate(_GUESSES_A_MINUTE)
        self.routes: Sequence[Route] = [
            Route("/sign-in", self._open, methods=["GET"]),
            Route("/sign-in", self._enter, methods=["POST"]),
            Route("/sign-out", self._leave, methods=["POST"]),
        ]

    def person(self, request: Request) -> Person | None:
        """The user of this machine."""
        return _LOCAL if request.session.get(_GRANT) in self._grants else None

    async def challenge(self, request: Request) -> Response:
        """A form that asks for the token."""
        return render(request, "sign_in.html", status=401)

    async def _open(self, request: Request) -> Response:
        """The address that the command prints, which leads to another one without the token; or the form."""
        given = request.query_params.get("token")
        return self._admit(request, given) if given else await self.challenge(request)

    async def _enter(self, request: Request) -> Response:
        form = await forms.read(request)
        return self._admit(request, form.get("token", ""))

    def _admit(self, request: Request, given: str) -> Response:
        self._guesses.count("")
        if not secrets.compare_digest(given.encode(errors="replace"), self.token.encode()):
            return render(request, "sign_in.html", status=403, wrong=True)
        grant = secrets.token_urlsafe(24)
        self._grants.add(grant)
        request.session.clear()  # also the token of forms: a new person, new forms
        request.session[_GRANT] = grant
        return redirects.to("/")

    async def _leave(self, request: Request) -> Response:
        await forms.read(request)
        self._grants.discard(request.session.get(_GRANT, ""))
        request.session.clear()
        return render(request, "signed_out.html", can_return=False, is_known=True)
