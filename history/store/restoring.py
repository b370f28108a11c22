"""The way of a session back into Redis: staged page by page, then swapped in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta

from history import calls
from history.session import Origin, RestoreTicket, SwapOutcome
from history.store.runner import Runner


class Restoring(Runner):
    """Brings sessions back from the archive."""

    def begin_restore(self, session_id: str, lease: timedelta) -> RestoreTicket | None:
        """Leave a restore's token; None where nothing of the session is in the archive alone.

        Raises SessionDamaged where the session's metadata was lost.
        """
        token = os.urandom(8).hex().encode()
        return self.run(calls.restore(self._recorded, session_id, token, lease))

    def stage(self, ticket: RestoreTicket, staged: int, messages: Sequence[bytes], lease: timedelta) -> bool:
        """Add a page to a restore, `staged` messages being there before; False where it was superseded."""
        return self.run(calls.stage(self.deployment, ticket, staged, messages, lease))

    def swap(self, ticket: RestoreTicket, staged: int, origin: Origin) -> SwapOutcome:
        """Finish a restore: the staged messages come before whatever was written meanwhile."""
        return self.run(calls.swap(self.deployment, ticket, staged, origin))

    def abandon(self, ticket: RestoreTicket) -> bool:
        """Give up a restore and leave the session as it was before; False where it was superseded."""
        return self.run(calls.abandon(self.deployment, ticket))
