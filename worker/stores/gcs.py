"""GcsStore: the archive in a Cloud Storage bucket. The only module that knows google.cloud."""

from __future__ import annotations

import base64
import io
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cached_property
from typing import Any, BinaryIO, cast

import google.auth.exceptions
import google_crc32c
import requests
import requests.adapters
from google.api_core import exceptions as api
from google.api_core.retry import Retry
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY

from worker.errors import ArchiveConflict, ArchiveCorrupt, ArchiveRefused, ArchiveUnavailable, ObjectNotFound
from worker.stores import StoredObject, unpacks_to

_CHUNK = 1024 * 1024
# Below this an object is read in one request, which checks its CRC32C; above it is read in chunks.
_READ_AT_ONCE = 4 * _CHUNK
_TIMEOUT = (5.0, 30.0)
_LONGEST_WAIT = 30


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
    ) -> StoredObject:
        """See ArchiveStore."""
        checksum = _crc32c(body)
        with self._translated():
            blob = self._bucket.blob(self._prefix + name, chunk_size=8 * _CHUNK)
            blob.metadata = dict(metadata)
            blob.custom_time = custom_time
            try:
                blob.upload_from_file(
                    body,
                    rewind=True,
                    size=size,
                    content_type="application/gzip" if size else "application/octet-stream",
                    if_generation_match=0,
                    checksum="crc32c",
                    crc32c_checksum_value=checksum,
                    retry=_RETRY,
                    timeout=_TIMEOUT,
                )
            except api.PreconditionFailed:
                blob.reload(retry=_RETRY, timeout=_TIMEOUT)
                stored = self._describe(blob)
                if (blob.size, blob.crc32c) != (size, checksum):
                    with self.open(stored) as there:
                        if not unpacks_to(there, metadata.get("sha256")):
                            raise ArchiveConflict(f"{self.url}/{name} exists with other content") from None
                return stored
        # A restore needs the metadata too, which no checksum covers.
        if (blob.size, blob.crc32c, blob.metadata or {}) != (size, checksum, dict(metadata)):
            self._discard(blob)
            raise ArchiveCorrupt(f"{self.url}/{name} is not what was sent: {blob.size} bytes, {blob.crc32c}")
        return self._describe(blob)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """See ArchiveStore."""
        with self._translated():
            for blob in self._client.list_blobs(
                self._bucket, prefix=self._prefix + prefix, retry=_RETRY, timeout=_TIMEOUT
            ):
                yield self._describe(blob)

    @contextmanager
    def open(self, stored: StoredObject) -> Iterator[BinaryIO]:
        """See ArchiveStore."""
        with self._translated(stored.name):
            blob = self._bucket.blob(self._prefix + stored.name, generation=stored.generation)
            options: dict[str, Any] = {"raw_download": True, "retry": _RETRY, "timeout": _TIMEOUT}
            if stored.size <= _READ_AT_ONCE:
                yield io.BytesIO(blob.download_as_bytes(checksum="crc32c", **options))
            else:
                with blob.open("rb", chunk_size=_CHUNK, **options) as reader:
                    yield cast(BinaryIO, reader)

    def delete(self, name: str) -> bool:
        """See ArchiveStore."""
        with self._translated():
            try:
                self._bucket.blob(self._prefix + name).delete(retry=_RETRY, timeout=_TIMEOUT)
            except api.NotFound:
                return False
            except api.Forbidden as exc:
                raise ArchiveRefused(f"{self.url}/{name} may not be deleted: {_brief(exc)}") from exc
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
        # Else it asks for the bucket's metadata, for traces: in the background, with retries of its own, and with
        # a permission (storage.buckets.get) that nothing here needs.
        client._bucket_metadata_cache = None
        return client

    @cached_property
    def _bucket(self) -> storage.Bucket:
        return self._client.bucket(self._bucket_name)

    def _discard(self, blob: storage.Blob) -> None:
        """Delete the very generation that was just created, so that the next attempt finds the name free."""
        with self._translated(), suppress(api.NotFound):
            blob.delete(if_generation_match=blob.generation, retry=_RETRY, timeout=_TIMEOUT)

    def _describe(self, blob: storage.Blob) -> StoredObject:
        name = blob.name.removeprefix(self._prefix)
        return StoredObject(name, blob.size, blob.generation, blob.metadata or {})

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
