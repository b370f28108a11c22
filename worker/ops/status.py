"""Status: counts over all shards of a deployment, who works, Redis's memory, and warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from torpor.history.protocol import ArchiveHealth, SessionInfo, SessionKind, ShardOverview
from torpor.worker.deployment import identity, memory
from torpor.worker.deployment.identity import State
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveCorrupt, ArchiveMisconfigured, ArchiveUnavailable, DeploymentMismatch
from torpor.worker.jobs.open_jobs import OpenState
from torpor.worker.monitoring import seen
from torpor.worker.monitoring.asleep import Asleep, last_count
from torpor.worker.monitoring.seen import SeenSweep, SeenWorker
from torpor.worker.ops.status_warnings import Code, StatusWarning, warnings


@dataclass(frozen=True, slots=True)
class Belonging:
    """Whether Redis and the archive belong together. `state` is None if that is not known: `problem` says why.

    If they are `refused`, workers refuse all work until someone changes something.
    """

    state: State | None
    problem: str | None = None
    refused: bool = False

    @property
    def is_mismatch(self) -> bool:
        """True if Redis and the archive are known not to belong together."""
        return self.state is State.DISAGREE


@dataclass(frozen=True, slots=True)
class Overview:
    """Sessions in Redis by state, sessions archived and restored since the deployment's start, and who works.

    `now` is Redis's time. `workers` were seen in the last minute; `beat` is when beat last sent a task. `live` counts
    all sessions that are due at some time. `kinds` counts those that have messages in Redis, in quarantine too, by
    kind; None if some were there before the shards counted them. A session waits from the moment at which it first
    became due until it is asleep: it is due, in work, or postponed after a failure. The memory counts all nodes; None
    if they do not show it. `asleep` is None if nobody has counted those asleep. Open `purges`, and `jobs` by state, are
    as of the last look of a sweep.
    """

    now: datetime
    live: int
    kinds: Mapping[str, int] | None
    due: int
    in_work: int
    postponed: int
    waiting: int
    quarantined: int
    archived: int
    restored: int
    asleep: Asleep | None
    tombstones: int
    oldest_overdue_seconds: float | None
    memory_bytes: int | None
    memory_limit_bytes: int | None
    shards: int
    archive: str
    deployment: Belonging
    archive_health: ArchiveHealth
    workers: Sequence[SeenWorker]
    beat: datetime | None
    sweep: SeenSweep | None
    purges: int
    oldest_purge_seconds: float
    jobs: Mapping[OpenState, int]
    oldest_job_seconds: float
    warnings: Sequence[StatusWarning]


def overview(services: Services, *, archive: bool = True) -> Overview:
    """Ask Redis in a few pipelines, and each node for its memory; with `archive`, compare its identity with Redis."""
    shards = services.sessions.overview()
    noted = seen.read(services.sessions.measures())
    due, in_work = sum(shard.due for shard in shards), sum(shard.in_work for shard in shards)
    postponed = sum(shard.postponed for shard in shards)
    health = services.sessions.archive_health()
    nodes = memory.nodes(services)
    belongs = belonging(services, archive=archive)
    archived, restored = sum(shard.archived for shard in shards), sum(shard.restored for shard in shards)
    waiting = due + in_work + postponed
    limits = [node.limit for node in nodes if node.limit]
    return Overview(
        now=noted.now,
        live=sum(shard.live for shard in shards),
        kinds=_kinds(services),
        due=due,
        in_work=in_work,
        postponed=postponed,
        waiting=waiting,
        quarantined=sum(shard.quarantined for shard in shards),
        archived=archived,
        restored=restored,
        asleep=last_count(noted, archived, restored),
        tombstones=sum(shard.tombstones for shard in shards),
        oldest_overdue_seconds=_longest_wait(shards, services.sessions.claimed()),
        memory_bytes=sum(node.used for node in nodes) or None,
        memory_limit_bytes=sum(limits) or None,
        shards=len(shards),
        archive=services.archive.url,
        deployment=belongs,
        archive_health=health,
        workers=noted.at_work,
        beat=noted.beat,
        sweep=noted.sweep,
        purges=int(noted.noted("purges_open")),
        oldest_purge_seconds=noted.seconds_since("oldest_purge"),
        jobs=noted.jobs,
        oldest_job_seconds=noted.seconds_since("oldest_job"),
        warnings=_with_refusal(belongs, [*warnings(services.settings, noted, health, nodes, waiting)]),
    )


def _kinds(services: Services) -> Mapping[str, int] | None:
    if not services.sessions.kinds_counted():
        return None
    shards = services.sessions.figures()
    return {SessionKind.CHAT: shards.chats, SessionKind.THREAD: shards.threads}


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


def _with_refusal(deployment: Belonging, others: Sequence[StatusWarning]) -> Sequence[StatusWarning]:
    """The warnings, before them that the sides do not belong together, and after them that the archive refuses."""
    if not deployment.refused:
        return others
    refused = StatusWarning(Code.DEPLOYMENT_REFUSED, str(deployment.problem))
    return [refused, *others] if deployment.is_mismatch else [*others, refused]


def _longest_wait(shards: Sequence[ShardOverview], claimed: Sequence[SessionInfo]) -> float | None:
    """For how many seconds the session that first became due longest ago has been waiting."""
    now = max(shard.now for shard in shards)
    since = [shard.oldest_due for shard in shards if shard.oldest_due]
    since += [info.waiting_since for info in claimed if info.waiting_since]
    return max((now - min(since)).total_seconds(), 0.0) if since else None
