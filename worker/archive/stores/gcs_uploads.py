"""Uploads to a bucket: create-only, and compared with what was sent."""

from __future__ import annotations

from contextlib import suppress
from typing import BinaryIO

from google.api_core import exceptions as api
from google.cloud import storage

from torpor.worker.archive.stores.google_client import DescribedBlob, properties
from torpor.worker.archive.stores.objects import Objects, creating, patiently
from torpor.worker.archive.stores.resources import Resource, differences
from torpor.worker.errors import ArchiveCorrupt, ArchiveUnavailable

# An object of at most this size is sent in one request of ours. The library sends larger ones.
_SENT_AT_ONCE = 1024 * 1024
# The library sends a very large object in parts of this size. Two are in memory, since a reply refers to its request.
_PART = 4 * 1024 * 1024


class Uploads:
    """Creates objects, each as it is described: its name with the archive's prefix, its metadata, its checksum.

    Raises the errors of google-cloud-storage.
    """

    def __init__(self, objects: Objects, bucket: storage.Bucket, *, patience: float | None) -> None:
        self._objects = objects
        self._bucket = bucket
        self._patience = patience

    def create(self, described: Resource, body: BinaryIO, size: int, replacing: Resource | None) -> Resource:
        """Upload an object; returns its description if it is what was sent.

        Else it is discarded, and ArchiveCorrupt raised. `replacing` as in Objects.insert.
        """
        created = self._upload(described, body, size, replacing)
        url = f"gs://{self._bucket.name}/{described['name']}"
        if created.get("name") != described["name"]:
            raise ArchiveUnavailable(f"the reply to an upload of {url} is of another object")
        # A restore needs the description too, which no checksum covers.
        if differences(created, described, size):
            created = self._objects.describe(created["name"], int(created["generation"]))  # only the reply is wrong?
        if wrong := differences(created, described, size):
            self._discard(created)
            raise ArchiveCorrupt(f"{url} is not what was sent: another {', '.join(wrong)}")
        return created

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

    def _discard(self, created: Resource) -> None:
        """Discard what was just created wrongly, so that the next attempt finds the name free."""
        # Or somebody else relies on it by now, or it stays, and the next put finds that it is damaged.
        with suppress(api.Forbidden, api.NotFound, api.PreconditionFailed):
            if created.get("temporaryHold"):
                created = {**created, **self._objects.patch(created, {"temporaryHold": False})}
            self._objects.delete(created["name"], int(created["generation"]), int(created["metageneration"]))
