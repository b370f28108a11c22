"""What a purge finds of sessions, in Redis and in the archive: written down before anything of it is removed."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Self

from torpor.history.protocol import LegalHold, SessionInfo, TorporError
from torpor.worker.archive import contents, names
from torpor.worker.archive.names import FloorName, SegmentName
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import documents
from torpor.worker.erasure.orders import Order, Scope
from torpor.worker.errors import DocumentDamaged


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of what was found or removed. `messages` are those of whole transcripts, `bytes` those of objects."""

    sessions: int = 0
    messages: int = 0
    objects: int = 0
    bytes: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.sessions + other.sessions,
            self.messages + other.messages,
            self.objects + other.objects,
            self.bytes + other.bytes,
        )

    def __sub__(self, other: Tally) -> Tally:
        return Tally(
            self.sessions - other.sessions,
            self.messages - other.messages,
            self.objects - other.objects,
            self.bytes - other.bytes,
        )


@dataclass(frozen=True, slots=True)
class FoundObject:
    """An object in the archive. `sha256` is that of the uncompressed transcript, None for what is none."""

    name: str
    generation: int
    size: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of one session where a purge removes it: in Redis, in the archive, or in both.

    `owner` is Redis's, `owners` has those of the archive too. `epoch` is the newest one seen, 0 for none.
    """

    session: str
    owner: str | None
    owners: Sequence[str]
    epoch: int
    in_redis: bool
    live_messages: int
    messages: int
    objects: Sequence[FoundObject]

    def __bool__(self) -> bool:
        return self.in_redis or bool(self.objects)

    @property
    def tally(self) -> Tally:
        """Its counts."""
        return Tally(1, self.messages, len(self.objects), sum(each.size for each in self.objects))

    @classmethod
    def of_line(cls, line: Mapping[str, Any]) -> Self:
        """From a line of an inventory; raises DocumentDamaged."""
        try:
            objects = [FoundObject(**each) for each in line["objects"]]
            return cls(**{**line, "objects": objects})
        except (TypeError, LookupError) as exc:
            raise DocumentDamaged(f"a line of an inventory is damaged: {exc}") from exc


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A session as a survey saw it, and the legal hold that keeps it. Epochs below `floor` must not come back.

    `last_active` is what Redis tells, or the archive, which is asked for a purge of idle sessions alone.
    """

    found: Found
    info: SessionInfo | None
    hold: LegalHold | None
    floor: int
    last_active: datetime | None


def survey(services: Services, pool: Executor, session_ids: Sequence[str], order: Order) -> list[Surveyed]:
    """What there is of sessions where the order removes them; two pipelines, and one listing a session.

    Raises what Redis answers for a session whose keys are not Torpor's.
    """
    sessions = services.sessions
    infos = [_info(each) for each in sessions.infos(session_ids)]
    listings = pool.map(lambda session_id: _objects(services, session_id, order), session_ids)
    seen = [_surveyed(*each, order) for each in zip(session_ids, infos, listings, strict=True)]
    holds = sessions.find_holds([(each.found.session, each.found.owners) for each in seen])
    return [replace(each, hold=hold) for each, hold in zip(seen, holds, strict=True)]


def write(services: Services, purge: str, number: int, founds: Sequence[Found]) -> None:
    """Write an inventory down, its counts in its metadata; raises ArchiveConflict where another worker has."""
    tally = sum((found.tally for found in founds), Tally())
    described = {name: str(count) for name, count in asdict(tally).items()}
    documents.put_lines(
        services.archive, names.inventory_name(purge, number), [asdict(found) for found in founds], described
    )


def note_removed(services: Services, purge: str, number: int) -> None:
    """Note that what an inventory lists was removed once. Repeatable."""
    services.archive.put(names.removed_name(purge, number), io.BytesIO(), 0, metadata={})


def is_removed(services: Services, purge: str, number: int) -> bool:
    """Was what an inventory lists removed once?"""
    return any(services.archive.list(names.removed_name(purge, number)))


