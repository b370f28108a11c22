"""Waking a session up: begin -> list -> stage -> finish."""

from __future__ import annotations

import logging
import time
from asyncio import CancelledError
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from torpor.history.protocol import (
    ANY_OWNER,
    MAX_MESSAGE_BYTES,
    Caller,
    OwnerMissing,
    RestoreEnd,
    RestoreRefusal,
    RestoreTicket,
    SessionNotFound,
    SessionOperations,
    Status,
    TorporError,
    TransientError,
    check_archived,
    run_sync,
)
from torpor.worker import measures, tracing
from torpor.worker.archive import contents, parts, transcript
from torpor.worker.archive.contents import Contents
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.archive.transcript import Plan
from torpor.worker.deployment.events import Event, EventKind, record_events
from torpor.worker.failpoints import Failpoint, reach
from torpor.worker.retention import expiry
from torpor.worker.retention.expiry import RetentionRules
from torpor.worker.wake import conflict

if TYPE_CHECKING:  # applications that wake sessions import no settings
    from torpor.worker.deployment.services import Services

log = logging.getLogger("torpor.restore")

_TRIES = 5
# How long Redis remembers, for the reader who asked, that a session has no message anywhere.
_REMEMBERED = timedelta(minutes=1)


class RestoreOutcome(StrEnum):
    """How a restore ended."""

    NOTHING = "nothing"  # neither Redis nor the archive has the session
    RESTORED = "restored"  # the complete transcript is in Redis again
    COMPLETE = "complete"  # nothing of the session was in the archive alone
    SUPERSEDED = "superseded"  # closed or cleared meanwhile, or somebody else restores it


@dataclass(frozen=True, slots=True)
class Restored:
    """The result of a restore. `messages` came from the archive; `divergent` names the segments that were left out."""

    session_id: str
    outcome: RestoreOutcome
    messages: int = 0
    divergent: Sequence[str] = field(default_factory=tuple)
    owner: str | None = None

    def check(self) -> None:
        """Raise TransientError if the session was not woken, because somebody else did something with it."""
        if self.outcome is RestoreOutcome.SUPERSEDED:
            raise TransientError("somebody else closed, cleared or restored the session meanwhile; try again")

    @property
    def event(self) -> Event:
        """The event of a session that was restored."""
        return Event(EventKind.RESTORED, self.session_id, self.owner, self.messages)


