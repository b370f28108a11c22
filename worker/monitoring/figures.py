"""The figures of a deployment: gathered from Redis in a few round trips, whose cost does not grow with the sessions."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from torpor.history.protocol import ArchiveHealth, Measures, SessionKind, ShardFigures
from torpor.worker.deployment import memory
from torpor.worker.deployment.memory import NodeMemory
from torpor.worker.deployment.services import Services
from torpor.worker.monitoring import seen
from torpor.worker.monitoring.asleep import Asleep, last_count
from torpor.worker.monitoring.seen import Seen

# How many sessions that wait after a failure are asked since when. In an outage, all began to wait at about that time.
_ASKED = 64


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of a deployment at a moment."""

    shards: ShardFigures
    waiting_since: datetime | None
    measures: Measures
    seen: Seen
    health: ArchiveHealth
    nodes: Sequence[NodeMemory]
    kinds_counted: bool

    @property
    def counts(self) -> Mapping[str, int]:
        """What has happened since the deployment began, by field of the tallies."""
        return self.shards.counts

    @property
    def states(self) -> Mapping[str, int]:
        """State -> sessions in Redis."""
        shards = self.shards
        return {
            "live": shards.live,
            "due": shards.due,
            "in_work": shards.in_work,
            "postponed": shards.postponed,
            "quarantined": shards.quarantined,
            "tombstone": shards.tombstones,
        }

    @property
    def kinds(self) -> Mapping[str, int] | None:
        """Kind -> sessions that have messages in Redis; None if some were there before the shards counted them."""
        if not self.kinds_counted:
            return None
        return {SessionKind.CHAT: self.shards.chats, SessionKind.THREAD: self.shards.threads}

    @property
    def asleep(self) -> Asleep | None:
        """How many sessions are asleep, as a walk has last counted them; None if nobody has counted."""
        return last_count(self.seen, self.counts["archived"], self.counts["restored"])

    @property
    def oldest_waiting_seconds(self) -> float:
        """For how long the session that first became due longest ago has been waiting; 0 if none waits."""
        return max((self.measures.now - self.waiting_since).total_seconds(), 0.0) if self.waiting_since else 0.0


def gather(services: Services) -> Figures:
    """Ask Redis. Raises RedisUnavailable."""
    sessions = services.sessions
    shards = sessions.figures()
    since = sessions.waiting_since(random.sample(shards.waiting, min(len(shards.waiting), _ASKED)))
    if shards.first_due:
        since.append(shards.first_due)
    measures = sessions.measures()
    return Figures(
        shards,
        min(since, default=None),
        measures,
        seen.read(measures),
        sessions.archive_health(),
        memory.nodes(services),
        sessions.kinds_counted(),
    )
