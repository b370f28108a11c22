"""Counting: how many sessions an owner has, awake and asleep, by the owner's index and the owner markers alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from torpor.worker.deployment import catalog
from torpor.worker.deployment.services import Services

# Ids that are in memory at a time.
MOST = 20_000


@dataclass(frozen=True, slots=True)
class Counted:
    """An owner's sessions in Redis, and those that only the archive seems to have; with `more`, at least so many.

    A marker may outlive what it marks, so a list may have fewer sessions asleep. `ids` are in their order.
    """

    live: int
    asleep: int
    more: bool
    ids: Sequence[str]


def count(services: Services, owner: str) -> Counted:
    """Count an owner's sessions, up to 20,000; raises InvalidOwner."""
    live = set(islice(services.sessions.owned(owner), MOST + 1))
    found = set(live)
    for session_id in catalog.marked(services, owner):
        if len(found) > MOST:
            break
        found.add(session_id)
    return Counted(len(live), len(found) - len(live), len(found) > MOST, sorted(found))
