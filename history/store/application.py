"""What an application does with its sessions."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from torpor.history import calls
from torpor.history.calls import KEEP, Keep
from torpor.history.errors import InvalidArgument
from torpor.history.session import Expiry, HoldOutcome, Page, SessionInfo
from torpor.history.store.runner import Operations

PAGE_BYTES = 1024 * 1024


class Application(Operations):
    """Adds to, reads, describes, closes, takes back from and clears sessions."""

    async def append(
        self,
        session_id: str,
        messages: Sequence[bytes],
        *,
        expiry: Expiry = Expiry(),  # noqa: B008 - frozen
        owner: str | None = None,
        only_new: bool = False,
        allow_reuse: bool = False,
    ) -> int:
        """Append the JSON bytes of one turn, at least one, oldest first; returns the length of the list in Redis.

        A retry by the client after a lost reply does not write the turn again. `expiry` and `owner` fill in
        what the session has not got yet, `expiry` within the deployment's policies. Raises OwnerMismatch,
        SessionPurged unless `allow_reuse`, and SessionExists with `only_new`.
        """
        if not messages:
            raise InvalidArgument("a turn has at least one message")
        return await self._runner.perform(
            calls.append(
                await self._runner.deployed(record=True),
                session_id,
                messages,
                request=os.urandom(8),
                expiry=expiry,
                owner=owner,
                only_new=only_new,
                allow_reuse=allow_reuse,
            )
        )

    async def messages(self, session_id: str, *, touch: bool = True) -> list[bytes]:
        """The session's messages in Redis as JSON bytes, oldest first; empty where it is not there.

        Up to 1 MiB is one atomic round trip. A longer transcript is read in pages, all of one epoch.
        With `touch` it counts as activity.
        """
        transcript = await self.transcript(session_id, touch=touch)
        return transcript.messages if transcript else []

    async def transcript(
        self, session_id: str, start: int = 0, stop: int | None = None, *, touch: bool = True
    ) -> Page | None:
        """As `messages`, of `[start, stop)` and as one page; None where the session is not in Redis.

        A negative `start` counts from the end.
        """
        while True:
            pages = [page async for page in self.pages(session_id, start, stop, touch=touch)]
            if not pages:
                return None
            first, last = pages[0], pages[-1]
            if first is last and first.reaches(stop):
                return first
            if last.reaches(stop) and len({page.state for page in pages}) == 1:
                messages = [message for page in pages for message in page.messages]
                return replace(first, total=last.total, messages=messages)

    async def pages(
        self, session_id: str, start: int = 0, stop: int | None = None, *, touch: bool = False
    ) -> AsyncIterator[Page]:
        """Messages `[start, stop)` in pages of about 1 MiB; each page tells the state that it belongs to.

        A negative `start` counts from the end. One round trip a page. Ends early where the session leaves Redis.
        """
        deployment = await self._runner.deployed()
        while page := await self._runner.perform(
            calls.read(deployment, session_id, start, stop, PAGE_BYTES, touch=touch)
        ):
            yield page
            if start < 0 and stop is None:  # what comes later is not of the last ones
                stop = page.total
            start = page.stop
            if not page.messages or page.reaches(stop):
                return

    async def info(self, session_id: str) -> SessionInfo | None:
        """Describe a session without counting as activity; None where it is not in Redis."""
        return await self._runner.perform(calls.info(await self._runner.deployed(), session_id))

    async def update(
        self,
        session_id: str,
        *,
        idle: timedelta | Keep | None = KEEP,
        max_age: timedelta | Keep | None = KEEP,
        retention: timedelta | Keep | None = KEEP,
    ) -> None:
        """Change the expiry of a session, None being the default; raises SessionNotFound.

        Where the deployment's policies depend on an owner, one round trip more asks for the session's.
        """
        deployment = await self._runner.deployed()
        found = await self.info(session_id) if deployment.policies.need_owner else None
        owner = found.owner if found else None
        await self._runner.perform(
            calls.update(deployment, session_id, owner, idle=idle, max_age=max_age, retention=retention)
        )

    async def close(self, session_id: str) -> bool:
        """Make a session due now; False where it is not in Redis, or in quarantine."""
        return await self._runner.perform(calls.close(await self._runner.deployed(), session_id))

    async def clear(self, session_id: str, *, owner: str | None = None) -> int:
        """Empty a session at once, in a new epoch; the worker erases what the archive holds of older ones.

        `owner` is whose legal hold counts too, where the session is not in Redis. Raises SessionHeld and SessionPurged.
        """
        deployment = await self._runner.deployed(record=True)
        return await self._runner.perform(calls.clear(deployment, session_id, request=os.urandom(8), owner=owner))

    async def pop(self, session_id: str, last: Page, *, owner: str | None = None) -> bool:
        """Take back the last message, for good, in a new epoch; the worker erases what the archive holds of older ones.

        `last` is a page that was read with it: False, and nothing is changed, where the session is in another state by
        now. `owner` as in `clear`. Raises SessionNotWhole, SessionHeld and SessionPurged.
        """
        deployment = await self._runner.deployed(record=True)
        return await self._runner.perform(calls.pop(deployment, session_id, last, request=os.urandom(8), owner=owner))

    async def hold(self, session_id: str, reason: str) -> HoldOutcome:
        """Put a session under a legal hold, whether it is in Redis or not: it is neither cleared nor purged.

        An erasure that was accepted before goes on. Called again, the newer reason counts. Raises InvalidReason.
        """
        return await self._runner.perform(calls.hold(await self._runner.deployed(record=True), session_id, reason))

    async def release_hold(self, session_id: str) -> HoldOutcome:
        """Release a session's own legal hold; that of its owner stays."""
        return await self._runner.perform(calls.release_hold(await self._runner.deployed(record=True), session_id))

    async def add_events(self, events: Sequence[Mapping[str, str]], *, keep: int) -> None:
        """Add events to the deployment's stream, of which about the last `keep` stay."""
        await self._runner.perform(calls.add_events(self._runner.namespace, events, keep=keep))
