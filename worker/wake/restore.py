"""Waking a session up: begin -> list -> stage -> swap; and reading a transcript without waking it."""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from torpor.history.protocol import (
    OwnerMismatch,
    RestoreEnd,
    RestoreRefusal,
    RestoreTicket,
    SessionInfo,
    SessionNotFound,
    SessionOperations,
    SessionPurged,
    Status,
    TorporError,
    TransientError,
    run_sync,
)
from torpor.worker.archive import contents
from torpor.worker.archive.contents import Plan
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.deployment.events import Event, EventKind, record_events
from torpor.worker.errors import ObjectNotFound, SegmentMissing
from torpor.worker.failpoints import Failpoint, reach
from torpor.worker.retention import expiry
from torpor.worker.retention.expiry import RetentionRules

if TYPE_CHECKING:  # applications that wake sessions need none
    from torpor.worker.deployment.services import Services

log = logging.getLogger("torpor.restore")

_TRIES = 5


class RestoreOutcome(StrEnum):
    """How a restore ended."""

    NOTHING = "nothing"  # neither Redis nor the archive has the session
    RESTORED = "restored"  # the transcript is in Redis again
    COMPLETE = "complete"  # nothing of the session was in the archive alone
    SUPERSEDED = "superseded"  # closed or cleared meanwhile, or somebody else restores it


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did. `messages` came from the archive; `forks` names objects that a failover left aside."""

    session_id: str
    outcome: RestoreOutcome
    messages: int = 0
    forks: Sequence[str] = field(default_factory=tuple)
    owner: str | None = None

    @property
    def event(self) -> Event:
        """What is told of a session that was restored."""
        return Event(EventKind.RESTORED, self.session_id, self.owner, self.messages)


@dataclass(frozen=True, slots=True)
class Restorer:
    """What a restore works with; its coroutines wait only where `sessions` are those of an asyncio client.

    `keeping` is None where nobody has said how long archives are kept: then they are kept as they are.
    `remember`: how long a session of which there is nothing anywhere is kept in mind as an empty one.
    `threads` read the archive where an event loop must not wait for it.
    """

    sessions: SessionOperations
    archive: ArchiveStore
    keeping: RetentionRules | None
    lease: timedelta
    remember: timedelta | None = None
    threads: Executor | None = None

    async def restore(self, session_id: str) -> Restored:
        """As `restore_session`, but for the events."""
        for _ in range(_TRIES):
            ticket = await self.sessions.begin_restore(session_id, self.lease)
            if isinstance(ticket, RestoreRefusal):
                return Restored(session_id, RestoreOutcome.COMPLETE)
            result = await self.carry_out(ticket)
            if result.outcome is not RestoreOutcome.SUPERSEDED:
                return result
            info = await self.sessions.info(session_id)
            if info and info.status is Status.RESTORING:
                return result  # by somebody else, who began later
        return result

    async def carry_out(self, ticket: RestoreTicket) -> Restored:
        """What is left of a restore that has begun."""
        reach(Failpoint.RESTORE_BEGUN)
        try:
            planned = await self.sessions.elsewhere(partial(self._plan, ticket), self.threads)
            for name in planned.forks:
                log.warning("session %r: %s differs from what was archived later", ticket.session_id, name)
            outcome = RestoreEnd.SUPERSEDED
            if await self._stage(ticket, contents.read(self.archive, planned)):
                reach(Failpoint.RESTORE_READ)
                outcome = await self.sessions.finish_restore(
                    ticket, planned.count, planned.origin, remember=self.remember
                )
        except CancelledError:
            with suppress(TorporError):  # others need not wait for the end of the lease
                await self.sessions.abandon(ticket)
            raise
        except Exception:
            # Where the token is gone, what was read is no matter: somebody else has the session.
            if await self.sessions.abandon(ticket):
                raise
            return Restored(ticket.session_id, RestoreOutcome.SUPERSEDED)
        reach(Failpoint.RESTORE_SWAPPED)
        if outcome is RestoreEnd.SUPERSEDED:
            await self.sessions.abandon(ticket)  # drops what was staged
        ended = RestoreOutcome(outcome.value)
        if ended is not RestoreOutcome.RESTORED:
            return Restored(ticket.session_id, ended)
        return Restored(ticket.session_id, ended, planned.count, tuple(planned.forks), planned.origin.owner)

    def _plan(self, ticket: RestoreTicket) -> Plan:
        """What to read; the archive keeps it for some time from now on."""
        held = expiry.unexpired(contents.look(self.archive, ticket.session_id))
        # What comes into being empty has nothing that could be newer.
        below = ticket.epoch if ticket.message_count else None
        planned = contents.plan(self.archive, held, below=below)
        if self.keeping is None:
            return planned
        kept = expiry.keep_awake(self.archive, self.keeping, held, planned.origin)
        return planned if kept is held else contents.plan(self.archive, kept, below=below)

    async def _stage(self, ticket: RestoreTicket, pages: Iterator[list[bytes]]) -> bool:
        staged = 0
        while page := await self.sessions.elsewhere(partial(next, pages, None), self.threads):
            if not await self.sessions.stage(ticket, staged, page, self.lease):
                return False
            staged += len(page)
            reach(Failpoint.RESTORE_STAGED)
        return True


def restore_session(services: Services, session_id: str) -> Restored:
    """Put a session's archived messages back before whatever was written meanwhile.

    Repeatable; of two at once one finishes. Raises SessionNotFound where neither Redis nor the archive has the
    session, OwnerMismatch where its parts are of different owners, SegmentMissing or SegmentDamaged, naming what is
    wrong; Redis is then as it was before.
    """
    restorer = Restorer(
        services.sessions.operations, services.archive, RetentionRules.of(services.settings), services.settings.lease
    )
    result = run_sync(restorer.restore(session_id))
    if result.outcome is RestoreOutcome.NOTHING:
        raise SessionNotFound(f"session {session_id!r} is neither in Redis nor in the archive")
    if result.outcome is RestoreOutcome.RESTORED:
        record_events(services, [result.event])
    return result


def read_transcript(services: Services, session_id: str) -> list[bytes]:
    """A session's messages as JSON bytes, oldest first, from the archive and Redis, without waking it.

    Raises SessionNotFound, OwnerMismatch, SegmentMissing and SegmentDamaged.
    """
    for _ in range(_TRIES):
        before = services.sessions.info(session_id)
        if before and before.purge is not None:
            raise SessionPurged(f"session {session_id!r} was purged")
        live = services.sessions.messages(session_id, touch=False) if before else []
        try:
            archived = [] if before and before.complete else _archived(services, session_id, before)
        except ObjectNotFound:
            continue  # erased since it was listed
        except SegmentMissing:
            if _moved(services, session_id, before):
                continue
            raise
        if not _moved(services, session_id, before):
            if before is None and not archived:
                raise SessionNotFound(f"session {session_id!r} is neither in Redis nor in the archive")
            return archived + live
    raise TransientError(f"session {session_id!r} keeps changing between Redis and the archive; try again")


def _archived(services: Services, session_id: str, live: SessionInfo | None) -> list[bytes]:
    held = expiry.unexpired(contents.look(services.archive, session_id))
    planned = contents.plan(services.archive, held, below=live.epoch if live and live.message_count else None)
    if live and live.owner and planned.origin.owner not in (None, live.owner):
        raise OwnerMismatch(f"the archive has session {session_id!r} for another owner than Redis")
    return [*chain.from_iterable(contents.read(services.archive, planned))]


def _moved(services: Services, session_id: str, before: SessionInfo | None) -> bool:
    now = services.sessions.info(session_id)
    if now is None or before is None:
        return now is not before
    return (now.epoch, now.restored_count) != (before.epoch, before.restored_count)
