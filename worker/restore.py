"""Waking a session up: begin -> list -> stage -> swap; and reading a transcript without waking it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from history import (
    OwnerMismatch,
    RestoreTicket,
    SessionInfo,
    SessionNotFound,
    SessionPurged,
    Status,
    SwapOutcome,
    TransientError,
)
from worker import holdings, retention
from worker.errors import ObjectNotFound, SegmentMissing
from worker.events import Event, EventKind, tell
from worker.failpoints import Failpoint, reach
from worker.holdings import Plan
from worker.services import Services

log = logging.getLogger("torpor.restore")

_PAGE_MESSAGES = 500
_PAGE_BYTES = 1024 * 1024
_TRIES = 5


class RestoreOutcome(StrEnum):
    """How a restore ended."""

    RESTORED = "restored"  # the transcript is in Redis again
    WHOLE = "whole"  # nothing of the session was in the archive alone
    SUPERSEDED = "superseded"  # closed or cleared meanwhile, or somebody else restores it


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did. `messages` came from the archive; `forks` names objects that a failover left aside."""

    session_id: str
    outcome: RestoreOutcome
    messages: int = 0
    forks: Sequence[str] = field(default_factory=tuple)


def restore_session(services: Services, session_id: str) -> Restored:
    """Put a session's archived messages back before whatever was written meanwhile.

    Repeatable; of two at once one finishes. Raises SessionNotFound where neither Redis nor the archive has the
    session, OwnerMismatch where its parts are of different owners, SegmentMissing or SegmentDamaged, naming what is
    wrong; Redis is then as it was before.
    """
    for _ in range(_TRIES):
        ticket = services.sessions.begin_restore(session_id, services.settings.lease)
        if ticket is None:
            return Restored(session_id, RestoreOutcome.WHOLE)
        result = _finish(services, ticket)
        if result.outcome is not RestoreOutcome.SUPERSEDED:
            return result
        info = services.sessions.info(session_id)
        if info and info.status is Status.RESTORING:
            return result  # by somebody else, who began later
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
            archived = [] if before and before.whole else _archived(services, session_id, before)
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


def _finish(services: Services, ticket: RestoreTicket) -> Restored:
    reach(Failpoint.RESTORE_BEGUN)
    try:
        planned = _plan(services, ticket)
        for name in planned.forks:
            log.warning("session %r: %s differs from what was archived later", ticket.session_id, name)
        outcome = SwapOutcome.SUPERSEDED
        if _stage(services, ticket, holdings.read(services.archive, planned)):
            reach(Failpoint.RESTORE_READ)
            outcome = services.sessions.swap(ticket, planned.count, planned.origin)
    except Exception:
        # Where the token is gone, what was read is no matter: somebody else has the session.
        if services.sessions.abandon(ticket):
            raise
        return Restored(ticket.session_id, RestoreOutcome.SUPERSEDED)
    reach(Failpoint.RESTORE_SWAPPED)
    if outcome is SwapOutcome.NOTHING:
        raise SessionNotFound(f"session {ticket.session_id!r} is neither in Redis nor in the archive")
    if outcome is SwapOutcome.SUPERSEDED:
        services.sessions.abandon(ticket)  # drops what was staged
        return Restored(ticket.session_id, RestoreOutcome.SUPERSEDED)
    tell(services, [Event(EventKind.RESTORED, ticket.session_id, planned.origin.owner, planned.count)])
    return Restored(ticket.session_id, RestoreOutcome.RESTORED, planned.count, tuple(planned.forks))


def _plan(services: Services, ticket: RestoreTicket) -> Plan:
    """What to read; the archive keeps it for some time from now on."""
    held = retention.unexpired(holdings.look(services.archive, ticket.session_id))
    # What comes into being empty has nothing that could be newer.
    below = ticket.epoch if ticket.message_count else None
    planned = holdings.plan(services.archive, held, below=below)
    kept = retention.keep_awake(services, held, planned.origin)
    return planned if kept is held else holdings.plan(services.archive, kept, below=below)


def _stage(services: Services, ticket: RestoreTicket, messages: Iterable[bytes]) -> bool:
    staged = 0
    for page in _pages(messages):
        if not services.sessions.stage(ticket, staged, page, services.settings.lease):
            return False
        staged += len(page)
        reach(Failpoint.RESTORE_STAGED)
    return True


def _pages(messages: Iterable[bytes]) -> Iterator[list[bytes]]:
    page: list[bytes] = []
    size = 0
    for message in messages:
        page.append(message)
        size += len(message)
        if len(page) >= _PAGE_MESSAGES or size >= _PAGE_BYTES:
            yield page
            page, size = [], 0
    if page:
        yield page


def _archived(services: Services, session_id: str, live: SessionInfo | None) -> list[bytes]:
    held = retention.unexpired(holdings.look(services.archive, session_id))
    planned = holdings.plan(services.archive, held, below=live.epoch if live and live.message_count else None)
    if live and live.owner and planned.origin.owner not in (None, live.owner):
        raise OwnerMismatch(f"the archive has session {session_id!r} for another owner than Redis")
    return list(holdings.read(services.archive, planned))


def _moved(services: Services, session_id: str, before: SessionInfo | None) -> bool:
    now = services.sessions.info(session_id)
    if now is None or before is None:
        return now is not before
    return (now.epoch, now.base) != (before.epoch, before.base)
