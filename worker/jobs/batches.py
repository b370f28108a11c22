"""The batches of a job in the archive: the units of work, written down before anything is done with them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from torpor.worker.archive import documents
from torpor.worker.archive.documents import Document
from torpor.worker.archive.names import JobNames
from torpor.worker.archive.stores import ArchiveStore, StoredObject

T = TypeVar("T")


def of(things: Iterable[T], size: int) -> Iterator[list[T]]:
    """The things, so many at a time."""
    iterator = iter(things)
    while batch := list(islice(iterator, size)):
        yield batch


@dataclass(frozen=True, slots=True)
class Batches:
    """The batches of one job."""

    archive: ArchiveStore
    names: JobNames
    job: str

    def write(self, number: int, lines: Sequence[Document], described: Mapping[str, str]) -> None:
        """Write a batch, `described` in its metadata; raises ArchiveConflict if another process wrote another one."""
        documents.put_lines(self.archive, self.names.batch(self.job, number), lines, described)

    def written(self) -> Iterator[StoredObject]:
        """The batches, in order."""
        for stored in self.objects():
            if stored.name.endswith(".gz"):
                yield stored

    def objects(self) -> Iterator[StoredObject]:
        """The batches, and what says which of them were done, in the order of their numbers; then the rest."""
        return self.archive.list(self.names.folder(self.job))

    def note_done(self, number: int) -> None:
        """Note that a batch was done once, and nothing else of it. Repeatable."""
        self._mark(self.names.batch_done(self.job, number))

    def is_done(self, number: int) -> bool:
        """True if a batch was done once."""
        return any(self.archive.list(self.names.batch_done(self.job, number)))

    def complete(self) -> None:
        """Note that all batches are written. Repeatable."""
        self._mark(self.names.listed(self.job))

    def is_complete(self) -> bool:
        """True if all batches are written."""
        return any(self.archive.list(self.names.listed(self.job)))

    def cancel(self) -> None:
        """Note that the job ends without the rest of its batches. Repeatable."""
        self._mark(self.names.canceled(self.job))

    def _mark(self, name: str) -> None:
        self.archive.put(name, io.BytesIO(), 0, metadata={})
