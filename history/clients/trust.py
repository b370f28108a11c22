"""TLS with the authorities of one instance: which file has these, and connections that trust no others.

redis-py adds `ssl_ca_certs` to the system's authorities (8.1, `ssl.create_default_context`). Without a check of names,
each certificate that a public authority has issued to anybody would then pass.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.connection
import redis.connection

log = logging.getLogger("history.connect")

_CHECKED = (ssl.CERT_REQUIRED, "required")


def is_instances_own(ca_file: Any) -> bool:
    """True if the file has one authority, with its chain, and no public one; raises OSError, TypeError and ValueError.

    Each instance of Memorystore has its own authority, so a certificate which that one has signed is the instance's,
    whatever its name is. With several authorities, one instance could pass for another.
    """
    context = _trusting(ca_file)
    count, is_public = _roots(context), not _authorities(context).isdisjoint(_public())
    if count > 1 or is_public:
        what = "an authority that this system trusts for all hosts" if is_public else f"{count} authorities"
        log.info("%s has %s: host names are checked, unless the URL says ssl_check_hostname=false", ca_file, what)
        return False
    return True


def is_checked(arguments: Mapping[str, Any]) -> bool:
    """True if a connection with these arguments must be shown a certificate that it trusts."""
    return arguments.get("ssl_cert_reqs", "required") in _CHECKED


def names_are_checked(arguments: Mapping[str, Any]) -> bool:
    """True if the certificate must also be for the host of the connection."""
    return bool(arguments.get("ssl_check_hostname", True))


def _trusting(*files: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for file in files:
        context.load_verify_locations(file)
    return context


def _roots(context: ssl.SSLContext) -> int:
    """How many of its certificates are issued by none of the others."""
    authorities: list[Any] = context.get_ca_certs()
    subjects = [each["subject"] for each in authorities]
    issued = [each for each in authorities if each["issuer"] in subjects and each["issuer"] != each["subject"]]
    return context.cert_store_stats()["x509"] - len(issued)


def _authorities(context: ssl.SSLContext) -> set[bytes]:
    return set(context.get_ca_certs(binary_form=True))


def _public() -> set[bytes]:
    """The certificates of the system's authorities: one file, or files in a folder, as the system has them."""
    paths = ssl.get_default_verify_paths()
    return _authorities(_trusting(*filter(None, [paths.cafile, *Path(paths.capath or "/nowhere").glob("*.crt")])))


def _context(given: Any, password: str | None) -> ssl.SSLContext:
    """A context that trusts the authorities of the connection's `ca_certs` alone, whatever the host's name is."""
    context = ssl.create_default_context(cafile=given.ca_certs)
    context.check_hostname = False
    if given.certfile or given.keyfile:
        context.load_cert_chain(given.certfile, given.keyfile, password)
    if minimum := getattr(given, "ssl_min_version", None) or getattr(given, "min_version", None):
        context.minimum_version = minimum
    if ciphers := getattr(given, "ssl_ciphers", None) or getattr(given, "ciphers", None):
        context.set_ciphers(ciphers)
    return context


class OwnConnection(redis.connection.SSLConnection):
    """A blocking connection that trusts the instance's own authorities and no others."""

    def _wrap_socket_with_ssl(self, sock: Any) -> ssl.SSLSocket:
        return _context(self, self.certificate_password).wrap_socket(sock, server_hostname=self.host)


class AsyncOwnConnection(redis.asyncio.connection.SSLConnection):
    """The same of asyncio."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = _context(self.ssl_context, self.ssl_context.password)


class _OwnPool(redis.ConnectionPool):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"connection_class": OwnConnection})


def own_connections(*, cluster: bool) -> dict[str, Any]:
    """Options by which a blocking client makes such connections."""
    return {"connection_pool_class": _OwnPool} if cluster else {"connection_class": OwnConnection}


def use_own_connections(client: redis.asyncio.Redis | redis.asyncio.RedisCluster) -> None:
    """Let an asyncio client that has opened no connection yet make such ones; it takes no option for them."""
    if isinstance(client, redis.asyncio.Redis):
        client.connection_pool.connection_class = AsyncOwnConnection
        return
    client.connection_kwargs["connection_class"] = AsyncOwnConnection
    for node in client.nodes_manager.startup_nodes.values():
        node.connection_class = AsyncOwnConnection
