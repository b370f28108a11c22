"""Attempts to archive claimed sessions: their begin, their commit, and giving the session back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import redis.cluster

from torpor.history import calls
from torpor.history.errors import RedisRefused, TorporError
from torpor.history.outcomes import CommitOutcome, PurgeTarget, Purging
from torpor.history.overview import Ending
from torpor.history.session import Attempt, Lease, SessionInfo
from torpor.history.store.blocking_runner import BlockingRunner
from torpor.history.store.operation import Operation

MAX_EPOCH = 2**53
# How many scripts that read sessions are sent together. Redis serves all requests that it has read from one client
# before those of the next, so more of them would block other clients for milliseconds.
_TOGETHER = 16


class Archiving(BlockingRunner):
    """Begins and ends attempts to archive leased sessions."""

    def begin_attempts(
        self, leases: Sequence[Lease], head_bytes: int = 0, *, only_first: bool = False
    ) -> list[Attempt | TorporError | None]:
        """Begin an attempt at each claimed session; each is atomic on its own, and each 16 are one pipeline.

        Each result is None if the lease is lost or the session is gone, or the error that this session met. An attempt
        has the first messages to send, of `head_bytes` at most. With `only_first`, none is begun at a session whose
        earlier ones have failed or not ended.
        """
        begin = partial(calls.snapshot, self.deployment, head_bytes=head_bytes, only_first=only_first)
        parts = (leases[first : first + _TOGETHER] for first in range(0, len(leases), _TOGETHER))
        return [outcome for part in parts for outcome in self.run_many([begin(lease) for lease in part])]

    def renew(self, leases: Sequence[Lease], by: timedelta) -> list[Lease | TorporError | None]:
        """Prolong leases by the span `by`; one pipeline. Each result is the new lease, None if it is lost, or an error.

        After an error, renewing the same lease by the same span again tells whether the first renewal was done.
        """
        return self.run_many([calls.renew(self.deployment, lease, by) for lease in leases])

    def commits(
        self, verified: Sequence[tuple[Lease, SessionInfo]], sent_bytes: Sequence[int] = ()
    ) -> list[CommitOutcome | TorporError]:
        """Delete each session if it has not changed since it was archived, else note how much of it is safe.

        `sent_bytes`, for the tally, are the sizes of what was uploaded of each. One pipeline; each session is atomic on
        its own. Each result is the outcome, or the error that this session met.
        """
        sizes = sent_bytes or [0] * len(verified)
        commits = [
            calls.commit(self.deployment, lease, archived, size)
            for (lease, archived), size in zip(verified, sizes, strict=True)
        ]
        return self.run_many(commits)

    release = Operation(calls.release)

    def quarantine(self, lease: Lease, error: str) -> bool:
        """Put a session in quarantine, unchanged, with the reason; False if the lease is lost."""
        ending = Ending.QUARANTINED
        return self.run(calls.release(self.deployment, lease, None, counted=True, error=error, ending=ending))

    requeue = Operation(calls.requeue)
    note_erased = Operation(calls.note_erased)

    def begin_anew(self, info: SessionInfo, archived_owners: Sequence[str]) -> Purging:
        """Keep a session's messages in Redis, in a new epoch, and have the archive below it erased.

        The outcome is CHANGED if its epoch is not that of `info`, and HELD if it is under a legal hold. It has no floor
        if the session was purged.
        """
        target = PurgeTarget(info.session_id, info.owner, archived_owners)
        return self.run(calls.rebase(self._recorded, target, idle=None, epoch=info.epoch))

    def rewound_before(self) -> int:
        """The epoch before which sessions may lack writes that clients have seen; asked with INFO, which needs no key.

        Redis may have lost its last writes when it was restarted. A replica may lack writes that it had not received
        when it was promoted, whenever that was. 0 if the server does not say.
        """
        nodes = (
            {"target_nodes": redis.cluster.RedisCluster.PRIMARIES}
            if isinstance(self._client, redis.cluster.RedisCluster)
            else {}
        )
        try:
            with self._kind.translated:
                info: Any = self._client.info(**nodes)
        except RedisRefused:
            return 0
        each = info.values() if nodes and "redis_version" not in info else [info]
        return max(map(_rewound_before, each), default=0)


def _rewound_before(info: Mapping[str, Any]) -> int:
    """The epoch for one node, from its INFO; https://redis.io/docs/latest/commands/info."""
    if set(str(info.get("master_replid2", "0"))) != {"0"}:  # the id of the primary that it has followed before
        return MAX_EPOCH
    now_us, up_seconds = info.get("server_time_usec"), info.get("uptime_in_seconds")
    if now_us is None or up_seconds is None:
        return 0
    return int(now_us) - (int(up_seconds) - 1) * 1_000_000  # the uptime is in whole seconds
