"""A Redis Cluster that the tests start."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis.asyncio.cluster
import redis.cluster

from support.keyspace import raw
from support.ports import free_port
from support.servers import RedisServer, start_redis
from support.waiting import wait_until
from support.watched_clients import WatchedCluster


@dataclass(frozen=True)
class ClusterServer(RedisServer):
    """A Redis Cluster, described by its first node; Celery's broker is a server beside it."""

    nodes: Sequence[RedisServer] = ()
    broker: RedisServer | None = None

    @property
    def settings(self) -> dict[str, Any]:
        assert self.broker
        return {"redis_url": self.url, "redis_cluster": True, "broker_url": self.broker.url}

    def client(self, **options: Any) -> Any:
        return redis.cluster.RedisCluster(port=self.port, host="127.0.0.1", **options)

    def asyncio_client(self, **options: Any) -> Any:
        return redis.asyncio.cluster.RedisCluster(port=self.port, host="127.0.0.1", **options)

    def watched(self) -> Any:
        return WatchedCluster(port=self.port, host="127.0.0.1")

    def stop(self) -> None:
        for server in (*self.nodes, self.broker):
            if server:
                server.stop()


def start_cluster(folder: Path, primaries: int = 3) -> ClusterServer:
    """A Cluster of primaries that share the slots evenly."""
    with ExitStack() as started:
        nodes: list[RedisServer] = []
        for number in range(primaries):
            # The nodes talk to each other at a port that is 10,000 higher.
            port = next(port for port in iter(free_port, None) if port < 50_000)
            (folder / f"node-{number}").mkdir()
            nodes.append(start_redis(folder / f"node-{number}", "--cluster-enabled", "yes", port=port))
            started.callback(nodes[-1].stop)
        bounds = [16_384 * number // primaries for number in range(primaries + 1)]
        for node, first, end in zip(nodes, bounds, bounds[1:], strict=False):
            with node.client() as client:
                raw(client, "CLUSTER", "ADDSLOTS", *range(first, end))
                for other in nodes:
                    raw(client, "CLUSTER", "MEET", "127.0.0.1", other.port)
        wait_until(lambda: all(map(_has_all_slots, nodes)), what="the nodes of the Cluster know each other")
        (folder / "broker").mkdir()
        broker = start_redis(folder / "broker")
        started.pop_all()
        return ClusterServer(nodes[0].port, nodes[0].process, nodes=nodes, broker=broker)


def _has_all_slots(node: RedisServer) -> bool:
    with node.client() as client:
        return b"cluster_state:ok" in raw(client, "CLUSTER", "INFO")
