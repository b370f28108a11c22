"""Who is signed in, as the signed cookie remembers it, and whose session has ended before the cookie has."""

from __future__ import annotations

import secrets
import time

from starlette.requests import Request

from torpor.worker.console.sign_in import SESSION_SECONDS

_KEY = "signed_in"


class SignedIn:
    """The sessions of browsers. A cookie that somebody has copied is worth nothing after its owner has signed out.

    Each process knows the sessions that have ended in it.
    """

    def __init__(self) -> None:
        self._ended: dict[str, float] = {}

    def begin(self, request: Request, name: str) -> None:
        """Sign somebody in. All that the browser's session had before is gone, also the token of its forms."""
        request.session.clear()
        request.session[_KEY] = [name, secrets.token_urlsafe(16), int(time.time())]

    def name(self, request: Request) -> str | None:
        """Who is signed in; None if nobody is, or for too long."""
        name, number, since = request.session.get(_KEY) or (None, "", 0)
        if number in self._ended or time.time() - since > SESSION_SECONDS:
            return None
        return name

    def end(self, request: Request) -> None:
        """Sign out."""
        now = time.time()
        self._ended = {number: until for number, until in self._ended.items() if until > now}
        if told := request.session.get(_KEY):
            self._ended[told[1]] = now + SESSION_SECONDS
        request.session.clear()
