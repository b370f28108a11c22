"""Look at the keys of a Redis."""

from __future__ import annotations

from typing import Any

import redis
import redis.cluster

# The nodes to ask for a command without a key: all have keys, and any has a clock.
_NODES = {"KEYS": redis.cluster.RedisCluster.PRIMARIES, "TIME": redis.cluster.RedisCluster.RANDOM}


def raw(client: Any, command: str, *arguments: bytes | str | int) -> Any:
    """A command's reply as bytes; redis-py's own types are for both kinds of client."""
    options: dict[str, Any] = {}
    if isinstance(client, redis.cluster.RedisCluster) and command in _NODES:
        options["target_nodes"] = _NODES[command]
    return client.execute_command(command, *arguments, **options)


def lasting_keys(client: Any) -> set[bytes]:
    """The keys that do not expire by themselves; recent requests and elections do."""
    return {key for key in raw(client, "KEYS", "*") if b":w:" not in key and not key.endswith(b"}:l")}


def dump(client: redis.Redis) -> dict[bytes, Any]:
    """Every key and its value: equal before and after means that nothing was changed.

    Values are serialized, but for hashes and sets: a server that rehashes a large one serializes it in another order.
    """
    readers = {b"hash": "HGETALL", b"set": "SMEMBERS"}
    return {key: raw(client, readers.get(raw(client, "TYPE", key), "DUMP"), key) for key in raw(client, "KEYS", "*")}


def commands_run(client: Any, name: str) -> int:
    """How many calls of a command the server has had, those of scripts included, or all nodes of a Cluster."""
    clustered = isinstance(client, redis.cluster.RedisCluster)
    told = client.info("commandstats", **({"target_nodes": "primaries"} if clustered else {}))
    nodes = told.values() if clustered and not any(key.startswith("cmdstat_") for key in told) else [told]
    return sum(node.get(f"cmdstat_{name}", {"calls": 0})["calls"] for node in nodes)