@dataclass(frozen=True, slots=True)
class Restorer:
    """Restores sessions. Its coroutines wait only if `sessions` belong to an asyncio client.

    `rules` is None if no worker has recorded how long archives are kept: a restore then leaves their custom times.
    `remember`: how long Redis keeps a session without a message anywhere as an empty one.
    `threads` read the archive for an event loop, which must not wait for it.
    `owner`: whoever asks; only a session of this owner is restored, or one without an owner, if it may be assigned one.
    `max_message_bytes`: a segment that unpacks to a larger message is damaged, unless the object itself is large.
    """

    sessions: SessionOperations
    archive: ArchiveStore
    rules: RetentionRules | None
    lease: timedelta
    remember: timedelta | None = None
    threads: Executor | None = None
    max_message_bytes: int = MAX_MESSAGE_BYTES
    owner: Caller = ANY_OWNER
    assign_owner: bool = False

    async def restore(self, session_id: str) -> Restored:
        """As `restore_session`, but records no event, and NOTHING is an outcome."""
        for _ in range(_TRIES):
            ticket = await self.sessions.begin_restore(session_id, self.lease, owner=self.owner)
            if isinstance(ticket, RestoreRefusal):
                return Restored(session_id, RestoreOutcome.COMPLETE)
            result = await self.carry_out(ticket)
            if result.outcome is not RestoreOutcome.SUPERSEDED:
                return result
            info = await self.sessions.info(session_id, owner=ANY_OWNER)
            if info and info.status is Status.RESTORING:
                return result  # somebody else, who began later, restores it
        return result

    async def carry_out(self, ticket: RestoreTicket) -> Restored:
        """Carry out a restore that has begun."""
        began = time.monotonic()
        reach(Failpoint.RESTORE_BEGUN)
        try:
            with tracing.span("restore", session=ticket.session_id):
                planned, end = await self._copy(ticket)
        except CancelledError:
            with suppress(TorporError):  # so that others need not wait for the end of the lease
                await self.sessions.abandon(ticket)
            raise
        except Exception:
            # If the token is gone, somebody else has the session, and our error does not matter.
            if await self.sessions.abandon(ticket):
                raise
            return Restored(ticket.session_id, RestoreOutcome.SUPERSEDED)
        reach(Failpoint.RESTORE_FINISHED)
        if end is RestoreEnd.OWNER:
            if live := await self.sessions.info(ticket.session_id, owner=ANY_OWNER):
                await conflict.set_aside(self.sessions, live)
            end = RestoreEnd.SUPERSEDED
        if end is RestoreEnd.SUPERSEDED:
            await self.sessions.abandon(ticket)  # deletes the staged messages
        outcome = RestoreOutcome(end.value)
        if outcome is not RestoreOutcome.RESTORED:
            return Restored(ticket.session_id, outcome)
        measures.observe("wake", time.monotonic() - began)
        return Restored(ticket.session_id, outcome, planned.count, tuple(planned.divergent), planned.origin.owner)

    async def _copy(self, ticket: RestoreTicket) -> tuple[Plan, RestoreEnd]:
        """Plan what to read, stage it, and finish the restore if everything could be staged."""
        planned = await self.sessions.elsewhere(partial(self._plan, ticket), self.threads)
        for name in planned.divergent:
            log.warning("session %r: %s differs from what was archived later", ticket.session_id, name)
        for name in planned.damaged:
            log.warning("session %r: %s is damaged and not needed: it is left out", ticket.session_id, name)
        if not await self._stage(ticket, transcript.read(self.archive, planned)):
            return planned, RestoreEnd.SUPERSEDED
        reach(Failpoint.RESTORE_READ)
        end = await self.sessions.finish_restore(ticket, planned.count, planned.origin, remember=self.remember)
        return planned, end

    def _plan(self, ticket: RestoreTicket) -> Plan:
        """Plan what to read, and have the archive keep it for its full retention from now on."""
        found = parts.of_first_owner(
            expiry.unexpired(contents.look(self.archive, ticket.session_id), lambda: ticket.begun_at)
        )
        if found and not ticket.message_count:  # else the end of the restore tells whose the live messages are
            self._check_owner(found)
        # A session without live messages has no epoch that could be newer than an archived one.
        below = ticket.epoch if ticket.message_count else None
        planned = transcript.plan(self.archive, found, below=below, max_message_bytes=self.max_message_bytes)
        if self.rules is None:
            return planned
        kept = expiry.restart_retention(
            self.archive, self.rules, found, planned.origin, below=below, now=ticket.begun_at
        )
        if kept is found:
            return planned
        return transcript.plan(self.archive, kept, below=below, max_message_bytes=self.max_message_bytes)

    def _check_owner(self, found: Contents) -> None:
        """Refuse whoever asks by a session of somebody else."""
        try:
            check_archived(found.session_id, parts.first_owner(found), self.owner)
        except OwnerMissing:
            if not self.assign_owner:
                raise

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

    Repeatable; of two at once, one finishes. Raises SessionNotFound if neither Redis nor the archive has the session,
    OwnerMismatch if its parts have different owners, and SegmentMissing or SegmentDamaged, which name what is wrong.
    Redis is then as it was before.
    """
    result = _restore(services, session_id)
    if result.outcome is RestoreOutcome.NOTHING:
        raise SessionNotFound(f"session {session_id!r} is neither in Redis nor in the archive")
    return result


def restore_for_reader(services: Services, session_id: str) -> Restored:
    """As `restore_session`, for a reader who looks at Redis to see when it is done.

    If nobody has the session, Redis remembers it for a minute as an empty one, so the reader does not wait in vain.
    """
    return _restore(services, session_id, remember=_REMEMBERED)


def _restore(services: Services, session_id: str, *, remember: timedelta | None = None) -> Restored:
    restorer = Restorer(
        services.sessions.operations,
        services.archive,
        RetentionRules.of(services.settings),
        services.settings.lease,
        remember=remember,
        max_message_bytes=services.settings.max_message_bytes,
    )
    result = run_sync(restorer.restore(session_id))
    if result.outcome is RestoreOutcome.RESTORED:
        record_events(services, [result.event])
    return result
