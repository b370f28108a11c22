"""Sweep: packs shards with due sessions into drains, and sends those to workers."""

from __future__ import annotations

from collections.abc import Mapping

from celery import current_app

from torpor.worker.deployment.celery_config import HINT_SECONDS

DRAIN_SESSIONS = 1_000


def send_drains(due: Mapping[int, int]) -> int:
    """Send drains for shards, each given with its number of due sessions; returns how many drains were sent."""
    drains = pack(due)
    for shards in drains:
        # By name: the task imports what imports this. The sender must not subscribe to a result that nobody writes.
        current_app.send_task("torpor.drain", [shards], expires=HINT_SECONDS, retry=False, ignore_result=True)
    return len(drains)


def pack(due: Mapping[int, int]) -> list[list[int]]:
    """Groups of shards with about 1,000 due sessions each, the fullest shards first."""
    groups: list[list[int]] = []
    filled = DRAIN_SESSIONS
    for shard in sorted(due, key=lambda shard: -due[shard]):
        if filled >= DRAIN_SESSIONS:
            groups.append([])
            filled = 0
        groups[-1].append(shard)
        filled += due[shard]
    return groups
