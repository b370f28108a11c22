"""Where purges stand, and the receipts in the archive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from heapq import nlargest
from typing import TypeVar

from torpor.worker.archive import documents, names
from torpor.worker.archive.documents import Document, text_of
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import inventory, orders
from torpor.worker.erasure.inventory import Tally
from torpor.worker.erasure.order import Order, check_id
from torpor.worker.erasure.receipt import InventoryDigest, PurgeState, Receipt, Remainder
from torpor.worker.errors import ArchiveConflict, ArchiveRefused, DocumentDamaged, PurgeNotFound

D = TypeVar("D", bound=Document)


class Standing(Document):
    """Where a purge stands: what it has found up to now, and its receipt once it is finished."""

    purge: str
    state: PurgeState
    order: Order
    found: Tally
    error: str | None = None
    receipt: Receipt | None = None

    @property
    def removed(self) -> Tally:
        """What was removed, by the receipt; before there is one, what was found."""
        return self.receipt.removed if self.receipt else self.found


def standing(services: Services, purge: str) -> Standing:
    """Where a purge stands; raises InvalidArgument, PurgeNotFound and DocumentDamaged."""
    check_id(purge)
    with suppress(PurgeNotFound):
        return _finished(services, purge)
    try:
        order = orders.read(services, purge)
    except PurgeNotFound:
        with suppress(PurgeNotFound):
            return _finished(services, purge)  # since the first look
        raise PurgeNotFound(f"there is no purge {purge!r}") from None
    found = [inventory.tally_of(stored) for stored in inventory.written(services, purge)]
    running, error = services.sessions.purge_progress(purge)
    state = PurgeState.RUNNING if running or found else PurgeState.QUEUED
    return Standing(
        purge=purge, state=PurgeState.FAILED if error else state, order=order, found=sum(found, Tally()), error=error
    )


def _finished(services: Services, purge: str) -> Standing:
    receipt = read(services, purge)
    order = Order.model_validate(receipt.fields())
    return Standing(purge=purge, state=receipt.state, order=order, found=receipt.found, receipt=receipt)


def unfinished(services: Services, damaged: Callable[[DocumentDamaged], None]) -> Iterator[Standing]:
    """The purges that have no receipt yet. Calls `damaged` for each one whose documents can't be read, and goes on."""
    for found in _readable(partial(standing, services), orders.open_orders(services), damaged):
        if found.receipt is None:
            yield found


def is_written(services: Services, purge: str) -> bool:
    """True if a purge has its receipt."""
    return orders.ORDERS.is_finished(services.archive, purge)


def receipts(services: Services, damaged: Callable[[DocumentDamaged], None]) -> Iterator[Receipt]:
    """All receipts, oldest first if the purge ids are Torpor's own. Calls `damaged` as `unfinished` does."""
    return _readable(partial(read, services), finished(services), damaged)


def _readable(
    reading: Callable[[str], D], purges: Iterable[str], damaged: Callable[[DocumentDamaged], None]
) -> Iterator[D]:
    for purge in purges:
        try:
            yield reading(purge)
        except DocumentDamaged as error:
            damaged(error)
        except PurgeNotFound:
            pass  # it was finished, or its receipt deleted, since it was listed


def finished(services: Services) -> Iterator[str]:
    """The purges that have a receipt."""
    for stored in services.archive.list(names.PURGES.work):
        purge = names.PURGES.job_of(stored.name)
        if stored.name == names.PURGES.result(purge):
            yield purge


def latest(services: Services, most: int, *, before: str | None = None) -> list[str]:
    """The last purges that have a receipt, newest first, of those that come `before` another one.

    Holds `most` ids, and reads the names of all.
    """
    return nlargest(most, (each for each in finished(services) if before is None or each < before))


def read(services: Services, purge: str) -> Receipt:
    """The receipt of a purge; raises PurgeNotFound and DocumentDamaged."""
    with orders.of_purges():
        return orders.ORDERS.finished(services.archive, purge, Receipt)


def content(services: Services, purge: str) -> bytes:
    """The receipt of a purge as the archive has it; raises PurgeNotFound and DocumentDamaged."""
    name = names.PURGES.result(check_id(purge))
    for stored in services.archive.list(name):
        if stored.name == name:
            return documents.content(services.archive, stored)
    raise PurgeNotFound(f"there is no receipt of purge {purge!r}")


def write(services: Services, order: Order, removed: Tally, kept: Remainder) -> None:
    """Write a purge's receipt, once: a receipt that exists stays as it is."""
    now = services.sessions.redis_time()
    identity = services.sessions.identity()
    inventories = list(inventory.written(services, order.id))
    receipt = Receipt(
        **order.fields(),
        state=PurgeState.BLOCKED if kept else PurgeState.COMPLETE,
        finished_at=now,
        namespace=services.settings.namespace,
        deployment=identity.deployment,
        redis=identity.redis,
        archive=services.archive.url,
        found=sum(map(inventory.tally_of, inventories), Tally()),
        removed=removed,
        inventories=[
            InventoryDigest(object=stored.name, sha256=stored.metadata.get("sha256")) for stored in inventories
        ],
        kept=kept,
        late_writes_refused_for_seconds=services.settings.tombstone_seconds,
        recoverable_until=_recoverable_until(services, removed, now),
    )
    with suppress(ArchiveConflict):
        documents.put(services.archive, names.PURGES.result(order.id), receipt)


def _recoverable_until(services: Services, removed: Tally, now: datetime) -> str | None:
    """Until when an administrator of the bucket can bring deleted objects back (soft delete)."""
    if not removed.objects:
        return None
    try:
        safeguards = services.archive.safeguards()
    except ArchiveRefused:
        return "unknown: the bucket's settings may not be read"
    seconds = safeguards.soft_delete_seconds if safeguards else 0
    return text_of(now + timedelta(seconds=seconds)) if seconds else None
