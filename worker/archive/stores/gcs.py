"""GcsStore: the archive in a Cloud Storage bucket."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cached_property, partial
from itertools import count
from typing import BinaryIO, cast

from google.api_core import exceptions as api
from google.cloud import storage

from torpor.worker.archive.stores import ROOT, Confirm, Safeguards, StoredObject, is_same
from torpor.worker.archive.stores.bucket import BucketSettings
from torpor.worker.archive.stores.gcs_errors import Translation, undeletable, ungranted
from torpor.worker.archive.stores.gcs_uploads import Uploads
from torpor.worker.archive.stores.google_client import connected, make_client
from torpor.worker.archive.stores.objects import Objects, crc32c, patiently
from torpor.worker.archive.stores.resources import Resource, changes, new_resource, reliance, stored_object
from torpor.worker.errors import ArchiveConflict, ArchiveRefused, ObjectNotFound

_CHUNK = 1024 * 1024
# An object of at most this size is read in one request, which checks its CRC32C. Larger ones are read in chunks.
_READ_AT_ONCE = 4 * _CHUNK
# How often we try to change an object that others change at the same time.
_ATTEMPTS = 5


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
        with self._translation.translated(), self._translation.sending():
            while True:
                try:
                    return self._stored(self._uploads.create(described, body, size, replacing))
                except api.PreconditionFailed:
                    if next(tries) == _ATTEMPTS:
                        raise
                except api.Forbidden as exc:
                    if replacing is None:
                        raise
                    raise self._refused(self._stored(replacing), exc) from exc
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
        with self._translation.translated():
            for resource in self._objects.list(self._prefix + prefix, generations=generations):
                yield self._stored(resource)

    @contextmanager
    def open(self, stored: StoredObject) -> Iterator[BinaryIO]:
        """See ArchiveStore."""
        with self._translation.translated(stored.name):
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
        with self._translation.translated():
            try:
                self._objects.delete(self._prefix + stored.name, stored.generation)
            except api.NotFound:
                self._probe()  # a missing bucket is no deleted object
                return False
            except api.Forbidden as exc:
                raise self._refused(stored, exc) from exc
            return True

    def discard(self, stored: StoredObject) -> bool:
        """See ArchiveStore."""
        with self._translation.translated():
            try:
                self._objects.delete(self._prefix + stored.name, stored.generation, stored.metageneration)
            except api.NotFound:
                self._probe()  # a missing bucket is no deleted object
            except api.PreconditionFailed:
                return False
            except api.Forbidden as exc:
                raise self._refused(stored, exc) from exc
            return True

    def amend(
        self,
        stored: StoredObject,
        *,
        custom_time: datetime | None = None,
        held: bool | None = None,
        entries: Mapping[str, str | None] | None = None,
    ) -> None:
        """See ArchiveStore."""
        with self._translation.translated(stored.name):
            resource = self._objects.describe(self._prefix + stored.name, stored.generation)
            self._change(resource, lambda now: changes(now, custom_time, held, entries or {}))

    def annotate(self, stored: StoredObject, entries: Mapping[str, str]) -> bool:
        """See ArchiveStore."""
        described = {
            "name": self._prefix + stored.name,
            "generation": stored.generation,
            "metageneration": stored.metageneration,
        }
        with self._translation.translated(stored.name):
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
        with self._translation.translated():
            return self._settings.safeguards()

    def apply_lifecycle(self) -> bool:
        """See ArchiveStore."""
        with self._translation.translated():
            return self._settings.apply_lifecycle()

    def check(self) -> None:
        """See ArchiveStore."""
        with self._translation.translated():
            self._probe()

    @cached_property
    def _client(self) -> storage.Client:
        return make_client(self._threads)

    @cached_property
    def _objects(self) -> Objects:
        session, server, agent = connected(self._client, self._threads)
        return Objects(session, server, self._bucket_name, agent, patience=self._patience)

    @cached_property
    def _uploads(self) -> Uploads:
        return Uploads(self._objects, self._bucket, patience=self._patience)

    @cached_property
    def _translation(self) -> Translation:
        return Translation(self.url, self._bucket_name, self._probe)

    @cached_property
    def _bucket(self) -> storage.Bucket:
        return self._client.bucket(self._bucket_name)

    @cached_property
    def _settings(self) -> BucketSettings:
        return BucketSettings(self._bucket, self._prefix + ROOT, self.url)

    def _probe(self) -> None:
        self._objects.probe()

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

    def _refused(self, stored: StoredObject, error: Exception) -> ArchiveRefused:
        """The error for an object that may not be deleted. Looks at it again, as it is now."""
        resource: Resource = {}
        with suppress(api.Forbidden, api.NotFound):
            resource = self._objects.describe(self._prefix + stored.name, stored.generation)
            stored = self._stored(resource)
        return undeletable(self.url, stored, resource, error)

    def _stored(self, resource: Resource) -> StoredObject:
        return stored_object(resource, self._prefix)
