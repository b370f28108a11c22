"""GcsStore: the archive in a Cloud Storage bucket. The only module that knows google.cloud."""

from __future__ import annotations

import base64
import io
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, BinaryIO, cast
from urllib.request import getproxies

import certifi
import google.auth.exceptions
import google_crc32c
import requests
import requests.adapters
from google.api_core import exceptions as api
from google.api_core.retry import Retry
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY

from worker import layout
from worker.errors import ArchiveConflict, ArchiveCorrupt, ArchiveRefused, ArchiveUnavailable, ObjectNotFound
from worker.stores import Safeguards, StoredObject, unpacks_to
from worker.stores.transport import UploadTransport

_CHUNK = 1024 * 1024
# Below this an object is read in one request, which checks its CRC32C; above it is read in chunks.
_READ_AT_ONCE = 4 * _CHUNK
_TIMEOUT = (5.0, 30.0)
_LONGEST_WAIT = 30
# How often a change is tried where others change the same object or bucket at the same time.
_ATTEMPTS = 5
_EVERYBODY = {"allUsers", "allAuthenticatedUsers"}


def _wait_as_told(error: Exception) -> None:
    """Wait for as many seconds as Retry-After says, which the library's own backoff with jitter then follows.

    Gives up at once where that is long: the session is safe in Redis, and a later sweep comes back to it.
    """
    response = getattr(error, "response", None)
    told = "" if response is None else response.headers.get("Retry-After", "")
    if re.fullmatch(r"\d{1,9}", told):  # the other form, a date, is left to the backoff
        if int(told) > _LONGEST_WAIT:
            raise error
        time.sleep(int(told))


