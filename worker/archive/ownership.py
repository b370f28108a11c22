"""The owner of an archive: one deployment, whose namespace is written down in the archive at its first use.

Two deployments may have sessions of the same id, and their objects would have the same names.
"""

from __future__ import annotations

import io

from torpor.worker.archive import names
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.errors import ArchiveConflict, ArchiveTaken


def take(archive: ArchiveStore, namespace: str) -> None:
    """Write down that the archive is this deployment's; raises ArchiveTaken if it is another one's. Repeatable."""
    written = namespace.encode()
    try:
        archive.put(names.DEPLOYMENT, io.BytesIO(written), len(written), metadata={})
    except ArchiveConflict as exc:
        raise _taken(archive, namespace) from exc


def is_taken(archive: ArchiveStore, namespace: str) -> bool:
    """True if the archive is this deployment's, False if it is nobody's yet. Raises ArchiveTaken and ObjectNotFound."""
    for stored in archive.list(names.DEPLOYMENT):
        with archive.open(stored) as body:
            if body.read(len(namespace) + 1) != namespace.encode():
                raise _taken(archive, namespace)
        return True
    return False


def _taken(archive: ArchiveStore, namespace: str) -> ArchiveTaken:
    return ArchiveTaken(
        f"{archive.url} is the archive of another namespace than {namespace!r}; "
        "give each deployment a prefix of its own"
    )
