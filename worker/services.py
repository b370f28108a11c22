"""What every task and command works with: the settings, the sessions in Redis and the archive."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

import redis
import redis.cluster
import redis.exceptions
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from history import RedisUnavailable, SessionStore
from worker import layout
from worker.errors import ArchiveConflict, ArchiveTaken
from worker.pace import Pace
from worker.settings import Settings
from worker.stores import ArchiveStore
from worker.stores.url import open_archive


@dataclass(frozen=True, slots=True)
class Services:
    """One deployment, connected. Safe to share among threads, not among processes."""

    settings: Settings
    sessions: SessionStore
    archive: ArchiveStore
    uploads: Pace = field(default_factory=Pace)


def connect(settings: Settings) -> Services:
    """The services that the settings name; connections are opened at their first use.

    A Cluster is asked for its nodes at once; raises RedisUnavailable.
    """
    sessions = SessionStore(_client(settings), namespace=settings.namespace, shards=settings.shards)
    archive = open_archive(settings.archive_url, threads=settings.concurrency)
    return Services(settings, sessions, archive, Pace(settings.uploads_per_second))


def open_deployment(settings: Settings) -> Services:
    """As `connect`, for whoever writes to the archive: makes sure that it is this deployment's; raises ArchiveTaken."""
    services = connect(settings)
    take_archive(services)
    return services


def take_archive(services: Services) -> None:
    """Write down whose archive this is, at its first use; raises ArchiveTaken where it is another deployment's.

    Session ids of two deployments may be the same, and their objects would get the same names.
    """
    namespace = services.settings.namespace.encode()
    try:
        services.archive.put(layout.DEPLOYMENT, io.BytesIO(namespace), len(namespace), metadata={})
    except ArchiveConflict as exc:
        raise ArchiveTaken(
            f"{services.archive.url} is the archive of another namespace than {services.settings.namespace!r}; "
            "give each deployment a prefix of its own"
        ) from exc


def _client(settings: Settings) -> redis.Redis | redis.cluster.RedisCluster:
    options: dict[str, Any] = {
        "socket_connect_timeout": 5,
        "socket_timeout": 30,
        "health_check_interval": 30,
        "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=2), 5),
    }
    url = settings.redis_url.get_secret_value()
    if not settings.redis_cluster:
        return redis.Redis.from_url(url, **options)
    try:
        return redis.cluster.RedisCluster.from_url(url, **options)
    except (redis.exceptions.RedisError, redis.exceptions.RedisClusterException) as exc:
        raise RedisUnavailable(f"the Redis Cluster can't be reached: {exc}") from exc
