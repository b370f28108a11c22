"""Services: the settings, the sessions in Redis and the archive, for every task and command."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import redis.exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from torpor.history.protocol import SessionStore
from torpor.history.protocol import connect as connect_redis
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.archive.stores.measured import MeasuredStore
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment.settings import Settings
from torpor.worker.pace import Pace

# Longer than an application's: no user waits, and a reply with a part of a large session takes longer.
_REPLY_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Services:
    """One deployment, connected. Safe to share among threads, not among processes."""

    settings: Settings
    sessions: SessionStore
    archive: ArchiveStore
    uploads: Pace = field(default_factory=Pace)


def connect(settings: Settings, *, patience: float | None = None, reply_seconds: float | None = None) -> Services:
    """The services that the settings name. Their first use opens connections.

    Only a Cluster is asked for its nodes at once; raises RedisUnavailable. `patience` as in `open_archive`;
    `reply_seconds` is for those who can't wait: a call fails if Redis does not reply so soon. The client of a single
    node sends a call once more if the connection was closed. A Cluster's client sends it once, because it can't be told
    to try again after a closed connection and not after a late reply.
    """
    resends = reply_seconds is None
    # redis-py repeats a command, and within it the opening of its connection: the retries multiply.
    once = Retry(NoBackoff(), 0 if settings.redis_cluster else 1, supported_errors=(redis.exceptions.ConnectionError,))
    retry: dict[str, Any] = {} if resends else {"retry": once}
    client = connect_redis(
        settings.redis_url.get_secret_value(),
        cluster=settings.redis_cluster,
        iam=settings.redis_iam,
        ca_file=settings.redis_ca_file,
        socket_timeout=reply_seconds or _REPLY_SECONDS,
        **retry,
    )
    sessions = SessionStore(client, namespace=settings.namespace, shards=settings.shards, resends=resends)
    archive = MeasuredStore(open_archive(settings.archive_url, threads=settings.concurrency, patience=patience))
    return Services(settings, sessions, archive, Pace(settings.uploads_per_second))
