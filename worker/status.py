"""How a deployment stands: counts over all shards, and Redis's memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis.exceptions

from history import RedisUnavailable
from worker.services import Services


@dataclass(frozen=True, slots=True)
class Overview:
    """Sessions in Redis by state; sessions archived and restored since the deployment's start."""

    live: int
    due: int
    in_work: int
    quarantined: int
    archived: int
    restored: int
    oldest_overdue_seconds: float | None
    memory_bytes: int | None
    memory_limit_bytes: int | None
    shards: int
    archive: str


def overview(services: Services) -> Overview:
    """Ask every shard in one pipeline, and Redis for its memory (INFO, which Memorystore allows), None if untold."""
    shards = services.sessions.overview()
    overdue = [shard.now - shard.oldest_due for shard in shards if shard.oldest_due]
    memory = _memory(services)
    return Overview(
        live=sum(shard.live for shard in shards),
        due=sum(shard.due for shard in shards),
        in_work=sum(shard.in_work for shard in shards),
        quarantined=sum(shard.quarantined for shard in shards),
        archived=sum(shard.archived for shard in shards),
        restored=sum(shard.restored for shard in shards),
        oldest_overdue_seconds=max(overdue).total_seconds() if overdue else None,
        memory_bytes=int(memory.get("used_memory", 0)) or None,
        memory_limit_bytes=int(memory.get("maxmemory", 0)) or None,
        shards=len(shards),
        archive=services.archive.url,
    )


def _memory(services: Services) -> dict[str, Any]:
    try:
        memory: dict[str, Any] = services.sessions.client.info("memory")
    except redis.exceptions.ResponseError:
        return {}  # the embedded server has no INFO
    except redis.exceptions.RedisError as exc:
        raise RedisUnavailable(f"Redis can't be reached: {exc}") from exc
    return memory
