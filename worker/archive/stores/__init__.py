"""Where transcripts are archived: the protocol that all archive stores share."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO, Protocol

# The names of all objects of an archive begin so; a bucket's lifecycle rule is for them alone.
ROOT = "v1/"
# A custom time can't be removed. An object that is to be kept for ever after all gets this one.
NEVER = datetime(9999, 1, 1, tzinfo=UTC)
# An entry of an object's metadata: an earlier try to upload it had no answer, and may still arrive.
RETRIED = "retried"
# Entries of an object's metadata: since when (ms) it has been under a legal hold of its session, of its owner. Only an
# amendment removes them: a put may come from somebody who does not know of the hold.
HOLD_NOTES = ("session_hold", "owner_hold")
# Raises an error unless the caller may still change the object that it has looked at.
Confirm = Callable[[], None]


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in the archive. An object that is created later has a higher `generation`.

    Each change of its description raises its `metageneration`; content never changes within a generation.
    At `custom_time` its retention in the archive ends, and the store may delete it. Before `retained_until` the store
    refuses to delete it; while it is `held`, too. An object that is not `current` was deleted or replaced, and the
    store keeps it nevertheless. `damage` says why its content or its metadata can't be read: it then has no metadata,
    and may be held.
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
    metageneration: int = 0
    damage: str | None = None


@dataclass(frozen=True, slots=True)
class Safeguards:
    """The settings of a bucket that affect the archive, whatever Torpor does.

    `location`: None if the server does not say it, as emulators do. `public`: its IAM policy lets everybody in; None if
    we may not read the policy. `soft_delete_seconds`: for how long deleted objects can be brought back.
    `retention_seconds`: for how long new objects can't be deleted. 0 means not at all. `lifecycle`: the bucket's rules
    as Cloud Storage gives them. `expires`: one of them deletes transcripts whose custom time has passed.

    Source: https://cloud.google.com/storage/docs/json_api/v1/buckets
    """

    location: str | None
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


def unpacked_sha256(body: BinaryIO) -> str | None:
    """The SHA-256 of what `body` unpacks to; None if it is no complete gzip."""
    digest = hashlib.sha256()
    try:
        with gzip.GzipFile(fileobj=body) as unpacked:
            while chunk := unpacked.read(1024 * 1024):
                digest.update(chunk)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return None
    return digest.hexdigest()


def is_same(there: BinaryIO, recorded: str | None, ours: str | None) -> bool | None:
    """Compare an object whose bytes differ from ours, by the SHA-256 of what it unpacks to.

    True: it is the same transcript, which another zlib has packed. None: it is damaged, because it is not what its own
    metadata recorded. False: it is intact, and something else. An object without a SHA-256 is always something else.
    """
    if ours is None:
        return False
    found = unpacked_sha256(there)
    if found is None:
        return None
    return True if found == ours else False if recorded in (None, found) else None


class ArchiveStore(Protocol):
    """Immutable objects by name. Names are relative to the store's prefix. Safe to share among threads.

    All methods raise ArchiveUnavailable for errors that may pass, and ArchiveMisconfigured, a kind of it, for those
    that meet every request until someone changes a setting: a missing bucket or folder, refused credentials, billing.
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
        confirm: Confirm | None = None,
    ) -> StoredObject:
        """Create an object from `body`, read from its start, and return once it is verified to be stored.

        An object that is `held` never exists without its hold. If there is an object of this name with the same
        content, the put succeeds: a retry, another worker or an upload whose reply was lost has written it. The same
        content also means that the object unpacks to the `sha256` of the metadata, because another zlib packs the same
        transcript differently. The object then gets this metadata, this hold, and the later one of both custom times.
        The hold that it has and its HOLD_NOTES stay. An object that is damaged is replaced.

        Several attempts may put one object with other metadata: they give `confirm`. It is called after a look at an
        object that is there and before that is changed or replaced; if it has changed since the look, all of this
        happens again. The object gets a new metageneration even if nothing differs, so whoever meant to `discard` it
        can't do so any more.

        Raises ArchiveConflict if there is an object with other content, and ArchiveCorrupt if the stored object is not
        the one that was sent. That one is discarded.
        """

    def list(self, prefix: str, *, generations: bool = False) -> Iterator[StoredObject]:
        """The objects whose names begin with `prefix`, in the order of their names. Sees every finished put.

        With `generations`, also those that are not current: a versioned bucket keeps deleted objects, and a crash
        leaves a part of one. Never has all of them in memory. One that is damaged is listed as such, and never ends the
        listing.
        """

    def open(self, stored: StoredObject) -> AbstractContextManager[BinaryIO]:
        """The bytes of an object from `list`, as a stream; raises ObjectNotFound on entry or on a read.

        Raises ArchiveCorrupt for what is no object of its own, such as a link or a pipe in a folder.
        """

    def delete(self, stored: StoredObject) -> bool:
        """Delete this very generation for good; False if it does not exist (any more).

        Only for what nobody may rely on: objects below a floor, and documents that have served. Raises ArchiveRefused
        if a hold, a retention or a missing permission forbids it, or if damage may hide a hold.
        """

    def discard(self, stored: StoredObject) -> bool:
        """As `delete`, but only if nobody has changed the object since it was described, or has put it again.

        True if it is gone, False if somebody else may rely on it: leave it alone.
        """

    def amend(
        self,
        stored: StoredObject,
        *,
        custom_time: datetime | None = None,
        held: bool | None = None,
        entries: Mapping[str, str | None] | None = None,
    ) -> None:
        """Move an object's custom time to a later moment; set or release its hold; set `entries` of its metadata.

        Repeatable. An entry of None is removed, and the other entries stay.

        A custom time that is not later than the object's own changes nothing: Cloud Storage never lets it go back. A
        hold that is set or released replaces metadata that is damaged. Raises ObjectNotFound, ArchiveCorrupt, and
        ArchiveRefused if a permission is missing.
        """

    def annotate(self, stored: StoredObject, entries: Mapping[str, str]) -> bool:
        """Set entries of an object's metadata, but only if nobody has changed the object since it was described.

        False if somebody has, or if the request had done so itself and its reply was lost: look again. The other
        entries stay. Raises ObjectNotFound, and ArchiveRefused if a permission is missing.
        """

    def expire(self, now: datetime) -> int:
        """Delete the objects whose custom time has passed and that are not held; returns how many. Repeatable.

        Does nothing if the store does so by itself: a bucket has a lifecycle rule for it.
        """

    def safeguards(self) -> Safeguards | None:
        """The settings of the bucket, None for a folder; raises ArchiveRefused, which names the permission to grant."""

    def apply_lifecycle(self) -> bool:
        """Have the bucket expire objects by itself; False if it does so already, and for a folder. Repeatable.

        Every other rule of the bucket stays. Raises ArchiveRefused, which names the permission to grant.
        """

    def check(self) -> None:
        """Raise ArchiveUnavailable, which says what to do, unless the store can be listed."""
