"""Celery's connections to a Redis whose name is not compared: they trust its own authorities and no others.

kombu and Celery add a URL's `ssl_ca_certs` to the system's authorities. Without a check of names, each certificate that
a public authority has issued to anybody would then pass.
"""

from __future__ import annotations

from typing import Any

from celery.backends.redis import RedisBackend
from kombu.transport import redis

from torpor.history.protocol import OwnConnection


class _Channel(redis.Channel):
    connection_class_ssl = OwnConnection


class Transport(redis.Transport):
    """kombu's transport of the broker."""

    Channel = _Channel


class Results(RedisBackend):  # type: ignore[misc] # Celery is untyped
    """Celery's backend of results."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.connparams["connection_class"] = OwnConnection
