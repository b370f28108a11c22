"""What every task and command works with: the settings, the sessions in Redis and the archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from history import SessionStore
from worker.settings import Settings, parse_archive_url
from worker.stores import ArchiveStore
from worker.stores.folder import FolderStore


@dataclass(frozen=True, slots=True)
class Services:
    """One deployment, connected. Safe to share among threads, not among processes."""

    settings: Settings
    sessions: SessionStore
    archive: ArchiveStore


def connect(settings: Settings) -> Services:
    """The services that the settings name; connections are opened at their first use."""
    client = redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        socket_connect_timeout=5,
        socket_timeout=30,
        health_check_interval=30,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=2), 5),
    )
    sessions = SessionStore(client, namespace=settings.namespace, shards=settings.shards)
    return Services(settings, sessions, open_archive(settings.archive_url, threads=settings.concurrency))


def open_archive(url: str, *, threads: int = 16) -> ArchiveStore:
    """The archive store of a URL; raises ValueError. Google's client is imported only where it is needed."""
    place = parse_archive_url(url)
    if isinstance(place, Path):
        return FolderStore(place)
    from worker.stores.gcs import GcsStore

    bucket, prefix = place
    return GcsStore(bucket, prefix, threads=threads)
