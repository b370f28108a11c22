"""The life of a session: what is known of it now, and what has happened to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from torpor.history.protocol import (
    RedisRefused,
    SessionInfo,
    SessionKind,
    SessionNotFound,
    StandingHold,
    TorporError,
    TransientError,
    aside_of,
    check_session_id,
)
from torpor.worker.access import happenings
from torpor.worker.access.happenings import Happening, Traces
from torpor.worker.archive import contents, names, parts
from torpor.worker.archive.contents import Contents
from torpor.worker.archive.names import FloorName, SegmentName
from torpor.worker.archive.segment_metadata import SegmentMetadata
from torpor.worker.archive.stores import NEVER, StoredObject
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveUnavailable, SegmentDamaged
from torpor.worker.retention import expiry
from torpor.worker.retention.expiry import RetentionRules
from torpor.worker.wake import conflict

_ASLEEP, _UNREADABLE = "asleep", "unreadable"


@dataclass(frozen=True, slots=True)
class LifeObject:
    """An object of the session in the archive.

    `what` is segment, floor or owner marker; `messages` is None for an object without any. `expires`: the store may
    delete it then. `erasable`: it is of before a clear or a purge, and will be deleted.
    """

    name: str
    what: str
    size: int
    created: datetime | None
    expires: datetime | None
    held: bool
    messages: int | None = None
    erasable: bool = False
    damage: str | None = None


@dataclass(frozen=True, slots=True)
class Other:
    """What another owner has written to the session's id while it slept. The owner is None if nobody is named."""

    owner: str | None
    messages: int
    place: str


@dataclass(frozen=True, slots=True)
class Life:
    """A session, awake or asleep. Times are in UTC.

    `state` is one of `Status`, asleep, or unreadable: then `error` says what Redis has, and only the archive and the
    holds tell of it. `messages` are those in Redis, of which the first `restored` came from older
    epochs; `archived` are those that the archive has, by the names of its segments, and `archived_bytes` what those
    take. `idle_timeout`, `max_age` and `due_at` are of Redis, which knows them of a session that is awake.
    `retention`: how long the archive keeps it after its last activity; None is for ever. `expires`: when the archive
    may delete it. `floor`: what is older is being erased. `aside`: the session from whose id this one was put aside.
    `unavailable`: why nothing could be asked of the archive; then only what Redis knows is here. `replaced`: it is
    unreadable because a key of another type is in place of its own, and Redis changes nothing of it, no hold either.
    """

    session_id: str
    state: str
    kind: SessionKind | None
    owner: str | None
    created: datetime | None
    last_active: datetime | None
    messages: int
    restored: int
    archived: int
    archived_bytes: int
    complete: bool
    due_at: datetime | None
    idle_timeout: timedelta | None
    max_age: timedelta | None
    retention: timedelta | None
    expires: datetime | None
    attempts: int
    error: str | None
    floor: bool
    purge: str | None
    aside: str | None
    holds: Sequence[StandingHold]
    others: Sequence[Other]
    objects: Sequence[LifeObject]
    unavailable: str | None
    replaced: bool
    happenings: Sequence[Happening]

    @property
    def is_readable(self) -> bool:
        """False if nobody knows what Redis has of it."""
        return self.state != _UNREADABLE

    @property
    def is_awake(self) -> bool:
        """True if Redis has it: also a tombstone, and one whose messages are asleep."""
        return self.state != _ASLEEP


