"""The way of a session back into Redis: staged page by page, then swapped in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta

from torpor.history import calls
from torpor.history.session import Origin, RestoreEnd, RestoreRefusal, RestoreTicket
from torpor.history.store.runner import Operations


class Restoring(Operations):
    """Brings sessions back from the archive."""

    async def begin_restore(
        self, session_id: str, lease: timedelta, *, alone: bool = False
    ) -> RestoreTicket | RestoreRefusal:
        """Leave a restore's token, which takes it from a restore that is running, unless `alone`.

        Raises SessionDamaged where the session's metadata was lost, and SessionPurged.
        """
        token = os.urandom(8).hex().encode()
        deployment = await self._runner.deployed(record=True)
        return await self._runner.perform(calls.begin_restore(deployment, session_id, token, lease, alone=alone))

    async def stage(self, ticket: RestoreTicket, staged: int, messages: Sequence[bytes], lease: timedelta) -> bool:
        """Add a page to a restore, `staged` messages being there before; False where it was superseded."""
        return await self._runner.perform(calls.stage(await self._runner.deployed(), ticket, staged, messages, lease))

    async def finish_restore(
        self, ticket: RestoreTicket, staged: int, origin: Origin, *, remember: timedelta | None = None
    ) -> RestoreEnd:
        """Finish a restore: the staged messages come before whatever was written meanwhile.

        A session that turns out to have no message anywhere stays in Redis for `remember`, as whole and empty.
        """
        return await self._runner.perform(
            calls.finish_restore(await self._runner.deployed(), ticket, staged, origin, remember)
        )

    async def abandon(self, ticket: RestoreTicket) -> bool:
        """Give up a restore and leave the session as it was before; False where it was superseded."""
        return await self._runner.perform(calls.abandon(await self._runner.deployed(), ticket))
