"""IAM access tokens in place of a password, for Memorystore for Redis Cluster and for Valkey.

Google looks at the token when a connection is made, and one that is authenticated goes on when its token has expired
(https://cloud.google.com/memorystore/docs/cluster/about-iam-auth). So only new connections need a valid token, and
redis-py's plain CredentialProvider is enough: nothing has to stream tokens to the connections that are open.
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

# The only user there is under IAM: https://docs.cloud.google.com/memorystore/docs/valkey/manage-iam-auth#error-messages
_USER = "default"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
# As google-auth does: metadata servers hand out the old token until four minutes before it expires.
_AHEAD = timedelta(minutes=3, seconds=45)
_PAUSE_SECONDS = 0.5
_TIMEOUT_SECONDS = 10


class TokenSource(Protocol):
    """What access tokens come from; `google.auth.credentials.Credentials` is one."""

    @property
    def token(self) -> str | None:
        """The access token; None before the first refresh."""

    @property
    def expiry(self) -> datetime | None:
        """When the token expires, in UTC whether it says so or not; None for never."""

    def refresh(self, request: Any) -> Any:
        """Get a new token; `request` is a `google.auth.transport.Request` for those that need one."""


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    expiry: datetime | None

    def lasts(self, ahead: timedelta) -> bool:
        return self.expiry is None or datetime.now(UTC) + ahead < self.expiry


class IamCredentialProvider(CredentialProvider):
    """A user name and an access token for each new connection of redis-py, sync or asyncio.

    The first connection that is made in the last 3 min 45 s of a token renews it, while others use it. What can't be
    renewed is used until it expires, and then RedisUnavailable is raised. Clients, threads and forked processes can
    share a provider.
    """

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._token: _Token | None = None
        self._failure: Exception | None = None
        self._try_again_at = 0.0
        self._owner = os.getpid()
        self._lock = threading.Lock()

    def get_credentials(self) -> tuple[str, str]:
        """The user name and a token that is valid; raises RedisUnavailable."""
        token = self._lasting(_AHEAD) or self._renew()
        return _USER, token.value

    async def get_credentials_async(self) -> tuple[str, str]:
        """As `get_credentials`; the source is asked in a thread."""
        token = self._lasting(_AHEAD)
        if token is None:
            token = await asyncio.to_thread(self._renew)
        return _USER, token.value

    def _lasting(self, ahead: timedelta = timedelta(0)) -> _Token | None:
        token = self._token
        return token if token and token.lasts(ahead) else None

    def _renew(self) -> _Token:
        """A new token, or the old one while it is valid and another thread is at it."""
        lock = self._lock_of_process()
        if lock.locked() and (held := self._lasting()):
            return held
        with lock:
            return self._lasting(_AHEAD) or self._ask()

    def _lock_of_process(self) -> threading.Lock:
        if self._owner != os.getpid():  # forked, maybe while a thread of the parent held it
            self._owner, self._lock = os.getpid(), threading.Lock()
        return self._lock

    def _ask(self) -> _Token:
        # Those who have waited for an attempt that failed take its outcome, and not their turn at another.
        if time.monotonic() >= self._try_again_at:
            self._refresh()
        if held := self._lasting():
            return held
        raise RedisUnavailable(f"there is no IAM access token: {_reason(self._failure)}") from None

    def _refresh(self) -> None:
        try:
            self._source.refresh(_request)
            self._token = _token_of(self._source)
        except Exception as exc:
            self._failure, self._try_again_at = exc, time.monotonic() + _PAUSE_SECONDS
            log.warning("the IAM access token can't be renewed: %s", _reason(exc))


def _reason(failure: BaseException | None) -> str:
    # After their message, google-auth's errors can have all that was answered.
    first = failure.args[0] if failure and failure.args else None
    if isinstance(first, BaseException):
        return _reason(first)
    return first if isinstance(first, str) else str(failure)


def _token_of(source: TokenSource) -> _Token:
    expiry = source.expiry
    token = _Token(source.token or "", expiry.replace(tzinfo=UTC) if expiry and not expiry.tzinfo else expiry)
    if not token.value or not token.lasts(timedelta(0)):
        raise ValueError("the source has given none that is valid")
    return token


@cache
def application_default() -> IamCredentialProvider:
    """What gives all of this process the tokens of Google's application default credentials.

    kombu and Celery take it by its name: `rediss://10.0.0.3:6379/0?credential_provider=torpor.history.application_default`.
    Raises InvalidArgument where google-auth is not installed.
    """
    return IamCredentialProvider(_ApplicationDefault())


class _ApplicationDefault:
    """Google's application default credentials, looked for at the first refresh: that can ask the network."""

    token: str | None = None
    expiry: datetime | None = None

    def __init__(self) -> None:
        self._credentials: Any = None
        self._auth = _google_auth()

    def refresh(self, request: Any) -> None:
        if self._credentials is None:
            self._credentials, _ = self._auth.default(scopes=[_SCOPE])
        self._credentials.refresh(request)
        self.token, self.expiry = self._credentials.token, self._credentials.expiry


def _request(*args: Any, **options: Any) -> Any:
    """How Google's credentials send a request, for no longer than a connection can wait."""
    return _google_auth().transport.requests.Request()(*args, **{"timeout": _TIMEOUT_SECONDS, **options})


def _google_auth() -> Any:
    try:
        import google.auth.transport.requests
    except ImportError as exc:
        raise InvalidArgument("IAM access tokens need Google's library: pip install 'torpor[iam]'") from exc
    return google.auth
