"""The memory of Redis, node by node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis.cluster
import redis.exceptions

from torpor.history.protocol import RedisUnavailable
from torpor.worker.deployment.services import Services


@dataclass(frozen=True, slots=True)
class NodeMemory:
    """The memory of one primary, in bytes, and its shards. `limit` is None if neither Redis nor a setting gives it."""

    name: str
    shards: Sequence[int]
    used: int
    limit: int | None
    policy: str

    def above(self, share: float) -> bool:
        """True if more than this share of the limit is used."""
        return self.limit is not None and self.used > share * self.limit


def nodes(services: Services) -> list[NodeMemory]:
    """Each primary's memory, from INFO, which Memorystore allows; empty if the server has no INFO.

    `TORPOR_MEMORY_LIMIT` is the limit of a node that does not show its own. Raises RedisUnavailable.
    """
    client = services.sessions.client
    keyspace = services.sessions.deployment.keyspace
    try:
        if not isinstance(client, redis.cluster.RedisCluster):
            return [_node(services, "", range(keyspace.shards), client.info("memory"))]
        return [
            _node(services, node.name, shards, client.info("memory", target_nodes=node))
            for node, shards in _shards_by_node(client, [keyspace.shard(n).due for n in range(keyspace.shards)])
        ]
    except redis.exceptions.ResponseError:
        return []  # the embedded server has no INFO
    except (redis.exceptions.RedisError, redis.exceptions.RedisClusterException) as exc:
        raise RedisUnavailable(f"Redis can't be reached: {exc}") from exc


def _node(services: Services, name: str, shards: Sequence[int], info: Mapping[str, Any]) -> NodeMemory:
    limit = int(info.get("maxmemory", 0)) or services.settings.memory_limit
    return NodeMemory(name, shards, int(info.get("used_memory", 0)), limit, str(info.get("maxmemory_policy", "")))


def _shards_by_node(
    client: redis.cluster.RedisCluster, due_keys: Sequence[bytes]
) -> Iterator[tuple[redis.cluster.ClusterNode, list[int]]]:
    homes = [client.get_node_from_key(key) for key in due_keys]
    for node in client.get_primaries():
        yield node, [shard for shard, home in enumerate(homes) if home == node]
