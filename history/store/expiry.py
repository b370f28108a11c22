"""Changing the expiry of a session."""

from __future__ import annotations

from datetime import timedelta

from torpor.history import calls
from torpor.history.calls import KEEP, Keep
from torpor.history.owners import Caller
from torpor.history.store.runner import Operations


class ChangingExpiry(Operations):
    """Changes the expiry of sessions, within the deployment's policies."""

    async def update(
        self,
        session_id: str,
        *,
        owner: Caller = None,
        idle: timedelta | Keep | None = KEEP,
        max_age: timedelta | Keep | None = KEEP,
        retention: timedelta | Keep | None = KEEP,
    ) -> None:
        """Change the expiry of a session; None sets the deployment's default.

        Raises SessionNotFound if it is asleep or unknown, and OwnerMismatch.

        If the deployment's policies depend on the owner, one more round trip asks for the session's.
        """
        deployment = await self.runner.deployed()
        session_owner = await self._owner(session_id, owner) if deployment.policies.need_owner else None
        await self.runner.perform(
            calls.update(
                deployment, session_id, session_owner, owner=owner, idle=idle, max_age=max_age, retention=retention
            )
        )

    async def _owner(self, session_id: str, owner: Caller) -> str | None:
        found = await self.runner.perform(calls.info(await self.runner.deployed(), session_id, owner=owner))
        return found.owner if found else None