def complete(services: Services, purge: str) -> None:
    """Note that a purge has listed all it is for. Repeatable."""
    services.archive.put(names.listed_name(purge), io.BytesIO(), 0, metadata={})


def is_complete(services: Services, purge: str) -> bool:
    """Has a purge listed all it is for?"""
    return any(services.archive.list(names.listed_name(purge)))


def written(services: Services, purge: str) -> Iterator[StoredObject]:
    """A purge's inventories, in order."""
    for stored in services.archive.list(names.receipts_of(purge)):
        if stored.name.endswith(".gz"):
            yield stored


def read(services: Services, stored: StoredObject) -> Iterator[Found]:
    """The sessions of an inventory, as a stream; raises DocumentDamaged."""
    return map(Found.of_line, documents.read_lines(services.archive, stored))


def tally_of(stored: StoredObject) -> Tally:
    """The counts of an inventory, without reading it; raises DocumentDamaged."""
    try:
        return Tally(**{name: int(stored.metadata[name]) for name in asdict(Tally())})
    except (KeyError, ValueError) as exc:
        raise DocumentDamaged(f"the metadata of {stored.name} is damaged: {exc}") from exc


def _info(seen: SessionInfo | TorporError | None) -> SessionInfo | None:
    if isinstance(seen, TorporError):
        raise seen
    return seen


def _objects(services: Services, session_id: str, order: Order) -> list[tuple[SegmentName | FloorName, StoredObject]]:
    if order.scope is Scope.LIVE:
        return []
    return [
        (name, stored)
        for stored in services.archive.list(names.session_prefix(session_id), generations=True)
        if (name := names.parse(session_id, stored.name))
    ]


def _surveyed(
    session_id: str,
    info: SessionInfo | None,
    objects: Sequence[tuple[SegmentName | FloorName, StoredObject]],
    order: Order,
) -> Surveyed:
    floor = max((name.epoch for name, stored in objects if isinstance(name, FloorName) and stored.current), default=0)
    buried = info is not None and info.purge is not None
    # The newest marker stays as long as the tombstone does, and with what is in Redis where that is not to go.
    kept = FloorName(floor) if buried or order.scope is Scope.ARCHIVE else None
    theirs = [stored for name, stored in objects if name != kept]
    in_redis = info is not None and not buried and order.scope is not Scope.ARCHIVE
    owners = {info.owner if info else None, order.owner, *(stored.metadata.get("owner") for stored in theirs)} - {None}
    found = Found(
        session=session_id,
        owner=info.owner if info else None,
        owners=sorted(map(str, owners)),
        epoch=max([info.epoch if info and not buried else 0, *(name.epoch for name, _ in objects)]),
        in_redis=in_redis,
        live_messages=info.message_count if info else 0,
        messages=_messages(info, objects, order),
        objects=[
            FoundObject(stored.name, stored.generation, stored.size, stored.metadata.get("sha256")) for stored in theirs
        ],
    )
    active = info.last_active if info is not None and not buried else None
    if active is None and objects and order.idle is not None:
        active = contents.last_active([stored for _, stored in objects])
    return Surveyed(found, info, None, max(floor, info.floor or 0) if info else floor, active)


def _messages(
    info: SessionInfo | None, objects: Sequence[tuple[SegmentName | FloorName, StoredObject]], order: Order
) -> int:
    """How many messages would go; those that are in Redis and in the archive count once."""
    live, safe = (info.message_count, info.archived_count) if info else (0, 0)
    if order.scope is Scope.LIVE:
        return live
    epochs: dict[int, int] = {}
    for name, _ in objects:
        if isinstance(name, SegmentName):
            epochs[name.epoch] = max(epochs.get(name.epoch, 0), name.stop)
    archived = sum(epochs.values())
    return archived if order.scope is Scope.ARCHIVE else archived + max(live - safe, 0)
