"""Whose archive it is: the id and the namespace of a deployment, which are in the archive since its first use.

The archive has one object for each id that the deployment has had; the last one counts. An object is written once, so
of two who write the next one at the same time, one succeeds. Older versions know only an object with the namespace.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

from torpor.worker.archive import names
from torpor.worker.archive.stores import ArchiveStore, StoredObject
from torpor.worker.errors import ArchiveConflict, ArchiveCorrupt, ArchiveTaken

# More than any identity has; whoever can write to the archive must not fill our memory.
_MOST_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ArchiveIdentity:
    """Which deployment an archive belongs to: its namespace, its id, and the ids that it had before, oldest first."""

    url: str
    namespace: str | None = None
    deployment: str | None = None
    former: Sequence[str] = ()
    number: int = 0


def read(archive: ArchiveStore) -> ArchiveIdentity:
    """The identity of an archive: one listing and one read. Raises ArchiveCorrupt."""
    stored = list(archive.list(names.IDENTITIES))
    if not stored:
        return ArchiveIdentity(archive.url, _namespace(archive))
    with archive.open(stored[-1]) as body:
        text = body.read(_MOST_BYTES)
    try:
        written = json.loads(text)
        number = names.identity_number(stored[-1].name)
        return ArchiveIdentity(
            archive.url, written["namespace"], written["deployment"], tuple(written["former"]), number
        )
    except (ValueError, LookupError, TypeError) as exc:
        raise ArchiveCorrupt(f"{archive.url}/{stored[-1].name} is damaged: {type(exc).__name__}") from exc


def write(archive: ArchiveStore, before: ArchiveIdentity, namespace: str, deployment: str) -> None:
    """Make `deployment` the archive's id after the one `before`; raises ArchiveConflict if somebody else was faster.

    Raises ArchiveTaken too. Repeatable.
    """
    take(archive, namespace)
    former = [*before.former, *([before.deployment] if before.deployment else [])]
    written = {"deployment": deployment, "namespace": namespace, "former": former}
    body = json.dumps(written, indent=1).encode() + b"\n"
    archive.put(names.identity_name(before.number + 1), io.BytesIO(body), len(body), metadata={})


def take(archive: ArchiveStore, namespace: str) -> None:
    """Write the namespace down for older versions; raises ArchiveTaken if it is another one's. Repeatable."""
    written = namespace.encode()
    try:
        archive.put(names.DEPLOYMENT, io.BytesIO(written), len(written), metadata={})
    except ArchiveConflict as exc:
        raise taken(archive.url, namespace) from exc


def is_used(archive: ArchiveStore) -> bool:
    """True if the archive has more than its identity."""
    return not all(_is_identity(stored) for stored in archive.list(f"{names.ROOT}/"))


def taken(url: str, namespace: str) -> ArchiveTaken:
    """The error for an archive of another namespace."""
    return ArchiveTaken(
        f"{url} is the archive of another namespace than {namespace!r}; give each deployment a prefix of its own"
    )


def _is_identity(stored: StoredObject) -> bool:
    return stored.name in (names.DEPLOYMENT, names.PROBE) or stored.name.startswith(names.IDENTITIES)


def _namespace(archive: ArchiveStore) -> str | None:
    for stored in archive.list(names.DEPLOYMENT):
        with archive.open(stored) as body:
            return body.read(_MOST_BYTES).decode(errors="replace")
    return None
