"""Redis servers of the tests' own that speak TLS as Memorystore's do, and a certificate authority for them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from support.keyspace import raw
from support.ports import free_port
from support.servers import KIND, RedisServer, missing, server_binary, start_redis
from support.waiting import wait_until

HOST = "127.0.0.1"

_USES = (
    "digital_signature content_commitment key_encipherment data_encipherment key_agreement encipher_only decipher_only"
)
_SIGNS_CERTIFICATES = x509.KeyUsage(**dict.fromkeys(_USES.split(), False), key_cert_sign=True, crl_sign=True)


@dataclass(frozen=True)
class Authority:
    """A certificate authority; a folder has its own certificate and those that it has issued."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    subject: x509.Name

    @property
    def file(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def options(self) -> list[str]:
        """The options of a server for its certificate."""
        files = {"cert": "server.pem", "key": "server.key", "ca-cert": "ca.pem"}
        named = [part for what, name in files.items() for part in (f"--tls-{what}-file", str(self.folder / name))]
        return [*named, "--tls-auth-clients", "no"]


def make_authority(folder: Path, *, alternative: bool = False) -> Authority:
    """An authority that has issued a server's certificate, with the address as its common name.

    With `alternative`, the address is an alternative name too; Memorystore's certificates have none.
    """
    folder.mkdir()
    subject, key = _name(f"CA of {folder.name}"), ec.generate_private_key(ec.SECP256R1())
    authority = Authority(folder, key, subject)
    _write(authority.file, _certificate(authority, subject, key.public_key(), ca=True))
    server_key = ec.generate_private_key(ec.SECP256R1())
    issued = _certificate(authority, _name(HOST), server_key.public_key(), ca=False, alternative=alternative)
    _write(folder / "server.pem", issued)
    private = server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.key").write_bytes(private)
    return authority


def intermediate(authority: Authority) -> bytes:
    """The certificate of an authority that another one has issued, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return _certificate(authority, _name("intermediate"), key, ca=True).public_bytes(Encoding.PEM)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _certificate(
    authority: Authority, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, ca: bool, alternative: bool = False
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(authority.subject, subject, key, x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    if alternative:
        names = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(HOST))])
        builder = builder.add_extension(names, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    # Python 3.13 checks certificates strictly: https://docs.python.org/3/library/ssl.html#ssl.create_default_context
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = builder.add_extension(issuer, critical=False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    if ca:
        builder = builder.add_extension(_SIGNS_CERTIFICATES, critical=True)
    return builder.sign(authority.key, SHA256())


def _write(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(Encoding.PEM))


@dataclass(frozen=True)
class EncryptedServer:
    """A server with a TLS port for its only user, `default`, and a port without TLS for its administrator."""

    port: int
    plain: RedisServer
    authority: Authority

    def url(self, password: str = "", database: str = "") -> str:
        return f"rediss://{f':{password}@' if password else ''}{HOST}:{self.port}{database}"

    def allow(self, *passwords: str) -> None:
        """Accept these passwords from now on; open connections stay."""
        with self.plain.client() as admin:
            raw(admin, "ACL", "SETUSER", "default", "resetpass", *(f">{password}" for password in passwords))

    def connections(self) -> int:
        """How many connections were made so far, those of administrators included."""
        with self.plain.client() as admin:
            received: int = admin.info("stats")["total_connections_received"]
            return received


def start_encrypted(folder: Path, authority: Authority, *options: str) -> EncryptedServer:
    """A new, empty server that accepts no password yet."""
    binary = server_binary()
    tried = subprocess.run([binary, "--port", "0", "--tls-port", "1"], capture_output=True, check=False)
    if b"configure TLS" not in tried.stdout:
        if os.environ.get(KIND) in ("redis-6.2", "redis-8", "valkey-9"):
            pytest.skip("the servers of Python packages have no TLS")
        missing("a Redis server that has TLS")
    # A Cluster's nodes talk to each other at a port that is 10,000 higher.
    port = next(port for port in iter(free_port, None) if port < 50_000)
    plain = start_redis(folder, "--tls-port", str(port), *authority.options, *options)
    with plain.client() as first:
        raw(first, "ACL", "SETUSER", "admin", "on", ">of the tests", "~*", "&*", "+@all")
    server = EncryptedServer(port, replace(plain, user="admin", password="of the tests"), authority)
    server.allow()
    return server


@contextmanager
def encrypted_cluster(folder: Path, authority: Authority, primaries: int = 2) -> Iterator[Sequence[EncryptedServer]]:
    """The nodes of a Cluster that share the slots evenly and know each other by their addresses."""
    with ExitStack() as started:
        nodes: list[EncryptedServer] = []
        for number in range(primaries):
            own = folder / f"node-{number}"
            own.mkdir()
            nodes.append(start_encrypted(own, authority, "--cluster-enabled", "yes", "--tls-cluster", "yes"))
            started.callback(nodes[-1].plain.stop)
        bounds = [16_384 * number // primaries for number in range(primaries + 1)]
        for node, first, end in zip(nodes, bounds, bounds[1:], strict=False):
            with node.plain.client() as admin:
                raw(admin, "CLUSTER", "ADDSLOTS", *range(first, end))
                for other in nodes:
                    raw(admin, "CLUSTER", "MEET", HOST, other.port)
        wait_until(lambda: all(map(_has_all_slots, nodes)), what="the nodes of the Cluster know each other")
        yield nodes


def _has_all_slots(node: EncryptedServer) -> bool:
    with node.plain.client() as admin:
        return b"cluster_state:ok" in raw(admin, "CLUSTER", "INFO")
