"""Status: counts over all shards of a deployment, Redis's memory, and warnings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torpor.worker.deployment import memory
from torpor.worker.deployment.memory import NodeMemory
from torpor.worker.deployment.services import Services


@dataclass(frozen=True, slots=True)
class Overview:
    """Sessions in Redis by state, and sessions archived and restored since the deployment's start.

    `live` counts all sessions that are due at some time. The memory counts all nodes; None if they do not show it.
    """

    live: int
    due: int
    in_work: int
    quarantined: int
    archived: int
    restored: int
    tombstones: int
    oldest_overdue_seconds: float | None
    memory_bytes: int | None
    memory_limit_bytes: int | None
    shards: int
    archive: str
    warnings: Sequence[str]


def overview(services: Services) -> Overview:
    """Ask all shards in one pipeline, and each node for its memory."""
    shards = services.sessions.overview()
    overdue = [shard.now - shard.oldest_due for shard in shards if shard.oldest_due]
    nodes = memory.nodes(services)
    limits = [node.limit for node in nodes if node.limit]
    return Overview(
        live=sum(shard.live for shard in shards),
        due=sum(shard.due for shard in shards),
        in_work=sum(shard.in_work for shard in shards),
        quarantined=sum(shard.quarantined for shard in shards),
        archived=sum(shard.archived for shard in shards),
        restored=sum(shard.restored for shard in shards),
        tombstones=sum(shard.tombstones for shard in shards),
        oldest_overdue_seconds=max(overdue).total_seconds() if overdue else None,
        memory_bytes=sum(node.used for node in nodes) or None,
        memory_limit_bytes=sum(limits) or None,
        shards=len(shards),
        archive=services.archive.url,
        warnings=[*_warnings(services, nodes)],
    )


def _warnings(services: Services, nodes: Sequence[NodeMemory]) -> Iterator[str]:
    for policy in sorted({node.policy for node in nodes if node.policy.startswith("allkeys-")}):
        yield f"maxmemory-policy is {policy}, which deletes live sessions: set noeviction"
    full = sum(node.above(services.settings.memory_high) for node in nodes)
    if full:
        share = services.settings.memory_high
        yield f"{full} of {len(nodes)} nodes use more than {share:.0%} of their memory: sessions are archived early"
