"""Removing sessions for good."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from torpor.history import calls
from torpor.history.errors import TorporError
from torpor.history.outcomes import PurgeTarget, Purging
from torpor.history.store.blocking_runner import BlockingRunner
from torpor.history.store.operation import Operation


class Erasure(BlockingRunner):
    """Purges sessions."""

    def purge(
        self, targets: Sequence[PurgeTarget], purge_id: str, *, tombstone: timedelta, idle: timedelta | None = None
    ) -> list[Purging | TorporError]:
        """Empty sessions at once and for good, whether they are in Redis or not; one pipeline, each atomic on its own.

        For the time of the tombstone late writes raise SessionPurged; the worker erases the archive. With `idle`, a
        session that was used within that time is left. The same purge can be run again. Each result is the outcome, or
        the error that this session met.
        """
        return self.run_many(
            [calls.purge(self._recorded, target, purge_id, tombstone=tombstone, idle=idle) for target in targets]
        )

    def rebase(self, targets: Sequence[PurgeTarget], *, idle: timedelta | None = None) -> list[Purging | TorporError]:
        """Keep the messages in Redis, in a new epoch, and forbid all archived ones; one pipeline, as `purge`.

        A session that was purged keeps its tombstone, and its outcome has no floor.
        """
        return self.run_many([calls.rebase(self._recorded, target, idle=idle) for target in targets])

    drop_live = Operation(calls.drop_live)
