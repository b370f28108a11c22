"""The kind of a client: of redis-py or valkey-py, blocking or asyncio, for a Cluster or not."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Any, Protocol

from torpor.history.errors import InvalidArgument, translate


class Client(Protocol):
    """A client of redis-py or valkey-py: for one node, Sentinel or a Cluster, blocking or asyncio."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command; returns the reply, or an awaitable of it."""


# valkey-py is a fork of redis-py: it has the same classes, and its own names for some errors.
_PACKAGES = ("redis", "valkey")


@dataclass(frozen=True, slots=True)
class Translation:
    """A context that turns each error of a client into the error of `history.errors` that it means."""

    errors: tuple[type[Exception], ...]

    def __enter__(self) -> None:
        pass

    def __exit__(self, raised: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(exc, self.errors):
            raise translate(exc) from exc


@dataclass(frozen=True, slots=True)
class ClientKind:
    """How to call a client; `translated` turns its errors into ours, `no_script` is its error for a lost script."""

    asynchronous: bool
    cluster: bool
    translated: Translation
    no_script: type[Exception]


def kind_of(client: Client) -> ClientKind:
    """The kind of a client; raises InvalidArgument if the object is not a client."""
    return _kind_of(type(client))


def address_of(client: Any) -> str:
    """Where a client's Redis is, without credentials: `host:port/database`, a socket's path, or a Cluster's node."""
    nodes = getattr(client, "nodes_manager", None)
    if nodes is not None:
        return f"the Cluster of {min(map(str, nodes.startup_nodes))}"
    pool = client.connection_pool
    options = pool.connection_kwargs
    if service := getattr(pool, "service_name", None):
        place = f"{service} of Sentinel"
    else:
        place = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return f"{place}/{options.get('db') or 0}"


@cache
def _kind_of(client_class: type) -> ClientKind:
    modules = [each.__module__.split(".") for each in client_class.__mro__]
    package = next((module[0] for module in modules if module[0] in _PACKAGES), None)
    if package is None or not hasattr(client_class, "execute_command"):
        raise InvalidArgument(f"expected a client of redis-py or valkey-py, not {client_class.__name__}")
    errors = sys.modules[f"{package}.exceptions"]
    roots = [f"{package.capitalize()}Error", f"{package.capitalize()}ClusterException"]
    return ClientKind(
        asynchronous=any(module[:2] == [package, "asyncio"] for module in modules),
        cluster=hasattr(client_class, "get_node_from_key"),
        translated=Translation(tuple(getattr(errors, name) for name in roots)),
        no_script=errors.NoScriptError,
    )
