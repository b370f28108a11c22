"""Purges: those that are not finished, the receipts of the others, and one with its progress, receipt and downloads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import PurePosixPath

from starlette.responses import Response

from torpor.history.protocol import check_owner
from torpor.worker.audit.entry import Subject
from torpor.worker.console.carrying_out import carry_out_purge
from torpor.worker.console.streamed import Streamed
from torpor.worker.console.visit import Visit
from torpor.worker.deployment import identity
from torpor.worker.erasure import inventory, receipts
from torpor.worker.erasure.order import check_id
from torpor.worker.erasure.receipt import PurgeState, Receipt
from torpor.worker.erasure.receipts import Standing
from torpor.worker.errors import DocumentDamaged, PurgeNotFound

_PAGE = 50
# A search for an owner's purges reads so many receipts for a page.
_SEARCHED = 200
# A page shows so many purges that are not finished, and names so many things that were kept.
_OPEN = 100
_NAMED = 100


def every(visit: Visit) -> Response:
    """The purges that are not finished, then the receipts, newest first; with an owner, those of this owner."""
    owner = visit.given("owner", "") or None
    before = visit.given("before", "") or None
    if owner is not None:
        check_owner(owner)
    most = _SEARCHED if owner else _PAGE
    looked_at = receipts.latest(visit.services, most + 1, before=before and check_id(before))
    page = looked_at[:most]
    query = {"owner": owner} if owner else {}
    return visit.page(
        "purges.html",
        owner=owner,
        unfinished=[] if before else list(islice(_unfinished(visit, owner), _OPEN)),
        receipts=[each for each in _read(visit, page) if owner in (None, each.owner)],
        searched=len(page) if owner else 0,
        first=visit.path("/purges", **query),
        is_first=before is None,
        following=visit.path("/purges", before=page[-1], **query) if len(page) < len(looked_at) else None,
    )


def one(visit: Visit) -> Response:
    """A purge: its progress, or its receipt. With `part`, only what it replaces of itself while it is not finished."""
    standing, is_part = receipts.standing(visit.services, visit.given("id")), bool(visit.given("part", ""))
    receipt = standing.receipt
    return visit.page(
        "purge_now.html" if is_part else "purge.html",
        is_part=is_part,
        needs_reason=visit.services.settings.require_reason,
        purge=standing,
        receipt=receipt,
        is_blocked=standing.state is PurgeState.BLOCKED,
        digest=_digest(visit, standing) if receipt else None,
        inventories=[(each, _file_name(receipt.id, each.object)) for each in receipt.inventories] if receipt else [],
        named=receipt.kept.named[:_NAMED] if receipt else [],
    )


def resume(visit: Visit) -> Response:
    """Go on with a purge now, and not at the next sweep."""
    purge, reason = check_id(visit.given("id")), visit.optional_reason()
    services = visit.services
    identity.require(services.sessions, services.archive)
    with ExitStack() as stack:
        count = stack.enter_context(visit.audited(reason, Subject(purge=purge)))
        count.note(0)
        if receipts.standing(services, purge).receipt:  # raises PurgeNotFound
            said = "Nothing was done: it is finished already."
        elif carry_out_purge(services, visit.background, purge, count, stack, resumes=True):
            said = "The console goes on with it."
        else:
            said = "The console has enough work: the workers go on with it."
    return visit.go_to(visit.path("/purge", id=purge), said)


def download_receipt(visit: Visit) -> Response:
    """The receipt as the archive has it."""
    purge = check_id(visit.given("id"))
    text = receipts.content(visit.services, purge)
    return Response(text, media_type="application/json", headers=_named(_receipt_name(purge)))


def download_inventory(visit: Visit) -> Response:
    """The text of an inventory, whose SHA-256 the receipt has."""
    purge, name = check_id(visit.given("id")), visit.given("object")
    stored = next((each for each in inventory.written(visit.services, purge) if each.name == name), None)
    if stored is None:
        raise PurgeNotFound(f"purge {purge} has no inventory of this name")
    text = inventory.text(visit.services, stored)
    first = next(text, b"")  # a damaged one is an error before the download begins
    return Streamed(chain([first], text), text.close, "application/jsonl", _named(_file_name(purge, name)))


def _named(file: str) -> dict[str, str]:
    """The header by which browsers write a file of this name."""
    return {"Content-Disposition": f'attachment; filename="{file}"'}


def _receipt_name(purge: str) -> str:
    return f"{purge}-receipt.json"


def _file_name(purge: str, object_name: str) -> str:
    """The name of the file in which an inventory is downloaded: unpacked, as its digest is."""
    return f"{purge}-{PurePosixPath(object_name).name.removesuffix('.gz')}"


def _digest(visit: Visit, standing: Standing) -> str:
    return hashlib.sha256(receipts.content(visit.services, standing.purge)).hexdigest()


def _unfinished(visit: Visit, owner: str | None) -> Iterator[Standing]:
    for each in receipts.unfinished(visit.services, visit.leave_out):
        if owner in (None, each.order.owner):
            yield each


def _read(visit: Visit, purges: Sequence[str]) -> Iterator[Receipt]:
    """The receipts of purges, and a warning for each one that can't be read."""

    def read(purge: str) -> Receipt | DocumentDamaged | None:
        try:
            return receipts.read(visit.services, purge)
        except DocumentDamaged as error:
            return error
        except PurgeNotFound:  # deleted since it was listed
            return None

    with ThreadPoolExecutor(visit.services.settings.concurrency) as pool:
        for found in pool.map(read, purges):
            if isinstance(found, DocumentDamaged):
                visit.leave_out(found)
            elif found:
                yield found
