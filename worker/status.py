"""How a deployment stands: counts over all shards, and Redis's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis.cluster
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
    used, limit = _memory(services)
    return Overview(
        live=sum(shard.live for shard in shards),
        due=sum(shard.due for shard in shards),
        in_work=sum(shard.in_work for shard in shards),
        quarantined=sum(shard.quarantined for shard in shards),
        archived=sum(shard.archived for shard in shards),
        restored=sum(shard.restored for shard in shards),
        oldest_overdue_seconds=max(overdue).total_seconds() if overdue else None,
        memory_bytes=used or None,
        memory_limit_bytes=limit or None,
        shards=len(shards),
        archive=services.archive.url,
    )


def _memory(services: Services) -> tuple[int, int]:
    """Bytes used and allowed, of all primaries of a Cluster together."""
    client = services.sessions.client
    try:
        if isinstance(client, redis.cluster.RedisCluster):
            nodes = list(client.info("memory", target_nodes=redis.cluster.RedisCluster.PRIMARIES).values())
        else:
            nodes = [client.info("memory")]
    except redis.exceptions.ResponseError:
        nodes = []  # the embedded server has no INFO
    except (redis.exceptions.RedisError, redis.exceptions.RedisClusterException) as exc:
        raise RedisUnavailable(f"Redis can't be reached: {exc}") from exc
    return _total(nodes, "used_memory"), _total(nodes, "maxmemory")


def _total(nodes: Sequence[Mapping[str, Any]], field: str) -> int:
    return sum(int(node.get(field, 0)) for node in nodes)
