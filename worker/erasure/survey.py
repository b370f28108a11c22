"""Survey: finds out what a purge would remove of each session, and which legal holds forbid it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import repeat

from torpor.history.protocol import SessionInfo, StandingHold, TorporError, TransientError
from torpor.worker.archive import contents, names, parts
from torpor.worker.archive.names import FloorName, SegmentName
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment.services import Services
from torpor.worker.erasure.inventory import Found, FoundObject
from torpor.worker.erasure.order import Order, Scope
from torpor.worker.retention import lost_holds

_Objects = Sequence[tuple[SegmentName | FloorName, StoredObject]]


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A session as a survey saw it, and the legal holds that keep it. Epochs below `floor` must not come back.

    `lost_hold` is true if its objects are under a legal hold that Redis has forgotten: somebody must decide about it.
    `unreadable` is the error that Redis has for it: nobody knows what is there, so nothing of it is removed.
    `others` is true if its id is also another owner's than the purge is for, in Redis or by a segment that counts.
    `last_active` comes from Redis, or from the archive, but the archive is asked only for a purge of idle sessions.
    """

    found: Found
    info: SessionInfo | None
    holds: Sequence[StandingHold]
    lost_hold: bool
    floor: int
    last_active: datetime | None
    others: bool
    unreadable: TorporError | None = None

    @property
    def kept(self) -> str | None:
        """Why the purge may remove nothing of the session, if so."""
        if self.holds:
            return "; ".join(hold.damage or f"legal hold: {hold.reason}" for hold in self.holds)
        if self.unreadable:
            return f"it can't be read, see torpor doctor: {self.unreadable}"
        if self.lost_hold:
            return "its objects are under a legal hold that Redis lacks: torpor doctor --repair, or torpor unhold"
        if self.others:
            return "another owner has used the session's id, see torpor sessions --conflicts: torpor separate"
        return None


def survey(services: Services, pool: Executor, session_ids: Sequence[str], order: Order) -> list[Surveyed]:
    """Look at sessions in the scope of the order: some pipelines, and one listing a session.

    The listing tells of legal holds in every scope.
    """
    sessions = services.sessions
    infos = [_lasting(each) for each in sessions.infos(session_ids)]
    listings = list(pool.map(lambda session_id: _objects(services, session_id), session_ids))
    scoped: Iterable[_Objects] = repeat(()) if order.scope is Scope.LIVE else listings
    surveyed = [_surveyed(*each, order) for each in zip(session_ids, infos, scoped, strict=False)]
    holds = sessions.holds_of_each([(each.found.session, each.found.owners) for each in surveyed])
    stored = ((session, [each for _, each in objects]) for session, objects in zip(session_ids, listings, strict=True))
    lost = {each.session_id for each in lost_holds.find(services, stored)}
    return [
        replace(each, holds=found, lost_hold=each.found.session in lost)
        for each, found in zip(surveyed, holds, strict=True)
    ]


def _lasting(info: SessionInfo | TorporError | None) -> SessionInfo | TorporError | None:
    """The same; raises an error that may pass."""
    if isinstance(info, TransientError):
        raise info
    return info


def _objects(services: Services, session_id: str) -> _Objects:
    return [
        (name, stored)
        for stored in services.archive.list(names.session_prefix(session_id), generations=True)
        if (name := names.parse(session_id, stored.name))
    ]


def _surveyed(
    session_id: str, described: SessionInfo | TorporError | None, objects: _Objects, order: Order
) -> Surveyed:
    unreadable = described if isinstance(described, TorporError) else None
    info = described if isinstance(described, SessionInfo) else None
    floor = max((name.epoch for name, stored in objects if isinstance(name, FloorName) and stored.current), default=0)
    is_tombstone = info is not None and info.purge is not None
    # This marker is not removed: it stays as long as the tombstone does, or as the session in Redis that stays.
    staying = FloorName(floor) if is_tombstone or order.scope is Scope.ARCHIVE else None
    removable = [stored for name, stored in objects if name != staying]
    live = None if is_tombstone else info
    owners = {info.owner if info else None, order.owner, *(stored.metadata.get("owner") for stored in removable)}
    found = Found(
        session=session_id,
        owner=info.owner if info else None,
        owners=sorted(owner for owner in owners if owner is not None),
        epoch=max([live.epoch if live else 0, *(name.epoch for name, _ in objects)]),
        in_redis=(live is not None or unreadable is not None) and order.scope is not Scope.ARCHIVE,
        live_messages=info.message_count if info else 0,
        messages=_messages(info, objects, order),
        objects=[_found_object(stored) for stored in removable],
        unreadable=unreadable is not None,
    )
    last_active = live.last_active if live else None
    if last_active is None and objects and order.idle is not None:
        last_active = contents.last_active([stored for _, stored in objects])
    floor = max(floor, info.floor or 0) if info else floor
    others = not is_tombstone and order.is_others(_readable_owners(session_id, live, objects))
    return Surveyed(found, info, [], False, floor, last_active, others, unreadable)


def _readable_owners(session_id: str, live: SessionInfo | None, objects: _Objects) -> set[str]:
    """The owners of what readers can have; objects of others that are left of earlier times are nobody's."""
    archived = parts.owners(contents.sort(session_id, [stored for _, stored in objects]))
    return archived | ({live.owner} if live and live.owner else set())


def _found_object(stored: StoredObject) -> FoundObject:
    return FoundObject(
        name=stored.name, generation=stored.generation, size=stored.size, sha256=stored.metadata.get("sha256")
    )


def _messages(info: SessionInfo | None, objects: _Objects, order: Order) -> int:
    """How many messages the purge would remove; a message that is both in Redis and in the archive counts once."""
    live, archived_of_live = (info.message_count, info.archived_count) if info else (0, 0)
    if order.scope is Scope.LIVE:
        return live
    epochs: dict[int, int] = {}
    for name, _ in objects:
        if isinstance(name, SegmentName):
            epochs[name.epoch] = max(epochs.get(name.epoch, 0), name.stop)
    archived = sum(epochs.values())
    if info:  # an upload that was not committed has more of the live messages than Redis knows
        archived_of_live = max(archived_of_live, info.restored_count + epochs.get(info.epoch, 0))
    return archived if order.scope is Scope.ARCHIVE else archived + max(live - archived_of_live, 0)
