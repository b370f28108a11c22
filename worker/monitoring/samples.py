"""Samples: once a minute the figures of the deployment, in a capped stream of a week, which `torpor top` draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from torpor.worker.deployment.memory import NodeMemory
from torpor.worker.deployment.services import Services
from torpor.worker.monitoring.figures import Figures, gather

# Whoever samples comes every ten or fifteen seconds, not to the second.
_STEP = timedelta(seconds=55)
KEPT_SPAN = timedelta(days=7)
_KEPT = KEPT_SPAN // timedelta(minutes=1)
# Counts of what has happened since the deployment began.
COUNTED = ("archived", "restored", "failed", "purged")


def take(services: Services) -> bool:
    """Add a sample, unless somebody has added one in the last minute; True if this one was added.

    Any worker may call it, and often: only who finds no young sample gathers the figures.
    """
    if next(services.sessions.samples(_STEP), None):
        return False
    return services.sessions.add_sample(sample_of(gather(services)), least=_STEP, keep=_KEPT)


def sample_of(figures: Figures) -> Mapping[str, int]:
    """The figures as whole numbers. Their number and size decide how much Redis keeps: 32 bits take less than 64.

    The memory is that of all nodes together; `fullest_permille` is how much the fullest of those with a limit uses. On
    a Cluster each primary has two more figures, at the end because primaries come and go (`of_node`).
    """
    states, counts = figures.states, figures.counts
    limited = [(node.used, node.limit) for node in figures.nodes if node.limit]
    return {
        "live": states["live"],
        "waiting": states["due"] + states["in_work"] + states["postponed"],
        "oldest_waiting_seconds": round(figures.oldest_waiting_seconds),
        "quarantined": states["quarantined"],
        **{name: counts[name] for name in COUNTED},
        "workers": len(figures.seen.at_work),
        "archive_available": int(figures.health.unavailable_since is None),
        "memory_kib": sum(node.used for node in figures.nodes) // 1024,
        "memory_limit_kib": sum(limit for _, limit in limited) // 1024,
        "fullest_permille": max((1000 * used // limit for used, limit in limited), default=0),
        **dict(_of_nodes(figures.nodes)),
    }


def of_node(name: str, figure: str) -> str:
    """The name of a figure of one node, `memory_kib` or `memory_limit_kib`; of the only node it is the deployment's."""
    return f"{figure}:{name}" if name else figure


def _of_nodes(nodes: Sequence[NodeMemory]) -> Iterator[tuple[str, int]]:
    for node in sorted(nodes, key=lambda each: each.name):
        if node.name:
            yield of_node(node.name, "memory_kib"), node.used // 1024
            yield of_node(node.name, "memory_limit_kib"), (node.limit or 0) // 1024
