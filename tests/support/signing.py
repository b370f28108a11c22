"""Keys and certificates with which processes sign tasks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


def signing_settings(folder: Path, name: str, *, life: timedelta = timedelta(days=1)) -> dict[str, Path]:
    """The settings of a process with a new key, which trusts the certificates in `folder/trusted`, its own included."""
    trusted = folder / "trusted"
    trusted.mkdir(parents=True, exist_ok=True)
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    now = datetime.now(UTC)
    builder = builder.not_valid_before(now - timedelta(days=2)).not_valid_after(now + life)
    certificate, private = trusted / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(builder.sign(key, SHA256()).public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return {"signing_key": private, "signing_certificate": certificate, "signing_trusted": trusted}