# The library ignores Retry-After (google.api_core.retry, google.cloud.storage.retry).
_RETRY = Retry(predicate=DEFAULT_RETRY._predicate, timeout=60.0, on_error=_wait_as_told)


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
        checksum = _crc32c(body)
        with self._translated():
            blob = _Blob(self._prefix + name, self._bucket, chunk_size=8 * _CHUNK)
            blob.metadata = dict(metadata)
            blob.custom_time = custom_time
            if held:
                blob.temporary_hold = True
            try:
                blob.upload_from_file(
                    body,
                    rewind=True,
                    size=size,
                    content_type=_content_type(name),
                    if_generation_match=0,
                    checksum="crc32c",
                    crc32c_checksum_value=checksum,
                    client=self._uploads,
                    **_patiently(),
                )
            except api.PreconditionFailed:
                blob.reload(**_patiently())
                stored = self._describe(blob)
                if (blob.size, blob.crc32c) != (size, checksum):
                    with self.open(stored) as there:
                        if not unpacks_to(there, metadata.get("sha256")):
                            raise ArchiveConflict(f"{self.url}/{name} exists with other content") from None
                return self._amend(blob, custom_time=custom_time, held=held or None)
        # A restore needs the metadata too, which no checksum covers.
        if (blob.size, blob.crc32c, blob.metadata or {}) != (size, checksum, dict(metadata)):
            self._discard(self._describe(blob))
            raise ArchiveCorrupt(f"{self.url}/{name} is not what was sent: {blob.size} bytes, {blob.crc32c}")
        return self._describe(blob)

    def list(self, prefix: str, *, generations: bool = False) -> Iterator[StoredObject]:
        """See ArchiveStore."""
        with self._translated():
            for blob in self._client.list_blobs(
                self._bucket,
                prefix=self._prefix + prefix,
                versions="true" if generations else None,  # the emulator does not know "True"
                **_patiently(),
            ):
                yield self._describe(blob)

    @contextmanager
    def open(self, stored: StoredObject) -> Iterator[BinaryIO]:
        """See ArchiveStore."""
        with self._translated(stored.name):
            blob = self._blob(stored)
            options: dict[str, Any] = {"raw_download": True, **_patiently()}
            if stored.size <= _READ_AT_ONCE:
                yield io.BytesIO(blob.download_as_bytes(checksum="crc32c", **options))
            else:
                with blob.open("rb", chunk_size=_CHUNK, **options) as reader:
                    yield cast(BinaryIO, reader)

    def delete(self, stored: StoredObject) -> bool:
        """See ArchiveStore. In a versioned bucket, naming the generation is what makes it go for good.

        Source: https://cloud.google.com/storage/docs/object-versioning#delete
        """
        with self._translated():
            blob = self._blob(stored)
            try:
                blob.delete(**_patiently())
            except api.NotFound:
                return False
            except api.Forbidden as exc:
                raise self._refused(blob, stored, exc) from exc
            return True

    def amend(self, stored: StoredObject, *, custom_time: datetime | None = None, held: bool | None = None) -> None:
        """See ArchiveStore."""
        with self._translated(stored.name):
            blob = self._blob(stored)
            blob.reload(**_patiently())
            self._amend(blob, custom_time=custom_time, held=held)

    def expire(self, now: datetime) -> int:  # noqa: ARG002 - of the protocol
        """See ArchiveStore."""
        return 0

    def safeguards(self) -> Safeguards | None:
        """See ArchiveStore."""
        with self._translated():
            bucket = self._settings()
            access = bucket.iam_configuration
            return Safeguards(
                location=bucket.location,
                uniform_access=bool(access.uniform_bucket_level_access_enabled),
                public_access_prevented=access.public_access_prevention == "enforced",
                public=_is_public(bucket),
                soft_delete_seconds=bucket.soft_delete_policy.retention_duration_seconds or 0,
                versioning=bucket.versioning_enabled,
                retention_seconds=bucket.retention_period or 0,
                retention_locked=bool(bucket.retention_policy_locked),
                held_by_default=bool(bucket.default_event_based_hold),
                lifecycle=_rules(bucket),
                expires=any(map(self._expires, _rules(bucket))),
            )

    def apply_lifecycle(self) -> bool:
        """See ArchiveStore. The rule is for transcripts only: what has no custom time never fulfils its condition.

        Source: https://cloud.google.com/storage/docs/lifecycle#dayssincecustomtime
        """
        condition = {"daysSinceCustomTime": 0, "matchesPrefix": [self._transcripts]}
        with self._translated():
            bucket = self._settings()
            for left in reversed(range(_ATTEMPTS)):
                if any(map(self._expires, _rules(bucket))):
                    return False
                bucket.lifecycle_rules = [*_rules(bucket), {"action": {"type": "Delete"}, "condition": condition}]
                try:
                    bucket.patch(if_metageneration_match=bucket.metageneration, **_patiently())
                    break
                except api.Forbidden as exc:
                    raise self._ungranted("change the bucket's settings", "storage.buckets.update", exc) from exc
                except api.PreconditionFailed:  # somebody else changed it, or the reply to an attempt was lost
                    if not left:
                        raise
                    bucket = self._settings()
            return True

    def check(self) -> None:
        """See ArchiveStore."""
        with self._translated():
            next(iter(self._client.list_blobs(self._bucket, max_results=1, retry=None, timeout=_TIMEOUT)), None)

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
    def _uploads(self) -> storage.Client:
        """The client that uploads: a lighter one, but where a proxy or client certificates are used."""
        client = self._client
        session = client._http
        if getproxies() or session.is_mtls or not session.verify:
            return client
        trusted = certifi.where() if session.verify is True else session.verify
        transport = UploadTransport(client._credentials, threads=self._threads, ca_certs=trusted)
        return type(client)(project=client.project, credentials=client._credentials, _http=transport)

    @cached_property
    def _bucket(self) -> storage.Bucket:
        return self._client.bucket(self._bucket_name)

    @property
    def _transcripts(self) -> str:
        """What the names of all that can expire begin with, in the bucket."""
        return f"{self._prefix}{layout.ROOT}/"

    def _blob(self, stored: StoredObject) -> storage.Blob:
        """The very generation."""
        return self._bucket.blob(self._prefix + stored.name, generation=stored.generation)

    def _settings(self) -> storage.Bucket:
        """The bucket as it is set up now."""
        bucket = self._client.bucket(self._bucket_name)
        try:
            bucket.reload(**_patiently())
        except api.Forbidden as exc:
            raise self._ungranted("read the bucket's settings", "storage.buckets.get", exc) from exc
        return bucket

    def _ungranted(self, what: str, permission: str, error: Exception) -> ArchiveRefused:
        return ArchiveRefused(
            f"{self.url}: these credentials may not {what}; grant {permission} on it to them: {_brief(error)}"
        )

    def _expires(self, rule: Mapping[str, Any]) -> bool:
        """Does this lifecycle rule delete every transcript whose custom time has passed?"""
        condition = dict(rule.get("condition", {}))
        days, prefixes = condition.pop("daysSinceCustomTime", None), condition.pop("matchesPrefix", [""])
        deletes = rule["action"]["type"] == "Delete" and days == 0 and not condition
        return deletes and any(map(self._transcripts.startswith, prefixes))

    def _amend(self, blob: storage.Blob, *, custom_time: datetime | None, held: bool | None) -> StoredObject:
        """Amend what was read just now; returns what is there then. Only what differs is sent."""
        for left in reversed(range(_ATTEMPTS)):
            stored = self._describe(blob)
            if custom_time is not None and (stored.custom_time is None or stored.custom_time < custom_time):
                blob.custom_time = custom_time
                stored = replace(stored, custom_time=custom_time)
            if held is not None and bool(blob.temporary_hold) != held:
                blob.temporary_hold = held
                stored = replace(stored, held=held or bool(blob.event_based_hold))
            if not blob._changes:
                break
            try:
                blob.patch(if_metageneration_match=blob.metageneration, **_patiently())
                break
            except api.Forbidden as exc:
                raise self._ungranted(f"amend {stored.name}", "storage.objects.update", exc) from exc
            except api.PreconditionFailed:  # somebody else amended it, or the reply to an attempt was lost
                if not left:
                    raise
                blob.reload(**_patiently())
        return stored

    def _discard(self, stored: StoredObject) -> None:
        """Delete the very generation that was just created, so that the next attempt finds the name free."""
        with suppress(ArchiveRefused, ObjectNotFound):
            if stored.held:
                self.amend(stored, held=False)
            self.delete(stored)

    def _refused(self, blob: storage.Blob, stored: StoredObject, error: Exception) -> ArchiveRefused:
        """Why an object can't be deleted, and until when, as it is now: holds and retention can have changed."""
        with suppress(api.Forbidden, api.NotFound):
            blob.reload(**_patiently())
            stored = self._describe(blob)
        until = stored.retained_until if stored.retained_until and stored.retained_until > datetime.now(UTC) else None
        reasons = [_brief(error)]
        if until:
            reasons.insert(0, f"it is retained until {until.isoformat(timespec='seconds')}")
        if stored.held:
            reasons.insert(0, f"{'an event-based' if blob.event_based_hold else 'a temporary'} hold is on it")
        message = f"{self.url}/{stored.name} may not be deleted: {'; '.join(reasons)}"
        return ArchiveRefused(message, until=until, held=stored.held)

    def _describe(self, blob: storage.Blob) -> StoredObject:
        return StoredObject(
            blob.name.removeprefix(self._prefix),
            blob.size,
            blob.generation,
            blob.metadata or {},
            blob.custom_time,
            bool(blob.temporary_hold or blob.event_based_hold),
            max(filter(None, (blob.retention_expiration_time, blob.retention.retain_until_time)), default=None),
            blob.time_created,
            blob.time_deleted is None,
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
            raise ArchiveUnavailable(f"{self.url} refuses these credentials: {_brief(exc)}") from exc
        except (api.BadRequest, DataCorruption) as exc:
            raise ArchiveCorrupt(f"{self.url} did not take what was sent: {_brief(exc)}") from exc
        except (api.GoogleAPIError, InvalidResponse, requests.RequestException, OSError) as exc:
            raise ArchiveUnavailable(f"{self.url} can't be reached or can't serve now: {_brief(exc)}") from exc


class _Blob(storage.Blob):  # type: ignore[misc] # the library is untyped
    """A blob whose temporary hold is set by the upload itself, which the library's own leaves out.

    Source: https://cloud.google.com/storage/docs/json_api/v1/objects/insert
    """

    def _get_writable_metadata(self) -> dict[str, Any]:
        described: dict[str, Any] = super()._get_writable_metadata()
        if "temporaryHold" in self._changes:
            described["temporaryHold"] = self.temporary_hold
        return described


def _patiently() -> dict[str, Any]:
    """How a request that may be repeated is made."""
    return {"retry": _RETRY, "timeout": _TIMEOUT}


def _rules(bucket: storage.Bucket) -> Sequence[Mapping[str, Any]]:
    """The lifecycle rules as they are: the library's `lifecycle_rules` drops those of a kind that it does not know."""
    rules: Sequence[Mapping[str, Any]] = bucket._properties.get("lifecycle", {}).get("rule", ())
    return rules


def _is_public(bucket: storage.Bucket) -> bool | None:
    """Does the IAM policy let everybody in? None where it may not be read, as by the emulator, which has none."""
    try:
        policy = bucket.get_iam_policy(requested_policy_version=3, **_patiently())
    except (api.Forbidden, api.NotFound):
        return None
    return any(_EVERYBODY & set(binding["members"]) for binding in policy.bindings)


def _content_type(name: str) -> str:
    """What the objects of the layout are: packed lines, JSON documents, and empty markers."""
    types = {".gz": "application/gzip", ".json": "application/json"}
    return next((kind for suffix, kind in types.items() if name.endswith(suffix)), "application/octet-stream")


def _crc32c(body: BinaryIO) -> str:
    """The checksum as Cloud Storage gives it: base64 of 4 big-endian bytes."""
    checksum = google_crc32c.Checksum()
    body.seek(0)
    while chunk := body.read(_CHUNK):
        checksum.update(chunk)
    return base64.b64encode(checksum.digest()).decode()


def _brief(error: Exception) -> str:
    """One line of its text, without the name of a resumable upload: whoever knows it can write to the upload."""
    text = re.sub(r"upload_id=[^&\s]*", "upload_id=...", str(error)) or type(error).__name__
    return text.splitlines()[0][:300]
