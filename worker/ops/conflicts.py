"""Conflicts: session ids that two owners have used. What is not the first owner's gets an id of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import islice

from torpor.history.protocol import (
    ANY_OWNER,
    PermanentError,
    RestoreTicket,
    SessionInfo,
    TorporError,
    TransientError,
    aside_of,
    run_sync,
)
from torpor.worker.archive import contents, parts, transcript
from torpor.worker.archive.contents import Contents
from torpor.worker.deployment import catalog
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import erase
from torpor.worker.errors import SegmentMissing
from torpor.worker.failpoints import Failpoint, reach
from torpor.worker.retention import expiry
from torpor.worker.sleep import attempt
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake import conflict

# How many sessions of the archive are looked up in Redis at once.
_PAGE = 500


class Place(StrEnum):
    """Where a side of a conflict is."""

    REDIS = "redis"
    ARCHIVE = "archive"


@dataclass(frozen=True, slots=True)
class Side:
    """What one owner has, and under which session id. The owner is None for messages that name none."""

    session: str
    owner: str | None
    messages: int
    place: Place


@dataclass(frozen=True, slots=True)
class Conflict:
    """A session id, what its owner has, and what somebody else has written to it while it slept."""

    session: str
    own: Side
    other: Side


def find(
    services: Services,
    unreadable: Callable[[str, TorporError], None],
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Conflict]:
    """Walk the conflicts of a deployment, also those that no reader and no worker has met yet.

    Costs one listing of the archive, one look-up in Redis for each session there, 500 in a pipeline, and one listing
    for each side of a conflict. Calls `unreadable` for each session of which Redis can't tell whose it is. `progress`
    gets how many sessions of the archive were looked at.
    """
    for other in _sides(services, unreadable, progress):
        try:
            found = _conflict(services, other)
        except PermanentError as error:
            unreadable(aside_of(other.session) or other.session, error)
        else:
            yield found


def _sides(
    services: Services, unreadable: Callable[[str, TorporError], None], progress: Callable[[int], None]
) -> Iterator[Side]:
    """What others have: under an id of its own, or under the id of another owner's session."""
    for session_id, info in catalog.described(services, (each for each in catalog.live(services) if aside_of(each))):
        if isinstance(info, SessionInfo):
            yield Side(session_id, info.owner, info.message_count, Place.REDIS)
        elif info is not None:
            unreadable(session_id, info)
    looked_at = 0
    stored = catalog.stored_sessions(services)
    while page := [contents.sort(*each) for each in islice(stored, _PAGE)]:
        described = services.sessions.infos([each.session_id for each in page])
        clock = cache(services.sessions.redis_time)
        for found, info in zip(page, described, strict=True):
            if isinstance(info, TorporError):
                unreadable(found.session_id, info)
            yield from _others(expiry.unexpired(found, clock), info if isinstance(info, SessionInfo) else None)
        looked_at += len(page)
        progress(looked_at)


def _others(found: Contents, live: SessionInfo | None) -> Iterator[Side]:
    """What others have under a session's id; of an id that was put aside, what is asleep."""
    session_id = found.session_id
    if aside_of(session_id) is not None:
        if found and live is None:
            yield Side(session_id, parts.first_owner(found), parts.count(found), Place.ARCHIVE)
        return
    if len({each.stored.metadata.get("owner") for each in found.segments}) > 1:
        for owner, part in parts.of_others(found).items():
            yield Side(session_id, owner, parts.count(part), Place.ARCHIVE)
    if live is not None and _is_strangers(found, live):
        yield Side(session_id, live.owner, live.message_count, Place.REDIS)


def _is_strangers(found: Contents, live: SessionInfo) -> bool:
    """True if Redis has messages of somebody else than the archive's owner, and nobody has put them aside yet."""
    return live.message_count > 0 and conflict.is_others(found, live)


