"""The doctor's look at the archive: what Redis has lost of it, damaged objects, and purges that nobody carries out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torpor.worker.archive.stores import ROOT, StoredObject
from torpor.worker.deployment import catalog
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveUnavailable
from torpor.worker.ops import damaged_objects, forgotten_purges
from torpor.worker.ops.finding import Ailment, Finding
from torpor.worker.ops.reconciling import ReconcileOutcome, reconcile
from torpor.worker.retention import lost_holds


def examine(services: Services, *, repair: bool) -> Iterator[Finding]:
    """What a look at the archive finds. Stops at the first request that it does not answer: each takes its time."""
    try:
        for batch in catalog.stored_in_batches(services):
            yield from compare(services, batch, repair=repair)
        yield from damaged(services)
        yield from forgotten(services)
    except ArchiveUnavailable as error:
        yield unexamined("not everything", str(error))


def unexamined(examined: str, why: str) -> Finding:
    """The finding that only what was `examined` of the archive is known, and `why`."""
    detail = f"{examined} there was compared with Redis and searched for damage: {why}"
    return Finding(None, Ailment.UNEXAMINED, detail=detail)


def compare(services: Services, stored: Sequence[tuple[str, list[StoredObject]]], *, repair: bool) -> Iterator[Finding]:
    """Compare sessions in the archive with Redis: only a Redis that has lost its last writes lacks something."""
    yield from _lost_holds(services, stored, repair=repair)
    for each in reconcile(services, stored, dry_run=not repair):
        left = each.outcome in (ReconcileOutcome.UNCLEAR, ReconcileOutcome.BUSY)
        detail = each.detail or f"{each.outcome}: Redis drops {each.dropped:,} and keeps {each.kept:,} messages"
        yield Finding(each.session_id, Ailment.BEHIND, repair and not left, detail)


def _lost_holds(
    services: Services, batch: Sequence[tuple[str, list[StoredObject]]], *, repair: bool
) -> Iterator[Finding]:
    found = lost_holds.find(services, batch)
    refused = lost_holds.put_back(services, found) if repair else {}
    stored = dict(batch)
    again = lost_holds.find(services, [(each.session_id, stored[each.session_id]) for each in found])
    left = {each.session_id for each in again}
    for each in found:
        whose = [*(["the session's own"] if each.own else []), *(f"owner {owner}" for owner in sorted(each.owners))]
        stays = repair and each.session_id in left
        why = str(refused.get(each.session_id, "the session was purged, and its objects stay"))
        detail = "; ".join([*whose, *([why] if stays else [])])
        yield Finding(each.session_id, Ailment.HOLD_LOST, repair and not stays, detail)


def damaged(services: Services, prefix: str = ROOT) -> Iterator[Finding]:
    """The objects that are damaged, of all or of those whose names begin with a prefix."""
    for session_id, damage in damaged_objects.find(services, prefix):
        yield Finding(session_id, Ailment.OBJECT_DAMAGED, detail=damage)


def forgotten(services: Services) -> Iterator[Finding]:
    """The orders of purges that nobody carries out."""
    for order in forgotten_purges.find(services):
        detail = f"ordered at {order.requested_at:%Y-%m-%d %H:%M:%S}: torpor purge --resume {order.id}"
        yield Finding(None, Ailment.PURGE_FORGOTTEN, detail=detail)
