"""Whose archive it is: the namespace of the one deployment whose sessions it has, written down at its first use.

Session ids of two deployments may be the same, and their objects would get the same names.
"""

from __future__ import annotations

import io

from torpor.worker.archive import names
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.errors import ArchiveConflict, ArchiveTaken


def take(archive: ArchiveStore, namespace: str) -> None:
    """Write down that the archive is this deployment's; raises ArchiveTaken where it is another one's. Repeatable."""
    written = namespace.encode()
    try:
        archive.put(names.DEPLOYMENT, io.BytesIO(written), len(written), metadata={})
    except ArchiveConflict as exc:
        raise _taken(archive, namespace) from exc


def is_taken(archive: ArchiveStore, namespace: str) -> bool:
    """Is the archive this deployment's? False where it is nobody's yet; raises ArchiveTaken, and ObjectNotFound."""
    for stored in archive.list(names.DEPLOYMENT):
        with archive.open(stored) as body:
            if body.read() != namespace.encode():
                raise _taken(archive, namespace)
        return True
    return False


def _taken(archive: ArchiveStore, namespace: str) -> ArchiveTaken:
    return ArchiveTaken(
        f"{archive.url} is the archive of another namespace than {namespace!r}; "
        "give each deployment a prefix of its own"
    )
