"""Signing in: how a request says who makes it. One module for each way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from torpor.worker.console.roles import Person

# A person signs in again after so long.
SESSION_SECONDS = 8 * 3_600


class SignIn(Protocol):
    """A way to sign in.

    `person` is who makes a request; None if the request does not say, or if what it says is forged or has expired.
    `routes` are the pages of signing in and out, which need no permission. `challenge` answers who is unknown.
    `signs_out`: the person can sign out, by a form to `/sign-out`.
    """

    routes: Sequence[Route]
    signs_out: bool

    def person(self, request: Request) -> Person | None:
        """Who makes the request. It may wait for a network, so it runs in a thread."""
        ...

    async def challenge(self, request: Request) -> Response:
        """What an unknown person gets in place of a page."""
        ...
