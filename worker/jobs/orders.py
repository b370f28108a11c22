"""The orders of jobs in the archive. One stays there until its job is finished."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from torpor.history.protocol import InvalidArgument
from torpor.worker.archive import documents
from torpor.worker.archive.documents import Document
from torpor.worker.archive.names import JobNames
from torpor.worker.archive.stores import ArchiveStore, StoredObject
from torpor.worker.errors import ArchiveConflict, ArchiveRefused, DocumentDamaged

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
# Free text included. A sweep reads all orders, so none may take much memory.
_MOST_BYTES = 64 * 1024


class Identified(Document):
    """A document that says which job it is of."""

    id: str


AnOrder = TypeVar("AnOrder", bound=Identified)
D = TypeVar("D", bound=Identified)


def new_id() -> str:
    """The id of a job; ids sort by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def check_id(job: str, what: str = "job") -> str:
    """The id itself, if it is valid; raises InvalidArgument."""
    if not isinstance(job, str) or not ID.fullmatch(job):  # a task can bring anything
        raise InvalidArgument(f"a {what} id is 1 to 100 letters, digits, '-' or '_'")
    return job


@dataclass(frozen=True, slots=True)
class Orders(Generic[AnOrder]):
    """The orders of one kind of job, which errors call `what`."""

    names: JobNames
    model: type[AnOrder]
    what: str

    def write(self, archive: ArchiveStore, order: AnOrder) -> None:
        """Write an order, unless there is one of this id; raises InvalidArgument for one of more than 64 KiB."""
        with suppress(ArchiveConflict):
            documents.put(archive, self.names.order(order.id), order, most=_MOST_BYTES)

    def read(self, archive: ArchiveStore, job: str) -> AnOrder:
        """The order of a job that is not finished; raises ObjectNotFound and DocumentDamaged."""
        return self.checked(job, documents.read(archive, self.names.order(job), self.model, most=_MOST_BYTES))

    def finished(self, archive: ArchiveStore, job: str, model: type[D]) -> D:
        """The conclusion of a finished job; raises ObjectNotFound and DocumentDamaged."""
        return self.checked(job, documents.read(archive, self.names.result(job), model))

    def checked(self, job: str, document: D) -> D:
        """The document itself; raises DocumentDamaged if it is another job's than its name says."""
        if document.id != job:
            raise DocumentDamaged(f"the document of {self.what} {job} is damaged: it is of {self.what} {document.id}")
        return document

    def is_finished(self, archive: ArchiveStore, job: str) -> bool:
        """True if a job has its conclusion."""
        return any(archive.list(self.names.result(job)))

    def open(self, archive: ArchiveStore) -> Iterator[StoredObject]:
        """The orders of the jobs that are not finished, by their ids."""
        for stored in archive.list(self.names.orders):
            job = self.names.job_of(stored.name)
            if ID.fullmatch(job) and stored.name == self.names.order(job):
                undeletable = stored.held or stored.retained_until is not None  # such an order outlives its job
                if not undeletable or not self.is_finished(archive, job):
                    yield stored

    def finish(self, archive: ArchiveStore, job: str) -> None:
        """Delete the order of a job that has its conclusion, which says so too if the archive refuses that."""
        for stored in archive.list(self.names.order(job), generations=True):
            with suppress(ArchiveRefused):
                archive.delete(stored)
