"""Signing in: how a request says who makes it. One module for each way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from torpor.worker.console.roles import Person


class SignIn(Protocol):
    """A way to sign in.

    `person` is who makes a request; None if the request does not say, or if what it says is forged or has expired.
    `routes` are the pages of signing in, which need no permission. `challenge` answers who is unknown.
    """

    routes: Sequence[Route]

    def person(self, request: Request) -> Person | None:
        """Who makes the request."""
        ...

    async def challenge(self, request: Request) -> Response:
        """What an unknown person gets in place of a page."""
        ...
