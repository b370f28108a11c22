"""GcsStore: the archive in a Cloud Storage bucket."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, BinaryIO, cast
from urllib.request import getproxies

import certifi
import google.auth.exceptions
import requests
import requests.adapters
from google.api_core import exceptions as api
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

from torpor.worker.archive import names
from torpor.worker.archive.stores import Safeguards, StoredObject, unpacks_to
from torpor.worker.archive.stores.bucket import BucketSettings, brief, ungranted
from torpor.worker.archive.stores.objects import Objects, Resource, crc32c, patiently
from torpor.worker.archive.stores.transport import Session, Transport
from torpor.worker.errors import ArchiveConflict, ArchiveCorrupt, ArchiveRefused, ArchiveUnavailable, ObjectNotFound

_CHUNK = 1024 * 1024
# Up to here an object is sent in one request; what is larger is sent by the library, in parts where it is very large.
_SENT_AT_ONCE = _CHUNK
# What a very large one is sent in; two are in memory at a time, since the last reply holds its request.
_PART = 4 * 1024 * 1024
# Up to here it is read in one request, which checks its CRC32C; what is larger is read in chunks.
_READ_AT_ONCE = 4 * _CHUNK
# How often a change is tried where others change the same object at the same time.
_ATTEMPTS = 5


class GcsStore:
    """Objects in `gs://bucket/prefix`; uploads are create-only and checked by CRC32C on both sides.

    Source: https://cloud.google.com/storage/docs/request-preconditions and .../docs/data-validation
    """

    def __init__(self, bucket: str, prefix: str, *, threads: int) -> None:
        """`threads` is how many uploads may run at a time. Credentials are looked for at the first use."""
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
    ) -> StoredObject:
        """See ArchiveStore."""
        checksum = crc32c(body)
        described: dict[str, Any] = {
            "name": self._prefix + name,
            "metadata": dict(metadata),
            "contentType": _content_type(name),
            "crc32c": checksum,
        }
        if custom_time:
            described["customTime"] = _rfc3339(custom_time)
        if held:
            described["temporaryHold"] = True
        with self._translated():
            try:
                resource = self._created(described, body, size)
            except api.PreconditionFailed:
                resource = self._objects.describe(self._prefix + name)
                stored = self._stored(resource)
                if (stored.size, resource["crc32c"]) != (size, checksum):
                    with self.open(stored) as there:
                        if not unpacks_to(there, metadata.get("sha256")):
                            raise ArchiveConflict(f"{self.url}/{name} exists with other content") from None
                return self._amend(resource, custom_time=custom_time, held=held or None)
        if resource.get("name") != described["name"]:
            raise ArchiveUnavailable(f"the reply to an upload of {self.url}/{name} is of another object")
        stored = self._stored(resource)
        # A restore needs the metadata too, which no checksum covers.
        if (stored.size, resource["crc32c"], stored.metadata) != (size, checksum, dict(metadata)):
            self._discard(stored)
            raise ArchiveCorrupt(f"{self.url}/{name} is not what was sent: {stored.size} bytes, {resource['crc32c']}")
        return stored

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
                yield io.BytesIO(self._objects.read(self._prefix + stored.name, stored.generation))
            else:
                blob = self._bucket.blob(self._prefix + stored.name, generation=stored.generation)
                with blob.open("rb", chunk_size=_CHUNK, raw_download=True, **patiently()) as reader:
                    yield cast(BinaryIO, reader)

    def delete(self, stored: StoredObject) -> bool:
        """See ArchiveStore. In a versioned bucket, naming the generation is what makes it go for good.

        Source: https://cloud.google.com/storage/docs/object-versioning#delete
        """
        with self._translated():
            try:
                self._objects.delete(self._prefix + stored.name, stored.generation)
            except api.NotFound:
                return False
            except api.Forbidden as exc:
                raise self._refused(stored, exc) from exc
            return True

    def amend(self, stored: StoredObject, *, custom_time: datetime | None = None, held: bool | None = None) -> None:
        """See ArchiveStore."""
        with self._translated(stored.name):
            resource = self._objects.describe(self._prefix + stored.name, stored.generation)
            self._amend(resource, custom_time=custom_time, held=held)

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
        client = storage.Client()
        # The session's own pool holds 10 connections and warns beyond.
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=self._threads)
        for scheme in ("https://", "http://"):
            client._http.mount(scheme, adapter)
        # Proxies and certificates as the environment has them now: requests would read all of it for each request,
        # and look for a .netrc, which is a third of what an upload costs.
        told = client._http.merge_environment_settings(client._connection.API_BASE_URL, {}, None, None, None)
        client._http.proxies, client._http.verify, client._http.trust_env = told["proxies"], told["verify"], False
        # Else it asks for the bucket's metadata, for traces: in the background, with retries of its own, and with
        # a permission (storage.buckets.get) that archiving does not need.
        client._bucket_metadata_cache = None
        return client

    @cached_property
    def _objects(self) -> Objects:
        connection = self._client._connection
        server = connection.get_api_base_url_for_mtls()
        return Objects(self._session(server), server, self._bucket_name, connection.user_agent)

    def _session(self, server: str) -> Session:
        """What sends the requests for objects: a lighter one, but where a proxy or client certificates are used."""
        session: Any = self._client._http
        if getproxies() or session.is_mtls or not session.verify:
            return cast(Session, session)
        trusted = certifi.where() if session.verify is True else session.verify
        return Transport(server, self._client._credentials, threads=self._threads, ca_certs=trusted)

    @cached_property
    def _bucket(self) -> storage.Bucket:
        return self._client.bucket(self._bucket_name)

    @cached_property
    def _settings(self) -> BucketSettings:
        return BucketSettings(self._bucket, f"{self._prefix}{names.ROOT}/", self.url)

    def _created(self, described: Resource, body: BinaryIO, size: int) -> Resource:
        """Upload a new object."""
        body.seek(0)
        if size <= _SENT_AT_ONCE:
            return self._objects.insert(described, body.read())
        blob = _Blob(described, self._bucket)
        blob.upload_from_file(
            body,
            size=size,
            content_type=described["contentType"],
            if_generation_match=0,
            checksum="crc32c",
            crc32c_checksum_value=described["crc32c"],
            **patiently(),
        )
        resource: Resource = blob._properties
        return resource

    def _amend(self, resource: Resource, *, custom_time: datetime | None, held: bool | None) -> StoredObject:
        """Amend what was read just now; returns what is there then. Only what differs is sent."""
        for left in reversed(range(_ATTEMPTS)):
            stored = self._stored(resource)
            changes: dict[str, Any] = {}
            if custom_time is not None and (stored.custom_time is None or stored.custom_time < custom_time):
                changes["customTime"] = _rfc3339(custom_time)
                stored = replace(stored, custom_time=custom_time)
            if held is not None and resource.get("temporaryHold", False) != held:
                changes["temporaryHold"] = held
                stored = replace(stored, held=held or resource.get("eventBasedHold", False))
            if not changes:
                break
            try:
                self._objects.patch(resource, changes)
                break
            except api.Forbidden as exc:
                raise ungranted(self.url, f"amend {stored.name}", "storage.objects.update", exc) from exc
            except api.PreconditionFailed:  # somebody else amended it, or the reply to an attempt was lost
                if not left:
                    raise
                resource = self._objects.describe(resource["name"], stored.generation)
        return stored

    def _discard(self, stored: StoredObject) -> None:
        """Delete the very generation that was just created, so that the next attempt finds the name free."""
        with suppress(ArchiveRefused, ObjectNotFound):
            if stored.held:
                self.amend(stored, held=False)
            self.delete(stored)

    def _refused(self, stored: StoredObject, error: Exception) -> ArchiveRefused:
        """Why an object can't be deleted, and until when, as it is now: holds and retention can have changed."""
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
        """Source: https://cloud.google.com/storage/docs/json_api/v1/objects#resource-representations"""
        retained = resource.get("retentionExpirationTime"), resource.get("retention", {}).get("retainUntilTime")
        return StoredObject(
            resource["name"].removeprefix(self._prefix),
            int(resource["size"]),
            int(resource["generation"]),
            resource.get("metadata", {}),
            _moment(resource.get("customTime")),
            bool(resource.get("temporaryHold") or resource.get("eventBasedHold")),
            max(filter(None, map(_moment, retained)), default=None),
            _moment(resource.get("timeCreated")),
            "timeDeleted" not in resource,
        )

    @contextmanager
    def _translated(self, name: str | None = None) -> Iterator[None]:
        try:
            yield
        except api.NotFound as exc:
            if name is not None:
                raise ObjectNotFound(f"{self.url}/{name} does not exist") from exc
            raise ArchiveUnavailable(f"bucket {self._bucket_name!r} does not exist; create it first") from exc
        except (api.Unauthorized, api.Forbidden, google.auth.exceptions.GoogleAuthError) as exc:
            raise ArchiveUnavailable(f"{self.url} refuses these credentials: {brief(exc)}") from exc
        except (api.BadRequest, DataCorruption) as exc:
            raise ArchiveCorrupt(f"{self.url} did not take what was sent: {brief(exc)}") from exc
        except (api.GoogleAPIError, InvalidResponse, requests.RequestException, OSError) as exc:
            raise ArchiveUnavailable(f"{self.url} can't be reached or can't serve now: {brief(exc)}") from exc


class _Blob(storage.Blob):  # type: ignore[misc] # the library is untyped
    """A blob to be uploaded with a description of our own: the library's leaves a temporary hold out."""

    def __init__(self, described: Resource, bucket: storage.Bucket) -> None:
        super().__init__(described["name"], bucket, chunk_size=_PART)
        self._described = described

    def _get_writable_metadata(self) -> dict[str, Any]:
        return dict(self._described)


def _content_type(name: str) -> str:
    """What the objects of the layout are: packed lines, JSON documents, and empty markers."""
    types = {".gz": "application/gzip", ".json": "application/json"}
    return next((kind for suffix, kind in types.items() if name.endswith(suffix)), "application/octet-stream")


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
