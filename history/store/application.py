"""What an application does with its sessions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import timedelta

from history import calls
from history.calls import KEEP, Keep
from history.errors import InvalidArgument
from history.session import Expiry, Page, SessionInfo
from history.store.runner import Runner

PAGE_BYTES = 1024 * 1024


class Application(Runner):
    """Adds, reads, describes, closes and clears sessions."""

    def append(
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
        request = os.urandom(8)
        return self.run(
            calls.append(
                self._recorded,
                session_id,
                messages,
                request=request,
                expiry=expiry,
                owner=owner,
                only_new=only_new,
                allow_reuse=allow_reuse,
            )
        )

    def messages(self, session_id: str, *, touch: bool = True) -> list[bytes]:
        """The session's messages in Redis as JSON bytes, oldest first; empty where it is not there.

        Up to 1 MiB is one atomic round trip. A longer transcript is read in pages, all of one epoch.
        With `touch` it counts as activity.
        """
        while True:
            pages = list(self.pages(session_id, touch=touch))
            if not pages:
                return []
            one_state = len({(page.epoch, page.base) for page in pages}) == 1
            if one_state and pages[-1].stop == pages[-1].total:
                return [message for page in pages for message in page.messages]

    def pages(self, session_id: str, start: int = 0, stop: int | None = None, *, touch: bool = False) -> Iterator[Page]:
        """Messages `[start, stop)` in pages of about 1 MiB; each page tells the state that it belongs to.

        One round trip a page. Ends early where the session leaves Redis.
        """
        while page := self.run(calls.read(self.deployment, session_id, start, stop, PAGE_BYTES, touch=touch)):
            yield page
            start = page.stop
            if not page.messages or start >= (page.total if stop is None else min(stop, page.total)):
                return

    def info(self, session_id: str) -> SessionInfo | None:
        """Describe a session without counting as activity; None where it is not in Redis."""
        return self.run(calls.info(self.deployment, session_id))

    def update(
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
        found = self.info(session_id) if self.deployment.policies.need_owner else None
        owner = found.owner if found else None
        self.run(calls.update(self.deployment, session_id, owner, idle=idle, max_age=max_age, retention=retention))

    def close(self, session_id: str) -> bool:
        """Make a session due now; False where it is not in Redis, or in quarantine."""
        return self.run(calls.close(self.deployment, session_id))

    def clear(self, session_id: str, *, owner: str | None = None) -> int:
        """Empty a session at once, in a new epoch; the worker erases what the archive holds of older ones.

        `owner` is whose legal hold counts too, where the session is not in Redis. Raises SessionHeld and SessionPurged.
        """
        return self.run(calls.clear(self._recorded, session_id, request=os.urandom(8), owner=owner))
