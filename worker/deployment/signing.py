"""Signed tasks: who may write to the broker, but has no trusted key, can order nothing.

Celery's signature covers the body of a message and none of its headers. So tasks are sent by version 1 of Celery's
protocol, in which the body has the task's name, id and expiry too, and headers do not count.

Source: https://docs.celeryq.dev/en/stable/userguide/security.html#message-signing and
https://docs.celeryq.dev/en/stable/internals/protocol.html#version-1
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple


class SigningKeys(NamedTuple):
    """A process's own private key and its certificate, and the folder of the certificates that it trusts, in PEM."""

    key: Path
    certificate: Path
    trusted: Path

    def check(self) -> None:
        """Raise ValueError unless tasks that are signed with the key are trusted."""
        from celery.exceptions import ImproperlyConfigured, SecurityError  # takes a tenth of a second to import

        try:
            serializer = self._serializer()
        except ImproperlyConfigured as exc:
            raise ValueError("signing needs the package cryptography: pip install 'torpor[signing]'") from exc
        except (OSError, UnicodeDecodeError, SecurityError) as exc:
            raise ValueError(f"the key and all certificates must be files in PEM, of RSA, not expired: {exc}") from exc
        try:
            serializer.deserialize(serializer.serialize("a probe"))
        except Exception as exc:  # Celery 5.6 raises TypeError for a wrong signature
            raise ValueError("the certificate must be of the key, and among the trusted ones") from exc

    def options(self) -> dict[str, Any]:
        """Celery's options. Registers the serializer `auth` with these keys for this process.

        Others' serializers stay enabled: an application that wakes sessions may have a Celery app of its own.
        Results are JSON as before, and their serializer does not verify: receipts are the proof of a purge.
        """
        from kombu.serialization import registry

        serializer = self._serializer()
        registry.register("auth", serializer.serialize, serializer.deserialize, "application/data", "utf-8")
        return {
            "task_protocol": 1,
            "task_serializer": "auth",
            "event_serializer": "auth",
            "accept_content": ["auth"],
            "result_accept_content": ["json"],
            "worker_consumer": "torpor.worker.deployment.consumers:SignedConsumer",
        }

    def _serializer(self) -> Any:
        from celery.security.certificate import Certificate, FSCertStore
        from celery.security.key import PrivateKey
        from celery.security.serialization import SecureSerializer

        key, certificate = self.key.read_text(), self.certificate.read_text()
        return SecureSerializer(PrivateKey(key), Certificate(certificate), FSCertStore(str(self.trusted)))