def life(services: Services, session_id: str) -> Life:
    """All that is known of a session, without its messages.

    Costs two listings of the archive, its own and that of its owner's markers, four scripts of Redis, and the last
    2,000 events. Changes nothing. Raises SessionNotFound, and ArchiveUnavailable if Redis does not have the session.
    """
    [described] = services.sessions.infos([check_session_id(session_id)])
    if isinstance(described, TransientError):
        raise described
    stored, unavailable = _stored(services, session_id, described)
    found = contents.sort(session_id, stored)
    live = described if isinstance(described, SessionInfo) else None
    if described is None and not stored:
        raise SessionNotFound(f"session {session_id!r} is neither in Redis nor in the archive")
    usable = expiry.unexpired(found, services.sessions.redis_time)
    own = parts.of_first_owner(usable)
    metadata = {each.stored.name: known for each in own.segments if (known := _metadata(services, each.stored))}
    newest = metadata.get(own.segments[-1].stored.name) if own.segments else None
    owner = parts.first_owner(usable) or (live.owner if live else None)
    owners = sorted({each for each in (owner, live.owner if live else None, *usable.owners) if each is not None})
    holds = services.sessions.holds_of(session_id, owners)
    traces = Traces(session_id, live, stored, metadata, holds)
    retention = live.expiry.retention if live else newest.origin.expiry.retention if newest else None
    return Life(
        session_id=session_id,
        state=str(live.status) if live else _UNREADABLE if described else _ASLEEP,
        kind=(live.kind if live else None) or found.kind,
        owner=owner,
        created=traces.created,
        last_active=live.last_active if live and not (live.is_note and stored) else _last_active(own, stored),
        messages=live.message_count if live else 0,
        restored=live.restored_count if live else 0,
        archived=parts.count(own),
        archived_bytes=sum(each.stored.size for each in own.segments),
        complete=live.complete if live else False,
        due_at=live.due_at if live else None,
        idle_timeout=live.idle_timeout if live else newest.origin.expiry.idle if newest else None,
        max_age=live.max_age if live else newest.origin.expiry.max_age if newest else None,
        retention=RetentionRules.of(services.settings).span(session_id, owner, retention),
        expires=_expires(each.stored for each in own.segments),
        attempts=live.attempts if live else 0,
        error=live.error if live else str(described) if described else None,
        floor=live is not None and live.floor is not None,
        purge=live.purge if live else None,
        aside=aside_of(session_id),
        holds=holds,
        others=_others(usable, live),
        objects=_objects(services, session_id, stored, found.floor, [] if unavailable else owners),
        unavailable=unavailable,
        replaced=isinstance(described, RedisRefused),
        happenings=happenings.happenings(services, traces),
    )


def _stored(
    services: Services, session_id: str, live: SessionInfo | TorporError | None
) -> tuple[list[StoredObject], str | None]:
    """The session's objects; of a session in Redis none and the error, if the archive does not answer."""
    try:
        return list(services.archive.list(names.session_prefix(session_id))), None
    except ArchiveUnavailable as error:
        if live is None:
            raise
        return [], str(error)


def _metadata(services: Services, stored: StoredObject) -> SegmentMetadata | None:
    """The properties that a segment records; None if they are damaged, which the objects show."""
    with suppress(SegmentDamaged):
        return SegmentMetadata.read(services.archive, stored)
    return None


def _last_active(own: Contents, stored: Sequence[StoredObject]) -> datetime | None:
    segments = [each.stored for each in own.segments]
    return contents.last_active(segments or stored) if segments or stored else None


def _expires(stored: Iterable[StoredObject]) -> datetime | None:
    """When the first object may be deleted; None if none ever may."""
    ends = [each.custom_time for each in stored if each.custom_time and each.custom_time < NEVER and not each.held]
    return min(ends, default=None)


def _others(usable: Contents, live: SessionInfo | None) -> list[Other]:
    others = [Other(owner, parts.count(part), "archive") for owner, part in parts.of_others(usable).items()]
    if live is not None and live.message_count and conflict.is_others(usable, live):
        others.append(Other(live.owner, live.message_count, "redis"))
    return others


def _objects(
    services: Services, session_id: str, stored: Sequence[StoredObject], floor: int, owners: Sequence[str]
) -> list[LifeObject]:
    """The session's objects, its owners' markers first. What has a name that is not Torpor's is left out."""
    markers = [
        _object(each, "owner marker", erasable=epoch < floor)
        for owner in owners
        for epoch, each in contents.owner_markers(services.archive, owner, session_id)
    ]
    for each in stored:
        name = names.parse(session_id, each.name)
        if isinstance(name, SegmentName):
            markers.append(_object(each, "segment", erasable=name.epoch < floor, messages=name.stop - name.start))
        elif isinstance(name, FloorName):
            markers.append(_object(each, "floor", erasable=name.epoch < floor))
    return markers


def _object(stored: StoredObject, what: str, *, erasable: bool, messages: int | None = None) -> LifeObject:
    return LifeObject(
        name=stored.name,
        what=what,
        size=stored.size,
        created=stored.created,
        expires=stored.custom_time if stored.custom_time and stored.custom_time < NEVER else None,
        held=stored.held,
        messages=messages,
        erasable=erasable,
        damage=stored.damage,
    )
