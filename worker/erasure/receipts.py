"""Where purges stand, and the receipts of those that are finished: what was asked, found, removed, and left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from torpor.worker.archive import names
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import documents, inventory, orders
from torpor.worker.erasure.inventory import Tally
from torpor.worker.erasure.orders import Order
from torpor.worker.errors import ArchiveConflict, ArchiveRefused, DocumentDamaged, PurgeNotFound

# So many of what was left are named in a receipt; all of them are counted.
_NAMED = 1_000


class PurgeState(StrEnum):
    """Where a purge stands."""

    QUEUED = "queued"  # nobody has begun it
    RUNNING = "running"  # in work, or waiting for a worker's lease to end before the second look
    FAILED = "failed"  # it met an error and is tried again
    COMPLETE = "complete"  # a second look found nothing
    BLOCKED = "blocked"  # finished but for what may not be removed: ask again when it may


@dataclass(frozen=True, slots=True)
class Kept:
    """Something that a purge may not remove: a session under a legal hold, or an object that the archive keeps.

    `until` is when it may, where that is known.
    """

    session: str
    why: str
    object: str | None = None
    until: datetime | None = None


class Remainder:
    """What a purge may not remove: all of it counted, the first thousand named."""

    def __init__(self) -> None:
        self.sessions = 0
        self.objects = 0
        self.named: list[Kept] = []

    def add(self, kept: Kept) -> None:
        """Count it: a session as a whole, or an object."""
        self.sessions += kept.object is None
        self.objects += kept.object is not None
        if len(self.named) < _NAMED:
            self.named.append(kept)

    def __bool__(self) -> bool:
        return bool(self.named)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a purge stands. `found` is what it has found up to now; `receipt` is there once it is finished."""

    purge: str
    state: PurgeState
    order: dict[str, Any]
    found: Tally
    error: str | None = None
    receipt: dict[str, Any] | None = None


def standing(services: Services, purge: str) -> Standing:
    """Where a purge stands; raises InvalidArgument, PurgeNotFound and DocumentDamaged."""
    orders.check_id(purge)
    with suppress(PurgeNotFound):
        return _finished(services, purge)
    try:
        order = orders.read(services, purge).fields()
    except PurgeNotFound:
        with suppress(PurgeNotFound):
            return _finished(services, purge)  # by now
        raise PurgeNotFound(f"there is no purge {purge!r}") from None
    found = [inventory.tally_of(stored) for stored in inventory.written(services, purge)]
    running, error = services.sessions.purge_progress(purge)
    under_way = PurgeState.RUNNING if running or found else PurgeState.QUEUED
    state = PurgeState.FAILED if error else under_way
    return Standing(purge, state, order, sum(found, Tally()), error)


def unfinished(services: Services) -> Iterator[Standing]:
    """The purges that have no receipt yet; raises DocumentDamaged."""
    for purge in orders.open_orders(services):
        found = standing(services, purge)
        if found.receipt is None:
            yield found


def is_written(services: Services, purge: str) -> bool:
    """Has a purge its receipt?"""
    return any(services.archive.list(names.receipt_name(purge)))


def receipts(services: Services) -> Iterator[dict[str, Any]]:
    """All receipts, oldest first where the ids are Torpor's own."""
    for stored in services.archive.list(names.RECEIPTS):
        if stored.name == names.receipt_name(names.purge_of(stored.name)):
            yield documents.read(services.archive, stored.name)


def write(services: Services, order: Order, removed: Tally, kept: Remainder) -> None:
    """Write a purge's receipt, once: where it is there already, it stays as it is."""
    now = datetime.now(UTC)
    found = Tally()
    inventories = []
    for stored in inventory.written(services, order.id):
        found += inventory.tally_of(stored)
        inventories.append({"object": stored.name, "sha256": stored.metadata.get("sha256")})
    receipt = {
        **order.fields(),
        "state": PurgeState.BLOCKED if kept else PurgeState.COMPLETE,
        "finished_at": _text(now),
        "namespace": services.settings.namespace,
        "archive": services.archive.url,
        "found": asdict(found),
        "removed": asdict(removed),
        "inventories": inventories,
        "kept": {"sessions": kept.sessions, "objects": kept.objects, "named": [*map(_named, kept.named)]},
        "late_writes_refused_for_seconds": services.settings.tombstone_seconds,
        "recoverable_until": _recoverable(services, removed, now),
    }
    with suppress(ArchiveConflict):
        documents.put(services.archive, names.receipt_name(order.id), receipt)


def _finished(services: Services, purge: str) -> Standing:
    receipt = documents.read(services.archive, names.receipt_name(purge))
    try:
        order = orders.order_of(receipt, purge).fields()
        return Standing(purge, PurgeState(receipt["state"]), order, Tally(**receipt["found"]), None, receipt)
    except (LookupError, TypeError, ValueError) as exc:
        raise DocumentDamaged(f"the receipt of purge {purge} is damaged: {exc}") from exc


def _recoverable(services: Services, removed: Tally, now: datetime) -> str | None:
    """Until when an administrator of the bucket could bring deleted objects back (soft delete)."""
    if not removed.objects:
        return None
    try:
        safeguards = services.archive.safeguards()
    except ArchiveRefused:
        return "unknown: the bucket's settings may not be read"
    seconds = safeguards.soft_delete_seconds if safeguards else 0
    return _text(now + timedelta(seconds=seconds)) if seconds else None


def _named(kept: Kept) -> dict[str, Any]:
    until = None if kept.until is None else _text(kept.until)
    return {"session": kept.session, "object": kept.object, "why": kept.why, "until": until}


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
