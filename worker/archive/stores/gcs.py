"""GcsStore: the archive in a Cloud Storage bucket."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property, partial
from itertools import count
from typing import BinaryIO, cast

import google.auth.exceptions
import requests
from google.api_core import exceptions as api
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

from torpor.history.protocol import TorporError
from torpor.worker.archive import names
from torpor.worker.archive.stores import Confirm, Safeguards, StoredObject, is_same
from torpor.worker.archive.stores.bucket import BucketSettings, brief, ungranted
from torpor.worker.archive.stores.google_client import DescribedBlob, connected, make_client, properties
from torpor.worker.archive.stores.objects import Objects, crc32c, creating, patiently
from torpor.worker.archive.stores.resources import (
    Resource,
    changes,
    differences,
    new_resource,
    reliance,
    stored_object,
)
from torpor.worker.errors import (
    ArchiveConflict,
    ArchiveCorrupt,
    ArchiveMisconfigured,
    ArchiveRefused,
    ArchiveUnavailable,
    ObjectNotFound,
)

_CHUNK = 1024 * 1024
# An object of at most this size is sent in one request of ours. The library sends larger ones.
_SENT_AT_ONCE = _CHUNK
# The library sends a very large object in parts of this size. Two are in memory, since a reply refers to its request.
_PART = 4 * 1024 * 1024
# An object of at most this size is read in one request, which checks its CRC32C. Larger ones are read in chunks.
_READ_AT_ONCE = 4 * _CHUNK
# How often we try to change an object that others change at the same time.
_ATTEMPTS = 5
# The errors of a request that failed for a reason which is not its object's.
_ERRORS = (
    api.GoogleAPIError,
    google.auth.exceptions.GoogleAuthError,
    InvalidResponse,
    requests.RequestException,
    OSError,
)


class GcsStore:
    """Objects in `gs://bucket/prefix`; uploads are create-only and checked by CRC32C on both sides.

    Source: https://cloud.google.com/storage/docs/request-preconditions and .../docs/data-validation
    """

    def __init__(self, bucket: str, prefix: str, *, threads: int, patience: float | None = None) -> None:
        """`threads` is how many uploads may run at a time. The first use looks for credentials.

        A request that fails is given up within `patience` seconds, unless given after a minute.
        """
        self._patience = patience
        self._bucket_name = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._threads = threads

    @property
    def url(self) -> str:
        """`gs://`, the bucket and the prefix."""
        return f"gs://{self._bucket_name}/{self._prefix}".rstrip("/")

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
        """See ArchiveStore."""
        checksum = crc32c(body)
        described = new_resource(self._prefix + name, metadata, checksum, custom_time, held=held)
        replacing: Resource | None = None
        tries = count(1)
        with self._translated(), self._sending():
            while True:
                try:
                    return self._create(described, body, size, replacing)
                except api.PreconditionFailed:
                    if next(tries) == _ATTEMPTS:
                        raise
                replacing = None
                with suppress(api.NotFound, ObjectNotFound):  # somebody deletes it meanwhile: the name is free
                    there = self._objects.describe(described["name"])
                    if self._is_same(there, size, described):
                        wanted = partial(reliance, described=described, contested=confirm is not None)
                        return self._stored(self._change(there, wanted, confirm))
                    if confirm:
                        confirm()
                    replacing = there

    def list(self, prefix: str, *, generations: bool = False) -> Iterator[StoredObject]:
        """See ArchiveStore."""
        with self._translated():
            for resource in self._objects.list(self._prefix + prefix, generations=generations):
                yield self._stored(resource)

    @contextmanager
    def open(self, stored: StoredObject) -> Iterator[BinaryIO]:
        """See ArchiveStore."""
        with self._translated(stored.name):
            if stored.size <= _READ_AT_ONCE:
                yield io.BytesIO(self._objects.read(self._prefix + stored.name, stored.generation, stored.size))
            else:
                blob = self._bucket.blob(self._prefix + stored.name, generation=stored.generation)
                with blob.open("rb", chunk_size=_CHUNK, raw_download=True, **patiently(self._patience)) as reader:
                    yield cast(BinaryIO, reader)

    def delete(self, stored: StoredObject) -> bool:
        """See ArchiveStore. A versioned bucket deletes an object for good only if the request names its generation.

        Source: https://cloud.google.com/storage/docs/object-versioning#delete
        """
        with self._translated():
            try:
                self._objects.delete(self._prefix + stored.name, stored.generation)
            except api.NotFound:
                self._objects.probe()  # a missing bucket is no deleted object
                return False
            except api.Forbidden as exc:
                raise self._refused(stored, exc) from exc
            return True

    def discard(self, stored: StoredObject) -> bool:
        """See ArchiveStore."""
        with self._translated():
            try:
                self._objects.delete(self._prefix + stored.name, stored.generation, stored.metageneration)
            except api.NotFound:
                self._objects.probe()  # a missing bucket is no deleted object
            except api.PreconditionFailed:
                return False
            except api.Forbidden as exc:
                raise self._refused(stored, exc) from exc
            return True

    def amend(self, stored: StoredObject, *, custom_time: datetime | None = None, held: bool | None = None) -> None:
        """See ArchiveStore."""
        with self._translated(stored.name):
            resource = self._objects.describe(self._prefix + stored.name, stored.generation)
            self._change(resource, lambda now: changes(now, custom_time, held))

    def annotate(self, stored: StoredObject, entries: Mapping[str, str]) -> bool:
        """See ArchiveStore."""
        described = {
            "name": self._prefix + stored.name,
            "generation": stored.generation,
            "metageneration": stored.metageneration,
        }
        with self._translated(stored.name):
            try:
                self._objects.patch(described, {"metadata": dict(entries)})
            except api.PreconditionFailed:
                return False
            except api.Forbidden as exc:
                raise ungranted(self.url, f"amend {stored.name}", "storage.objects.update", exc) from exc
            return True

    def expire(self, now: datetime) -> int:  # noqa: ARG002 - of the protocol
        """See ArchiveStore."""
        return 0

    def safeguards(self) -> Safeguards | None:
        """See ArchiveStore."""
        with self._translated():
            return self._settings.safeguards()

    def apply_lifecycle(self) -> bool:
        """See ArchiveStore."""
        with self._translated():
            return self._settings.apply_lifecycle()

    def check(self) -> None:
        """See ArchiveStore."""
        with self._translated():
            self._objects.probe()

    @cached_property
    def _client(self) -> storage.Client:
        return make_client(self._threads)

    @cached_property
    def _objects(self) -> Objects:
        session, server, agent = connected(self._client, self._threads)
        return Objects(session, server, self._bucket_name, agent, patience=self._patience)

    @cached_property
    def _bucket(self) -> storage.Bucket:
        return self._client.bucket(self._bucket_name)

    @cached_property
    def _settings(self) -> BucketSettings:
        return BucketSettings(self._bucket, f"{self._prefix}{names.ROOT}/", self.url)

    def _create(self, described: Resource, body: BinaryIO, size: int, replacing: Resource | None) -> StoredObject:
        """Upload an object, and return it if it is what was sent; else it is discarded, and ArchiveCorrupt raised."""
        try:
            created = self._upload(described, body, size, replacing)
        except api.Forbidden as exc:
            if replacing is None:
                raise
            raise self._refused(self._stored(replacing), exc) from exc
        url = f"gs://{self._bucket_name}/{described['name']}"
        if created.get("name") != described["name"]:
            raise ArchiveUnavailable(f"the reply to an upload of {url} is of another object")
        # A restore needs the description too, which no checksum covers.
        if differences(created, described, size):
            created = self._objects.describe(created["name"], int(created["generation"]))  # only the reply is wrong?
        if wrong := differences(created, described, size):
            self._discard_created(created)
            raise ArchiveCorrupt(f"{url} is not what was sent: another {', '.join(wrong)}")
        return self._stored(created)

    def _upload(self, described: Resource, body: BinaryIO, size: int, replacing: Resource | None) -> Resource:
        """Upload an object; returns what Cloud Storage says of it."""
        body.seek(0)
        if size <= _SENT_AT_ONCE:
            return self._objects.insert(described, body.read(), replacing)
        expected = creating(replacing)
        blob = DescribedBlob(described, self._bucket, part=_PART)
        blob.upload_from_file(
            body,
            size=size,
            content_type=described["contentType"],
            if_generation_match=expected["ifGenerationMatch"],
            if_metageneration_match=expected.get("ifMetagenerationMatch"),
            checksum="crc32c",
            crc32c_checksum_value=described["crc32c"],
            **patiently(self._patience),
        )
        return properties(blob)

    def _is_same(self, resource: Resource, size: int, described: Resource) -> bool:
        """True if an object has the content that is described, False if it is damaged; else raises ArchiveConflict."""
        if (int(resource["size"]), resource["crc32c"]) == (size, described["crc32c"]):
            return True
        stored = self._stored(resource)
        with self.open(stored) as body:
            same = is_same(body, stored.metadata.get("sha256"), described["metadata"].get("sha256"))
        if same is False:
            raise ArchiveConflict(f"{self.url}/{stored.name} exists with other content") from None
        return bool(same)

    def _change(
        self, resource: Resource, changing: Callable[[Resource], Resource], confirm: Confirm | None = None
    ) -> Resource:
        """Make the changes that an object needs, as it was described just now; returns its new description."""
        for left in reversed(range(_ATTEMPTS)):
            changed = changing(resource)
            if not changed:
                break
            if confirm:
                confirm()
            try:
                return {**resource, **self._objects.patch(resource, changed)}
            except api.Forbidden as exc:
                name = resource["name"].removeprefix(self._prefix)
                raise ungranted(self.url, f"amend {name}", "storage.objects.update", exc) from exc
            except api.PreconditionFailed:  # somebody else amended it, or the reply to an attempt was lost
                if not left:
                    raise
                resource = self._objects.describe(resource["name"], int(resource["generation"]))
        return resource

    def _discard_created(self, created: Resource) -> None:
        """Discard what was just created wrongly, so that the next attempt finds the name free."""
        # Or somebody else relies on it by now, or it stays, and the next put finds that it is damaged.
        with suppress(ArchiveRefused, api.Forbidden, api.NotFound, api.PreconditionFailed):
            if created.get("temporaryHold"):
                created = {**created, **self._objects.patch(created, {"temporaryHold": False})}
            self.discard(self._stored(created))

    def _refused(self, stored: StoredObject, error: Exception) -> ArchiveRefused:
        """The error for an object that may not be deleted: why, and until when. Looks at it again, as it is now."""
        resource: Resource = {}
        with suppress(api.Forbidden, api.NotFound):
            resource = self._objects.describe(self._prefix + stored.name, stored.generation)
            stored = self._stored(resource)
        until = stored.retained_until if stored.retained_until and stored.retained_until > datetime.now(UTC) else None
        reasons = [brief(error)]
        if until:
            reasons.insert(0, f"it is retained until {until.isoformat(timespec='seconds')}")
        if stored.held:
            kind = "an event-based" if resource.get("eventBasedHold") else "a temporary"
            reasons.insert(0, f"{kind} hold is on it")
        message = f"{self.url}/{stored.name} may not be deleted: {'; '.join(reasons)}"
        return ArchiveRefused(message, until=until, held=stored.held)

    def _stored(self, resource: Resource) -> StoredObject:
        return stored_object(resource, self._prefix)

    @contextmanager
    def _sending(self) -> Iterator[None]:
        """Blame what was sent for a 400, unless the bucket answers so to a listing too."""
        try:
            yield
        except api.BadRequest as exc:
            self._objects.probe()
            raise ArchiveCorrupt(f"{self.url} refused the upload: {brief(exc)}") from exc

    @contextmanager
    def _translated(self, name: str | None = None) -> Iterator[None]:
        try:
            yield
        except api.NotFound as exc:
            raise self._missing(name, exc) from exc
        except DataCorruption as exc:
            raise ArchiveCorrupt(f"{self.url} refused the upload: {brief(exc)}") from exc
        except _ERRORS as exc:
            raise self._failed(exc) from exc

    def _missing(self, name: str | None, error: Exception) -> TorporError:
        """The error for a 404: the bucket is missing if it can't be listed either, else the object with this name."""
        try:
            self._objects.probe()
        except api.NotFound:
            return ArchiveMisconfigured(f"bucket {self._bucket_name!r} does not exist; create it first")
        except _ERRORS as exc:
            return self._failed(exc)
        if name is not None:
            return ObjectNotFound(f"{self.url}/{name} does not exist")
        return self._failed(error)

    def _failed(self, error: Exception) -> ArchiveUnavailable:
        """The error for a failure that is no object's: may it pass, or does it meet every request?"""
        if _refuses_credentials(error):
            return ArchiveMisconfigured(f"{self.url} refuses these credentials: {brief(error)}")
        if isinstance(error, api.BadRequest):
            return ArchiveMisconfigured(f"{self.url} refuses every request: {brief(error)}")
        return ArchiveUnavailable(f"{self.url} can't be reached or can't serve now: {brief(error)}")


def _refuses_credentials(error: Exception) -> bool:
    """True if other credentials are needed, or other rights; False if the token's server only can't be reached."""
    if isinstance(error, google.auth.exceptions.TransportError):
        return False
    if isinstance(error, google.auth.exceptions.GoogleAuthError):
        return not error.retryable
    return isinstance(error, (api.Unauthorized, api.Forbidden))
