"""Who is signed in, as the signed cookie remembers it, and whose session has ended before the cookie has."""

from __future__ import annotations

import logging
import secrets
import time
from datetime import timedelta

from starlette.requests import Request

from torpor.history.protocol import SessionStore, TorporError
from torpor.worker.console.sign_in import SESSION_SECONDS

log = logging.getLogger("torpor.console")

_KEY = "signed_in"


class SignedIn:
    """The sessions of browsers. A cookie that somebody has copied is worth nothing after its owner has signed out.

    Redis tells all processes of the console. What has ended in this process it knows without Redis, too.
    """

    def __init__(self, sessions: SessionStore) -> None:
        """The ended sessions of browsers that this Redis notes."""
        self._sessions = sessions
        self._ended: dict[str, float] = {}

    def begin(self, request: Request, name: str) -> None:
        """Sign somebody in. All that the browser's session had before is gone, also the token of its forms."""
        request.session.clear()
        request.session[_KEY] = [name, secrets.token_urlsafe(16), int(time.time())]

    def name(self, request: Request) -> str | None:
        """Who is signed in; None if nobody is, or for too long. Raises what Redis raises: nobody is believed then."""
        name, number, since = request.session.get(_KEY) or (None, "", 0)
        if name is None or number in self._ended or time.time() - since > SESSION_SECONDS:
            return None
        return None if self._sessions.has_ended(number) else name

    def end(self, request: Request) -> bool:
        """Sign out; False if Redis could not be told: another process may still believe a copy of the cookie."""
        now = time.time()
        self._ended = {number: until for number, until in self._ended.items() if until > now}
        told = request.session.get(_KEY)
        request.session.clear()
        if told is None:
            return True
        self._ended[told[1]] = now + SESSION_SECONDS
        try:
            self._sessions.note_ended(told[1], timedelta(seconds=SESSION_SECONDS))
        except TorporError as error:
            log.warning("only this process knows that somebody has signed out: %s", error)
            return False
        return True
