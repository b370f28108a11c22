"""Where transcripts are archived: the protocol that all archive stores share."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in the archive. `generation` grows with each object of the store that is created later."""

    name: str
    size: int
    generation: int
    metadata: Mapping[str, str] = field(default_factory=dict)


def unpacks_to(body: BinaryIO, sha256: str | None) -> bool:
    """Is this the SHA-256 of what gzip has packed in `body`? None stands for what is no transcript."""
    digest = hashlib.sha256()
    try:
        with gzip.GzipFile(fileobj=body) as unpacked:
            while chunk := unpacked.read(1024 * 1024):
                digest.update(chunk)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return False
    return digest.hexdigest() == sha256


class ArchiveStore(Protocol):
    """Immutable objects by name. Names are relative to the store's prefix. Safe to share among threads.

    All raise ArchiveUnavailable for what may pass, a missing bucket and refused credentials included.
    """

    @property
    def url(self) -> str:
        """The store's URL, `gs://bucket/prefix` or `file:///path`."""

    def put(
        self,
        name: str,
        body: BinaryIO,
        size: int,
        *,
        metadata: Mapping[str, str],
        custom_time: datetime | None = None,
    ) -> StoredObject:
        """Create an object from `body`, read from its start, and return once it is verified to be stored.

        Create-only. An object of this name with the same content is success, whoever wrote it: a retry, another
        worker, an upload whose reply was lost; so is one that unpacks to the `sha256` of the metadata, for another zlib
        packs the same transcript otherwise. Raises ArchiveConflict where its content differs, and ArchiveCorrupt where
        the store does not hold what was sent.
        """

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """The objects whose names begin with `prefix`, in the order of their names. Sees every finished put."""

    def open(self, stored: StoredObject) -> AbstractContextManager[BinaryIO]:
        """The bytes of an object that `list` gave, as a stream; raises ObjectNotFound on entry or on a read."""

    def delete(self, name: str) -> bool:
        """Delete an object; False where there is none (any more). Raises ArchiveRefused where it may not."""

    def check(self) -> None:
        """Raise ArchiveUnavailable, saying what to do, unless the store can be listed."""
