"""What is due, packed into drains."""

from __future__ import annotations

from collections.abc import Mapping

DRAIN_SESSIONS = 1_000


def pack(due: Mapping[int, int]) -> list[list[int]]:
    """Shards with due sessions, in groups of about 1,000 sessions, the fullest shards first."""
    groups: list[list[int]] = []
    filled = DRAIN_SESSIONS
    for shard in sorted(due, key=lambda shard: -due[shard]):
        if filled >= DRAIN_SESSIONS:
            groups.append([])
            filled = 0
        groups[-1].append(shard)
        filled += due[shard]
    return groups
