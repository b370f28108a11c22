"""Reads the segments of one session from the archive: their metadata and their messages."""

from __future__ import annotations

from collections.abc import Iterator

from torpor.worker.archive.contents import Segment
from torpor.worker.archive.segment import unpack
from torpor.worker.archive.segment_metadata import SegmentMetadata
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.errors import SegmentDamaged

# How much larger than its object a message above the limit may be.
_EXPANSION = 4


class SegmentReader:
    """Reads segments that a listing found. Every method raises SegmentDamaged, which names the object."""

    def __init__(self, archive: ArchiveStore, session_id: str, max_message_bytes: int) -> None:
        """A message of more than `max_message_bytes` is read only from an object of a quarter of its size."""
        self._archive = archive
        self._most_bytes = max_message_bytes
        self.session_id = session_id

    def metadata(self, segment: Segment) -> SegmentMetadata:
        """The metadata of a segment; a segment of another session is damaged."""
        described = SegmentMetadata.read(self._archive, segment.stored)
        if described.session not in (None, self.session_id):
            raise SegmentDamaged(f"{self._url(segment)} is damaged: it belongs to another session")
        return described

    def pages(self, segment: Segment) -> Iterator[list[bytes]]:
        """Yield the stored bytes of a segment's messages, as `unpack` does."""
        most_bytes = max(self._most_bytes, _EXPANSION * segment.stored.size)
        described = self.metadata(segment)
        try:
            with self._archive.open(segment.stored) as body:
                yield from unpack(self.session_id, segment.name, described.sha256, body, most_bytes)
        except SegmentDamaged as exc:
            raise SegmentDamaged(f"{self._url(segment)} is damaged: {exc}") from exc

    def _url(self, segment: Segment) -> str:
        return f"{self._archive.url}/{segment.stored.name}"
