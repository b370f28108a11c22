"""Whose archive it is: the id and the namespace of a deployment, which are in the archive since its first use.

The archive has one object for each id that the deployment has had; the last one counts. An object is written once, so
of two who write the next one at the same time, one succeeds. Older versions know only an object with the namespace.

The metadata of the last object has the archive's token of the fence (see torpor.worker.deployment.fence).
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel, ValidationError

from torpor.worker.archive import names
from torpor.worker.archive.stores import ROOT, ArchiveStore, StoredObject
from torpor.worker.errors import ArchiveConflict, ArchiveCorrupt, ArchiveTaken

# More than any identity has; whoever can write to the archive must not fill our memory.
_MOST_BYTES = 64 * 1024
# The entries of the object's metadata.
_TOKEN, _MOVED_AT = "fence", "fence_moved_at"


class _Written(BaseModel):
    """The content of an identity's object."""

    deployment: str
    namespace: str
    former: list[str]
    forked: bool = False


@dataclass(frozen=True, slots=True)
class ArchiveFence:
    """The archive's token of the fence, and when it was moved there, by the clock of the Redis that it belongs to."""

    token: str
    moved_at: datetime | None


@dataclass(frozen=True, slots=True)
class ArchiveIdentity:
    """Which deployment an archive belongs to: its namespace, its id, and the ids that it had before, oldest first.

    `forked` is true if a fork gave it its id. `fence` is None until a worker has moved the fence. `stored` is the
    object that says all this.
    """

    url: str
    namespace: str | None = None
    deployment: str | None = None
    former: Sequence[str] = ()
    forked: bool = False
    number: int = 0
    fence: ArchiveFence | None = None
    stored: StoredObject | None = None


def read(archive: ArchiveStore) -> ArchiveIdentity:
    """The identity of an archive: one listing and one read. Raises ArchiveCorrupt."""
    numbered = [
        (number, stored)
        for stored in archive.list(names.IDENTITIES)
        if (number := names.identity_number(stored.name)) is not None
    ]
    if not numbered:
        return ArchiveIdentity(archive.url, _namespace(archive))
    number, last = numbered[-1]
    written = _written(archive, last)
    return ArchiveIdentity(
        archive.url,
        written.namespace,
        written.deployment,
        written.former,
        written.forked,
        number,
        _fence(last),
        last,
    )


def write(
    archive: ArchiveStore, before: ArchiveIdentity, namespace: str, deployment: str, *, forked: bool = False
) -> None:
    """Make `deployment` the archive's id after the one `before`; raises ArchiveConflict if somebody else was faster.

    Raises ArchiveTaken too. Repeatable.
    """
    take(archive, namespace)
    former = [*before.former, *([before.deployment] if before.deployment else [])]
    written: dict[str, object] = {"deployment": deployment, "namespace": namespace, "former": former}
    if forked:
        written["forked"] = True
    body = json.dumps(written, indent=1).encode() + b"\n"
    archive.put(names.identity_name(before.number + 1), io.BytesIO(body), len(body), metadata={})


def move_fence(archive: ArchiveStore, before: ArchiveIdentity, token: str, moved_at: datetime) -> bool:
    """Make `token` the archive's token; False if the identity has changed since it was read.

    Raises ArchiveRefused if the objects may not be amended.
    """
    if before.stored is None:
        return False
    return archive.annotate(before.stored, {_TOKEN: token, _MOVED_AT: moved_at.isoformat()})


def take(archive: ArchiveStore, namespace: str) -> None:
    """Write the namespace down for older versions; raises ArchiveTaken if it is another one's. Repeatable."""
    written = namespace.encode()
    try:
        archive.put(names.DEPLOYMENT, io.BytesIO(written), len(written), metadata={})
    except ArchiveConflict as exc:
        raise taken(archive.url, namespace) from exc


def is_used(archive: ArchiveStore) -> bool:
    """True if the archive has more than its identity."""
    return not all(_is_identity(stored) for stored in archive.list(ROOT))


def taken(url: str, namespace: str) -> ArchiveTaken:
    """The error for an archive of another namespace."""
    return ArchiveTaken(
        f"{url} is the archive of another namespace than {namespace!r}; give each deployment a prefix of its own"
    )


def _is_identity(stored: StoredObject) -> bool:
    return stored.name in (names.DEPLOYMENT, names.PROBE) or stored.name.startswith(names.IDENTITIES)


def _written(archive: ArchiveStore, stored: StoredObject) -> _Written:
    if stored.damage is not None:
        raise ArchiveCorrupt(stored.damage)  # it may hide the fence
    with archive.open(stored) as body:
        text = body.read(_MOST_BYTES)
    try:
        return _Written.model_validate_json(text)
    except ValidationError as exc:
        fault = exc.errors(include_url=False)[0]
        raise ArchiveCorrupt(f"{archive.url}/{stored.name} is damaged: {fault['msg']}") from exc


def _fence(stored: StoredObject) -> ArchiveFence | None:
    if _TOKEN not in stored.metadata:
        return None
    moved_at = None
    with suppress(KeyError, ValueError, OverflowError):  # somebody has edited it: the token counts all the same
        moved_at = datetime.fromisoformat(stored.metadata[_MOVED_AT]).astimezone(UTC)
    return ArchiveFence(stored.metadata[_TOKEN], moved_at)


def _namespace(archive: ArchiveStore) -> str | None:
    for stored in archive.list(names.DEPLOYMENT):
        with archive.open(stored) as body:
            return body.read(_MOST_BYTES).decode(errors="replace")
    return None
