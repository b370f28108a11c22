"""Where transcripts are archived: the protocol that all archive stores share."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in the archive. `generation` grows with each object of the store that is created later.

    `custom_time` is when its retention in the archive ends and it may be expired, `retained_until` the moment before
    which the store refuses to delete it. One that is `held` can't be deleted until the hold is released. What is not
    `current` has been deleted or replaced and is kept nevertheless.
    """

    name: str
    size: int
    generation: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    custom_time: datetime | None = None
    held: bool = False
    retained_until: datetime | None = None
    created: datetime | None = None
    current: bool = True


@dataclass(frozen=True, slots=True)
class Safeguards:
    """What a bucket is set up to do with the archive, whatever Torpor does.

    `public` tells whether its IAM policy lets everybody in; None where the policy may not be read.
    `soft_delete_seconds` is how long deleted objects can be brought back, `retention_seconds` how long new ones can't
    be deleted; 0 is not at all. `lifecycle` has the bucket's rules as Cloud Storage gives them, and `expires` tells
    whether one of them deletes transcripts whose custom time has passed.

    Source: https://cloud.google.com/storage/docs/json_api/v1/buckets
    """

    location: str
    uniform_access: bool
    public_access_prevented: bool
    public: bool | None
    soft_delete_seconds: int
    versioning: bool
    retention_seconds: int
    retention_locked: bool
    held_by_default: bool
    lifecycle: Sequence[Mapping[str, Any]]
    expires: bool


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
        held: bool = False,
    ) -> StoredObject:
        """Create an object from `body`, read from its start, and return once it is verified to be stored.

        Create-only; an object that is to be held never exists without its hold. An object of this name with the same
        content is success, whoever wrote it: a retry, another worker, an upload whose reply was lost; so is one that
        unpacks to the `sha256` of the metadata, for another zlib packs the same transcript otherwise. It is amended by
        what it is asked for here. Raises ArchiveConflict where its content differs, and ArchiveCorrupt where the store
        does not hold what was sent.
        """

    def list(self, prefix: str, *, generations: bool = False) -> Iterator[StoredObject]:
        """The objects whose names begin with `prefix`, in the order of their names. Sees every finished put.

        With `generations` also those that are not current: what a versioned bucket keeps of deleted objects, or a crash
        has left of one. Never holds all of them in memory.
        """

    def open(self, stored: StoredObject) -> AbstractContextManager[BinaryIO]:
        """The bytes of an object that `list` gave, as a stream; raises ObjectNotFound on entry or on a read."""

    def delete(self, stored: StoredObject) -> bool:
        """Delete this very generation for good; False where there is none (any more).

        Raises ArchiveRefused where a hold, a retention or a missing permission forbids it.
        """

    def amend(self, stored: StoredObject, *, custom_time: datetime | None = None, held: bool | None = None) -> None:
        """Move an object's custom time to a later moment; set or release its hold. Repeatable.

        A custom time that is not later than what the object has changes nothing: Cloud Storage lets it only grow.
        Raises ObjectNotFound, and ArchiveRefused for a missing permission.
        """

    def expire(self, now: datetime) -> int:
        """Delete the objects whose custom time has passed and that are not held; returns how many. Repeatable.

        Does nothing where the store does so by itself, as a bucket does by its lifecycle rule.
        """

    def safeguards(self) -> Safeguards | None:
        """What the place is set up to do, None for a folder; raises ArchiveRefused, saying what permission to grant."""

    def apply_lifecycle(self) -> bool:
        """Make the place expire objects by itself; True where that was changed. Repeatable; False for a folder.

        Every other rule of a bucket stays. Raises ArchiveRefused, saying which permission to grant.
        """

    def check(self) -> None:
        """Raise ArchiveUnavailable, saying what to do, unless the store can be listed."""
