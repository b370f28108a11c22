"""Connects to Memorystore as Google's documents advise, with redis-py's own clients.

AUTH and in-transit encryption: https://cloud.google.com/memorystore/docs/redis/about-in-transit-encryption; IAM:
https://cloud.google.com/memorystore/docs/cluster/about-iam-auth; both are alike for Valkey.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from functools import partial
from inspect import signature
from typing import Any, Literal, overload

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.retry
import redis.cluster
import redis.exceptions
import redis.retry
from redis.backoff import ExponentialWithJitterBackoff

from torpor.history.clients import trust
from torpor.history.clients.blocking import run_sync
from torpor.history.clients.iam import IamCredentialProvider, TokenSource, application_default
from torpor.history.clients.kinds import Translation
from torpor.history.clients.packing import PACKER
from torpor.history.clients.resending import Resending, persistently
from torpor.history.errors import InvalidArgument

# (cluster, asynchronous) -> the class of the client.
_CLIENTS: dict[tuple[bool, bool], Any] = {
    (False, False): redis.Redis,
    (True, False): redis.cluster.RedisCluster,
    (False, True): redis.asyncio.Redis,
    (True, True): redis.asyncio.cluster.RedisCluster,
}
# Options of the clients, not of their connections; all Cluster clients have the second ones.
_CLIENT_OPTIONS = {"single_connection_client"}
_CLUSTER_OPTIONS = set(signature(redis.cluster.RedisCluster).parameters)
_TRANSLATED = Translation((redis.exceptions.RedisError, redis.exceptions.RedisClusterException))
_UNFIT = "these options don't fit the URL, the client or each other"


@overload
def connect(
    url: str,
    *,
    cluster: Literal[False] = False,
    asynchronous: Literal[False] = False,
    iam: bool | TokenSource = False,
    ca_file: str | os.PathLike[str] | None = None,
    **options: Any,
) -> redis.Redis: ...


@overload
def connect(
    url: str,
    *,
    cluster: Literal[True],
    asynchronous: Literal[False] = False,
    iam: bool | TokenSource = False,
    ca_file: str | os.PathLike[str] | None = None,
    **options: Any,
) -> redis.cluster.RedisCluster: ...


@overload
def connect(
    url: str,
    *,
    cluster: Literal[False] = False,
    asynchronous: Literal[True],
    iam: bool | TokenSource = False,
    ca_file: str | os.PathLike[str] | None = None,
    **options: Any,
) -> redis.asyncio.Redis: ...


@overload
def connect(
    url: str,
    *,
    cluster: Literal[True],
    asynchronous: Literal[True],
    iam: bool | TokenSource = False,
    ca_file: str | os.PathLike[str] | None = None,
    **options: Any,
) -> redis.asyncio.cluster.RedisCluster: ...


@overload
def connect(
    url: str,
    *,
    cluster: bool,
    asynchronous: Literal[False] = False,
    iam: bool | TokenSource = False,
    ca_file: str | os.PathLike[str] | None = None,
    **options: Any,
) -> redis.Redis | redis.cluster.RedisCluster: ...


def connect(
    url: str,
    *,
    cluster: bool = False,
    asynchronous: bool = False,
    iam: bool | TokenSource = False,
    ca_file: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Any:
    """A redis-py client of `redis://[:password@]host:port`, `rediss://` (TLS) or `unix://`, with time-outs and retries.

    `ca_file` has the certificate of the instance's own certificate authority, in PEM. Then no other authority is
    trusted, and host names are not checked, because Memorystore's certificates have none. If the file has several
    authorities or a public one, names are checked, unless you say `ssl_check_hostname=False`: then all of
    the file's authorities are the instance's own, as during a rotation. With `iam`, access tokens replace
    the password: those of Google's application default credentials, or those of your own source. `options` are
    redis-py's and override the values set here; options in the URL override both. If more operations run at once than
    `max_connections` (redis-py's default is 100), the others wait up to 20 s for a free connection.

    Over TLS, a password and a token are sent only to a server whose certificate is checked.

    No connection is opened before the first command, except by redis-py's blocking client of a Cluster, which asks for
    the nodes at once and so can raise RedisUnavailable. Raises InvalidArgument, before any connection is opened, if the
    arguments can't work.
    """
    pool = redis.asyncio.ConnectionPool if asynchronous else redis.ConnectionPool
    in_url = _check(pool, url, {}, wrong="must be redis://, rediss:// or unix://, percent-encoded, with valid options")
    options = {
        **_endurance(url, asynchronous=asynchronous),
        **_encryption(url, {**in_url, **options}, ca_file),
        **_authentication(url, {**options, **in_url}, iam=iam, ca_file=ca_file),
        **({} if asynchronous or cluster else {"command_packer": PACKER}),  # a Cluster's client takes none
        **options,
    }
    own = _CLUSTER_OPTIONS if cluster else _CLIENT_OPTIONS
    found = _check(pool, url, {name: value for name, value in options.items() if name not in own})
    if cluster and (found.get("db") or "host" not in found):
        raise InvalidArgument("the URL of a Cluster needs a host, and has neither a database nor a unix socket")
    kind = bool(cluster), bool(asynchronous)
    own_only = ca_file is not None and not trust.names_are_checked(found)
    if own_only and not asynchronous:
        options |= trust.own_connections(cluster=kind[0])
    made = partial(_made, _CLIENTS[kind], url, options, own_only=own_only)
    return run_sync(persistently(made, translated=_TRANSLATED, resending=Resending, pause=_pause, repeatable=True))


async def _made(client_class: Any, url: str, options: Mapping[str, Any], *, own_only: bool) -> Any:
    try:
        client = client_class.from_url(url, **options)
    except TypeError as exc:
        raise InvalidArgument(f"{_UNFIT}: {exc}") from None
    if own_only and isinstance(client, (redis.asyncio.Redis, redis.asyncio.RedisCluster)):
        trust.use_own_connections(client)
    return client


async def _pause(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251 - only the blocking client of a Cluster asks for anything here


def _check(pool: Any, url: str, options: Mapping[str, Any], *, wrong: str = "") -> dict[str, Any]:
    """The arguments of a connection, checked by making one without opening it; raises InvalidArgument."""
    try:
        unused = pool.from_url(url, **options)
        unused.connection_class(**unused.connection_kwargs)
    except (ValueError, TypeError, AttributeError, redis.exceptions.RedisError) as exc:
        # The error text of a URL may have a part of its password.
        raise InvalidArgument(f"the URL {wrong}" if wrong else f"{_UNFIT}: {exc}") from None
    arguments: dict[str, Any] = unused.connection_kwargs
    if isinstance(arguments.get("credential_provider"), str):
        raise InvalidArgument("a credential provider can't be given by its name; use iam, or give the object")
    return arguments


def _endurance(url: str, *, asynchronous: bool) -> dict[str, Any]:
    retry = redis.asyncio.retry.Retry if asynchronous else redis.retry.Retry
    options = {
        "socket_timeout": 10,
        "health_check_interval": 30,
        "retry": retry(ExponentialWithJitterBackoff(base=0.05, cap=2), 5),
    }
    network = {"socket_connect_timeout": 5, "socket_keepalive": True}
    return options if url.startswith("unix://") else {**options, **network}


def _encryption(url: str, given: Iterable[str], ca_file: str | os.PathLike[str] | None) -> dict[str, Any]:
    if ca_file is None:
        return {}
    if {"ssl_ca_certs", "ssl_ca_data", "ssl_ca_path", "connection_class"}.intersection(given):
        raise InvalidArgument("ca_file takes the place of redis-py's options for authorities and of a connection class")
    if not url.startswith("rediss://"):
        raise InvalidArgument("ca_file needs a rediss:// URL")
    try:
        is_own = trust.is_instances_own(ca_file)
    except (OSError, TypeError, ValueError) as exc:
        raise InvalidArgument(f"ca_file must be a file of certificates in PEM: {exc}") from exc
    # Host names can't be checked: Memorystore's certificates have an address as their common name, which Python
    # ignores, and a Cluster names nodes by address.
    return {"ssl_ca_certs": os.fspath(ca_file), "ssl_check_hostname": not is_own}


def _authentication(url: str, given: Mapping[str, Any], *, iam: bool | TokenSource, ca_file: object) -> dict[str, Any]:
    if iam and not url.startswith("rediss://"):
        raise InvalidArgument("iam needs a rediss:// URL: a token must not cross the network in the clear")
    if url.startswith("rediss://") and (iam or "password" in given):
        _check_trust("iam" if iam else "a password", given, ca_file)
    if not iam:
        return {}
    if {"username", "password", "credential_provider"}.intersection(given):
        raise InvalidArgument("iam takes the place of a user name, a password and a credential provider")
    if iam is True:
        return {"credential_provider": application_default()}
    if not callable(getattr(iam, "refresh", None)):
        raise InvalidArgument("iam must be True, or an object with token, expiry and refresh(request)")
    return {"credential_provider": IamCredentialProvider(iam)}


def _check_trust(secret: str, given: Mapping[str, Any], ca_file: object) -> None:
    """Refuse to send a token or a password to whoever answers; raises InvalidArgument."""
    if not trust.is_checked(given):
        raise InvalidArgument(f"{secret} needs ssl_cert_reqs=required: whoever answers would be sent it")
    if ca_file is None and not trust.names_are_checked(given):
        raise InvalidArgument(
            f"{secret} without ssl_check_hostname needs a ca_file, whose authorities alone are trusted"
        )
