"""IAM access tokens instead of a password, for Memorystore for Redis Cluster and for Valkey.

Google checks the token when a connection is opened; an open connection stays usable when its token has expired
(https://cloud.google.com/memorystore/docs/cluster/about-iam-auth). So only new connections need a valid token, and
redis-py's plain CredentialProvider is enough: open connections need no new tokens.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Protocol

from redis.credentials import CredentialProvider

from torpor.history.errors import InvalidArgument, RedisUnavailable

log = logging.getLogger("history.iam")

# The only user with IAM: https://docs.cloud.google.com/memorystore/docs/valkey/manage-iam-auth#error-messages
_USER = "default"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
# The same as in google-auth: metadata servers return the old token until four minutes before it expires.
_AHEAD = timedelta(minutes=3, seconds=45)
_PAUSE_SECONDS = 0.5
_TIMEOUT_SECONDS = 10


class TokenSource(Protocol):
    """An object that gives access tokens, for example `google.auth.credentials.Credentials`."""

    @property
    def token(self) -> str | None:
        """The access token; None before the first refresh."""

    @property
    def expiry(self) -> datetime | None:
        """When the token expires, in UTC even if it has no time zone; None for never."""

    def refresh(self, request: Any) -> Any:
        """Get a new token; `request` is a `google.auth.transport.Request`, for sources that need one."""


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    expiry: datetime | None

    def lasts(self, ahead: timedelta) -> bool:
        return self.expiry is None or datetime.now(UTC) + ahead < self.expiry


class IamCredentialProvider(CredentialProvider):
    """Gives a user name and an access token to each new connection of redis-py, blocking or asyncio.

    The first connection in the last 3 min 45 s of a token's life renews it; meanwhile others use the old one. If it
    can't be renewed, it is used until it expires; then RedisUnavailable is raised. Clients, threads and forked
    processes can share a provider.
    """

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._token: _Token | None = None
        self._failure: Exception | None = None
        self._try_again_at = 0.0
        self._owner = os.getpid()
        self._lock = threading.Lock()

    def get_credentials(self) -> tuple[str, str]:
        """The user name and a valid token; raises RedisUnavailable."""
        token = self._lasting(_AHEAD) or self._renew()
        return _USER, token.value

    async def get_credentials_async(self) -> tuple[str, str]:
        """As `get_credentials`, with the source in a thread."""
        token = self._lasting(_AHEAD)
        if token is None:
            token = await asyncio.to_thread(self._renew)
        return _USER, token.value

    def _lasting(self, ahead: timedelta = timedelta(0)) -> _Token | None:
        token = self._token
        return token if token and token.lasts(ahead) else None

    def _renew(self) -> _Token:
        """A new token, or the old one while it is valid and another thread renews it."""
        lock = self._lock_of_process()
        if lock.locked() and (valid := self._lasting()):
            return valid
        with lock:
            return self._lasting(_AHEAD) or self._ask()

    def _lock_of_process(self) -> threading.Lock:
        if self._owner != os.getpid():  # forked, maybe while a thread of the parent had it locked
            self._owner, self._lock = os.getpid(), threading.Lock()
        return self._lock

    def _ask(self) -> _Token:
        # Threads that have waited for an attempt that failed share its outcome and do not try again.
        if time.monotonic() >= self._try_again_at:
            self._refresh()
        if valid := self._lasting():
            return valid
        raise RedisUnavailable(f"there is no IAM access token: {_reason(self._failure)}") from None

    def _refresh(self) -> None:
        try:
            self._source.refresh(_request)
            self._token = _token_of(self._source)
        except Exception as exc:
            self._failure, self._try_again_at = exc, time.monotonic() + _PAUSE_SECONDS
            log.warning("the IAM access token can't be renewed: %s", _reason(exc))


def _reason(failure: BaseException | None) -> str:
    # After their message, google-auth's errors can have all of the response.
    first = failure.args[0] if failure and failure.args else None
    if isinstance(first, BaseException):
        return _reason(first)
    return first if isinstance(first, str) else str(failure)


def _token_of(source: TokenSource) -> _Token:
    expiry = source.expiry
    token = _Token(source.token or "", expiry.replace(tzinfo=UTC) if expiry and not expiry.tzinfo else expiry)
    if not token.value or not token.lasts(timedelta(0)):
        raise ValueError("the source gave no valid token")
    return token


@cache
def application_default() -> IamCredentialProvider:
    """The provider of tokens of Google's application default credentials, one for this process.

    kombu and Celery take it by its name: `rediss://10.0.0.3:6379/0?credential_provider=torpor.application_default`.
    Raises InvalidArgument if google-auth is not installed.
    """
    return IamCredentialProvider(_ApplicationDefault())


class _ApplicationDefault:
    """Google's application default credentials, found at the first refresh, because that can ask the network."""

    token: str | None = None
    expiry: datetime | None = None

    def __init__(self) -> None:
        self._credentials: Any = None
        self._auth = _google_auth()

    def refresh(self, request: Any) -> None:
        if self._credentials is None:
            self._credentials, _ = self._auth.default(scopes=[_SCOPE], request=request)
        self._credentials.refresh(request)
        self.token, self.expiry = self._credentials.token, self._credentials.expiry


def _request(*args: Any, **options: Any) -> Any:
    """Send a request of Google's credentials, within a time that a connection can wait for."""
    with bounded_session() as session:
        send = _google_auth().transport.requests.Request(session)
        return send(*args, **{"timeout": _TIMEOUT_SECONDS, **options})


def bounded_session(*, threads: int = 10, retries: int = 0) -> Any:
    """A `requests.Session` for Google's libraries; see `bounded_http`. Needs the extra `torpor[iam]`."""
    from torpor.history.clients import bounded_http  # an application without IAM has no requests

    return bounded_http.bounded_session(threads=threads, retries=retries)


def _google_auth() -> Any:
    try:
        import google.auth.transport.requests
    except ImportError as exc:
        raise InvalidArgument("IAM access tokens need Google's library: pip install 'torpor[iam]'") from exc
    return google.auth
