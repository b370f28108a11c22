"""Status: counts over all shards of a deployment, Redis's memory, and warnings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torpor.history.protocol import ArchiveHealth, SessionInfo, ShardOverview
from torpor.worker.deployment import identity, memory
from torpor.worker.deployment.identity import State
from torpor.worker.deployment.memory import NodeMemory
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveCorrupt, ArchiveMisconfigured, ArchiveUnavailable, DeploymentMismatch


@dataclass(frozen=True, slots=True)
class Belonging:
    """Whether Redis and the archive belong together. `state` is None if that is not known: `problem` says why.

    If they are `refused`, workers refuse all work until someone changes something.
    """

    state: State | None
    problem: str | None = None
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Overview:
    """Sessions in Redis by state, and sessions archived and restored since the deployment's start.

    `live` counts all sessions that are due at some time. A session waits from the moment at which it first became due
    until it is asleep: it is due, in work, or postponed after a failure. The memory counts all nodes; None if they do
    not show it.
    """

    live: int
    due: int
    in_work: int
    postponed: int
    waiting: int
    quarantined: int
    archived: int
    restored: int
    tombstones: int
    oldest_overdue_seconds: float | None
    memory_bytes: int | None
    memory_limit_bytes: int | None
    shards: int
    archive: str
    deployment: Belonging
    archive_health: ArchiveHealth
    warnings: Sequence[str]


def overview(services: Services, *, archive: bool = True) -> Overview:
    """Ask all shards in one pipeline, and each node for its memory; with `archive`, compare its identity with Redis."""
    shards = services.sessions.overview()
    due, in_work = sum(shard.due for shard in shards), sum(shard.in_work for shard in shards)
    postponed = sum(shard.postponed for shard in shards)
    health = services.sessions.archive_health()
    nodes = memory.nodes(services)
    limits = [node.limit for node in nodes if node.limit]
    return Overview(
        live=sum(shard.live for shard in shards),
        due=due,
        in_work=in_work,
        postponed=postponed,
        waiting=due + in_work + postponed,
        quarantined=sum(shard.quarantined for shard in shards),
        archived=sum(shard.archived for shard in shards),
        restored=sum(shard.restored for shard in shards),
        tombstones=sum(shard.tombstones for shard in shards),
        oldest_overdue_seconds=_longest_wait(shards, services.sessions.claimed()),
        memory_bytes=sum(node.used for node in nodes) or None,
        memory_limit_bytes=sum(limits) or None,
        shards=len(shards),
        archive=services.archive.url,
        deployment=belonging(services, archive=archive),
        archive_health=health,
        warnings=[*_warnings(services, nodes, health)],
    )


def belonging(services: Services, *, archive: bool = True) -> Belonging:
    """Compare Redis with the archive, or without `archive` only with the URL that it has recorded; changes nothing."""
    try:
        identity.check_recorded(services.sessions, services.archive.url)
        if not archive:
            return Belonging(None, "the archive was not asked")
        found = identity.compare_sides(services.sessions, services.archive)
        found.check()
    except DeploymentMismatch as error:
        return Belonging(State.DISAGREE, str(error), refused=True)
    except (ArchiveUnavailable, ArchiveCorrupt) as error:
        return Belonging(None, str(error), refused=isinstance(error, (ArchiveMisconfigured, ArchiveCorrupt)))
    return Belonging(found.state)


def _longest_wait(shards: Sequence[ShardOverview], claimed: Sequence[SessionInfo]) -> float | None:
    """For how many seconds the session that first became due longest ago has been waiting."""
    now = max(shard.now for shard in shards)
    since = [shard.oldest_due for shard in shards if shard.oldest_due]
    since += [info.waiting_since for info in claimed if info.waiting_since]
    return max((now - min(since)).total_seconds(), 0.0) if since else None


def _warnings(services: Services, nodes: Sequence[NodeMemory], health: ArchiveHealth) -> Iterator[str]:
    if outage := unavailable(health):
        yield f"the archive is unavailable {outage}"
    for policy in sorted({node.policy for node in nodes if node.policy.startswith("allkeys-")}):
        yield f"maxmemory-policy is {policy}, which deletes live sessions: set noeviction"
    full = sum(node.above(services.settings.memory_high) for node in nodes)
    if full:
        share = services.settings.memory_high
        yield f"{full} of {len(nodes)} nodes use more than {share:.0%} of their memory: sessions are archived early"


def unavailable(health: ArchiveHealth) -> str | None:
    """Since when the archive fails, and the latest error of the worker that has met it last; None if it works."""
    if health.unavailable_since is None:
        return None
    failed = [(each.last_failure, each.worker, each.error) for each in health.workers if each.last_failure]
    says = "".join(f", says {worker}: {error}" for _, worker, error in sorted(failed)[-1:])
    return f"since {health.unavailable_since.isoformat(timespec='seconds')}{says}"
