"""The probe: a small object that tells a session's own failure from one that every session meets."""

from __future__ import annotations

import hashlib
import io
from contextlib import suppress

from torpor.worker.archive import names
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.errors import ArchiveRefused, ArchiveUnavailable, ObjectNotFound

_CONTENT = b"torpor writes, reads and deletes this object to see whether the archive works\n"


def probe(archive: ArchiveStore) -> None:
    """Write, read and delete a small object; raises ArchiveUnavailable unless that succeeds.

    Several probes at once share the object. One that a retention keeps is found again by the next probe.
    """
    try:
        _write_and_read(archive)
    except ArchiveUnavailable:
        raise
    except Exception as exc:
        known = str(exc) or type(exc).__name__
        raise ArchiveUnavailable(f"{archive.url} fails for a small test object too: {known}") from exc


def _write_and_read(archive: ArchiveStore) -> None:
    metadata = {"sha256": hashlib.sha256(_CONTENT).hexdigest()}
    stored = archive.put(names.PROBE, io.BytesIO(_CONTENT), len(_CONTENT), metadata=metadata)
    with suppress(ObjectNotFound), archive.open(stored) as body:  # another probe may have deleted it
        if body.read(len(_CONTENT) + 1) != _CONTENT:
            raise ArchiveUnavailable(f"{archive.url} gives back other bytes than it was sent")
    with suppress(ArchiveRefused):
        archive.delete(stored)