def separate(services: Services, session_id: str) -> list[Side]:
    """Give what others have under a session's id an id of its own, awake or asleep like before; returns it.

    Each part of the archive is copied to its new id, archived and verified there, and only then deleted here.
    Repeatable: a call that was killed is finished by the next one. Raises ArchiveRefused for objects under a hold, what
    a restore raises, and TransientError if a session in Redis changes meanwhile.
    """
    found = expiry.unexpired(contents.look(services.archive, session_id), services.sessions.redis_time)
    live = services.sessions.info(session_id, owner=ANY_OWNER)
    awake = [_set_aside(services, live)] if live is not None and _is_strangers(found, live) else []
    return awake + [_separate(services, owner, part) for owner, part in parts.of_others(found).items()]


def _set_aside(services: Services, live: SessionInfo) -> Side:
    aside = run_sync(conflict.set_aside(services.sessions.operations, live))
    if aside is None:
        raise TransientError(f"session {live.session_id!r} has changed meanwhile: try again")
    return Side(aside, live.owner, live.message_count, Place.REDIS)


def _separate(services: Services, owner: str | None, part: Contents) -> Side:
    session = part.session_id.encode()
    aside = services.sessions.deployment.keyspace.aside(session, part.segments[0].name.epoch).decode()
    count = parts.count(part)
    if services.sessions.info(aside, owner=ANY_OWNER) is None and not contents.look(services.archive, aside):
        _copy(services, part, aside)
    reach(Failpoint.PART_COPIED)
    live = services.sessions.info(aside, owner=ANY_OWNER)
    if live is not None and live.restored_count:
        services.sessions.begin_anew(live, [])  # the archive has nothing of it under this id
    result = attempt.archive_session(services, aside)
    if result.outcome not in (Outcome.ARCHIVED, Outcome.MISSING):
        raise result.error or TransientError(f"session {aside!r} could not be archived now: try again")
    if parts.count(contents.look(services.archive, aside)) < count:
        raise SegmentMissing(f"the archive does not have all of session {aside!r}: nothing was deleted")
    _delete(services, owner, part)
    return Side(aside, owner, count, Place.ARCHIVE)


def _copy(services: Services, part: Contents, aside: str) -> None:
    """Put the messages of a part into Redis, as the session `aside`: all of them at once."""
    sessions, lease = services.sessions.operations, services.settings.lease
    planned = transcript.plan(services.archive, part, max_message_bytes=services.settings.max_message_bytes)
    ticket = run_sync(sessions.begin_restore(aside, lease, owner=ANY_OWNER))
    if not isinstance(ticket, RestoreTicket):
        raise TransientError(f"session {aside!r} is being written by somebody else: try again")
    staged = 0
    for page in transcript.read(services.archive, planned):
        run_sync(sessions.stage(ticket, staged, page, lease))
        staged += len(page)
    run_sync(sessions.finish_restore(ticket, planned.count, planned.origin))


def _delete(services: Services, owner: str | None, part: Contents) -> None:
    """Delete the segments of a part, and first the markers by which its owner finds them."""
    epochs = {segment.name.epoch for segment in part.segments}
    if owner is not None:
        for epoch, stored in contents.owner_markers(services.archive, owner, part.session_id):
            if epoch in epochs:
                erase.delete_unless_held(services, part.session_id, stored)
    for segment in part.segments:
        erase.delete_unless_held(services, part.session_id, segment.stored)
        reach(Failpoint.PART_DELETED)


def _conflict(services: Services, other: Side) -> Conflict:
    session_id = aside_of(other.session) or other.session
    found = expiry.unexpired(contents.look(services.archive, session_id), services.sessions.redis_time)
    live = services.sessions.info(session_id, owner=ANY_OWNER)
    if live is not None and (live.complete or not found):
        return Conflict(session_id, Side(session_id, live.owner, live.message_count, Place.REDIS), other)
    own = parts.of_first_owner(found)
    return Conflict(session_id, Side(session_id, parts.first_owner(found), parts.count(own), Place.ARCHIVE), other)
