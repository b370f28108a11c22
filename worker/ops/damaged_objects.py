"""Damaged objects: those of the archive that a restore, a purge or a command could not read."""

from __future__ import annotations

from collections.abc import Iterator

from torpor.worker.archive import names, segment_metadata
from torpor.worker.archive.stores import ROOT, StoredObject
from torpor.worker.audit import reading
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import inventory, orders, receipts
from torpor.worker.errors import DocumentDamaged, ObjectNotFound, PurgeNotFound


def find(services: Services, prefix: str = ROOT) -> Iterator[tuple[str | None, str]]:
    """Walk over the archive, or what begins with a prefix; yields the session and what is wrong with an object.

    The session is None if the object is no session's.

    Reads the metadata of all objects, each order and receipt, and each entry of the audit trail. Only a restore reads
    the content of a segment, and only its purge that of an inventory. Raises ArchiveUnavailable.
    """
    for stored in services.archive.list(prefix):
        damage = stored.damage or segment_metadata.damage_of(services.archive, stored) or _unreadable(services, stored)
        if damage:
            yield names.stored_session(names.folder_of(stored.name), [stored.metadata]), damage


def _unreadable(services: Services, stored: StoredObject) -> str | None:
    """Why a document of a purge or of the audit trail can't be read.

    None if it can, for every other object, and if it is gone.
    """
    purge = names.PURGES.job_of(stored.name)
    try:
        if stored.name == names.PURGES.order(purge):
            orders.read(services, purge)
        elif stored.name == names.PURGES.result(purge):
            receipts.read(services, purge)
        elif stored.name.startswith(names.PURGES.folder(purge)) and stored.name.endswith(".gz"):
            inventory.tally_of(stored)
        elif stored.name.startswith(names.AUDIT):
            reading.check(services, stored)
    except DocumentDamaged as error:
        return str(error)
    except (PurgeNotFound, ObjectNotFound):
        return None
    return None
