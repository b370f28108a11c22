"""A glance at the deployment for `torpor top`: its figures and warnings now, and the samples of the last while."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from torpor.history.protocol import ArchiveHealth, Sample
from torpor.worker.deployment.services import Services
from torpor.worker.jobs.open_jobs import OpenState
from torpor.worker.monitoring.asleep import Asleep
from torpor.worker.monitoring.figures import gather
from torpor.worker.monitoring.samples import sample_of
from torpor.worker.monitoring.seen import SeenSweep, SeenWorker
from torpor.worker.ops.status_warnings import StatusWarning, warnings


@dataclass(frozen=True, slots=True)
class Node:
    """The memory of one primary; its name is empty if it is the only one."""

    name: str
    used_bytes: int
    limit_bytes: int | None
    policy: str


@dataclass(frozen=True, slots=True)
class Glance:
    """The deployment at a moment of Redis's clock.

    `figures` has the names of a sample, and `states` the sessions in Redis by state. `kinds` and `asleep` are as in
    `Figures`. `freed_bytes` of Redis's memory have been freed since the start, by sessions that fell asleep.
    `holds` counts the legal holds by kind, and `purges_open` the unfinished purges, as the last sweep found them.
    `jobs` are open, by state, likewise. `samples` are oldest first.
    """

    now: datetime
    warnings: Sequence[StatusWarning]
    figures: Mapping[str, int]
    states: Mapping[str, int]
    kinds: Mapping[str, int] | None
    asleep: Asleep | None
    freed_bytes: int
    holds: Mapping[str, int]
    purges_open: int
    archive_health: ArchiveHealth
    nodes: Sequence[Node]
    workers: Sequence[SeenWorker]
    beat: datetime | None
    sweep: SeenSweep | None
    jobs: Mapping[OpenState, int]
    oldest_job_seconds: float
    samples: Sequence[Sample]


def glance(services: Services, span: timedelta) -> Glance:
    """Look at Redis alone, in a few round trips whose cost does not grow with the sessions.

    `span` is how far back the samples go. Raises RedisUnavailable.
    """
    found = gather(services)
    figures = sample_of(found)
    seen = found.seen
    return Glance(
        now=seen.now,
        warnings=[*warnings(services.settings, seen, found.health, found.nodes, figures["waiting"])],
        figures=figures,
        states=found.states,
        kinds=found.kinds,
        asleep=found.asleep,
        freed_bytes=found.counts["freed_bytes"],
        holds={kind: round(seen.noted(f"holds:{kind}")) for kind in ("session", "owner")},
        purges_open=round(seen.noted("purges_open")),
        archive_health=found.health,
        nodes=[Node(node.name, node.used, node.limit, node.policy) for node in found.nodes],
        workers=seen.at_work,
        beat=seen.beat,
        sweep=seen.sweep,
        jobs=seen.jobs,
        oldest_job_seconds=seen.seconds_since("oldest_job"),
        samples=list(services.sessions.samples(span)),
    )
