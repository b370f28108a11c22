"""The way of a claimed session out of Redis, or back to where it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import redis.cluster

from torpor.history import calls
from torpor.history.calls import Call
from torpor.history.errors import RedisRefused, TorporError
from torpor.history.session import CommitOutcome, Lease, Page, PurgeTarget, Purging, SessionInfo
from torpor.history.store.operation import Operation
from torpor.history.store.runner import BlockingRunner

T = TypeVar("T")

MAX_EPOCH = 2**53
# How many scripts that read sessions are sent together. Redis serves all that it has read of one client before
# it looks at the next, so more would keep it from everybody else for milliseconds.
_TOGETHER = 16


class Archiving(BlockingRunner):
    """Begins and ends attempts at sessions that are leased."""

    def attempts(self, leases: Sequence[Lease]) -> list[int | TorporError]:
        """How many attempts at each session have not ended well; one pipeline."""
        return self.run_many([calls.attempts(self.deployment, lease.session_id) for lease in leases])

    def snapshots(self, leases: Sequence[Lease]) -> list[SessionInfo | TorporError | None]:
        """Begin an attempt at each claimed session, each atomic for itself; a pipeline for each 16.

        None where the lease is lost or nothing is there; an error stands in its session's place.
        """
        return self._in_turns([calls.snapshot(self.deployment, lease) for lease in leases])

    def renew(self, leases: Sequence[Lease], by: timedelta) -> list[Lease | TorporError | None]:
        """Prolong leases `by` so much; one pipeline. The new lease replaces the old; None where it is lost.

        Where an error stands in its place, renewing the same lease by the same span again finds out.
        """
        return self.run_many([calls.renew(self.deployment, lease, by) for lease in leases])

    def heads(self, sessions: Sequence[SessionInfo], size: int) -> list[Page | TorporError | None]:
        """The first of the messages of each session that are not archived yet, about `size` bytes.

        Each page is atomic for itself; a pipeline for each 16. None where the session is not in Redis; an error stands
        in its place.
        """
        return self._in_turns(
            [
                calls.read(self.deployment, each.session_id, each.archived_count, each.message_count, size, touch=False)
                for each in sessions
            ]
        )

    def commits(self, verified: Sequence[tuple[Lease, SessionInfo]]) -> list[CommitOutcome | TorporError]:
        """Delete each session if it still is exactly what was archived, else note how far it is safe; one pipeline.

        Each session is atomic for itself. An error stands in its place.
        """
        return self.run_many([calls.commit(self.deployment, lease, archived) for lease, archived in verified])

    release = Operation(calls.release)

    def quarantine(self, lease: Lease, error: str) -> bool:
        """Put a session aside, untouched, with the reason; False where the lease is lost."""
        return self.run(calls.release(self.deployment, lease, None, counted=True, error=error))

    requeue = Operation(calls.requeue)
    note_erased = Operation(calls.note_erased)

    def begin_anew(self, seen: SessionInfo, archived_owners: Sequence[str]) -> Purging:
        """Keep a session's messages in Redis, in a new epoch, and forbid what the archive has of it.

        CHANGED where it is in another epoch than it was seen in; HELD where it is under a legal hold; without a floor
        where it was purged.
        """
        target = PurgeTarget(seen.session_id, seen.owner, archived_owners)
        return self.run(calls.rebase(self._recorded, target, idle=None, epoch=seen.epoch))

    def _in_turns(self, many: Sequence[Call[T]]) -> list[T | TorporError]:
        """As `run_many`, with gaps for others."""
        parts = (many[first : first + _TOGETHER] for first in range(0, len(many), _TOGETHER))
        return [outcome for part in parts for outcome in self.run_many(part)]

    def rewound_before(self) -> int:
        """The epoch before which sessions may lack writes that others have seen; INFO, which needs no key.

        Redis may have lost its last writes when it started, and a replica those that it had not got when it was
        promoted, whenever that was. 0 where the server does not tell.
        """
        nodes = (
            {"target_nodes": redis.cluster.RedisCluster.PRIMARIES}
            if isinstance(self._client, redis.cluster.RedisCluster)
            else {}
        )
        try:
            with self._kind.translated:
                told: Any = self._client.info(**nodes)
        except RedisRefused:
            return 0
        each = told.values() if nodes and "redis_version" not in told else [told]
        return max(map(_rewound_before, each), default=0)


def _rewound_before(info: Mapping[str, Any]) -> int:
    """What INFO tells of one node; https://redis.io/docs/latest/commands/info."""
    if set(str(info.get("master_replid2", "0"))) != {"0"}:  # the id of the primary that it had followed
        return MAX_EPOCH
    now_us, up_seconds = info.get("server_time_usec"), info.get("uptime_in_seconds")
    if now_us is None or up_seconds is None:
        return 0
    return int(now_us) - (int(up_seconds) - 1) * 1_000_000  # it is told in whole seconds
