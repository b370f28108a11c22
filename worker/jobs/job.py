"""A job, as somebody has ordered it, and what comes of it, as documents in the archive."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, ConfigDict, FailFast, Field, ValidationError

from torpor.history.protocol import InvalidArgument
from torpor.worker.archive import names
from torpor.worker.archive.documents import Document, Moment
from torpor.worker.errors import DocumentDamaged
from torpor.worker.jobs.orders import Identified, Orders, check_id, new_id

D = TypeVar("D", bound=Document)

_LOWEST_RATE = 0.01
_HIGHEST_RATE = 1_000_000
# A result names so many of the things that were noted, and counts all.
NAMED = 1_000
# So many notes are told apart from repeated ones.
_KNOWN = 100_000


def check_rate(rate: float | None) -> float | None:
    """The rate itself, if it is a possible one; raises InvalidArgument."""
    if rate is not None and not _LOWEST_RATE <= rate <= _HIGHEST_RATE:
        raise InvalidArgument(f"a rate is from {_LOWEST_RATE} to {_HIGHEST_RATE:,} sessions a second")
    return rate


class Job(Identified):
    """The order of a job."""

    id: Annotated[str, AfterValidator(check_id)] = Field(alias="job")
    work: str  # what is to be done, by its name
    arguments: dict[str, Any]  # what that work needs to know
    rate: float | None = Field(default=None, gt=0)  # sessions a second, of all processes together
    deployment: str  # the id of the deployment that it is of
    requested_at: Moment

    @classmethod
    def of(cls, work: str, arguments: Document, *, deployment: str, rate: float | None = None) -> Job:
        """A new order; raises InvalidArgument."""
        return Job(
            job=new_id(),
            work=work,
            arguments=arguments.fields(),
            rate=check_rate(rate),
            deployment=deployment,
            requested_at=datetime.now(UTC),
        )

    def arguments_as(self, model: type[D]) -> D:
        """The arguments of this work; raises DocumentDamaged."""
        try:
            return model.model_validate(self.arguments)
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"]))
            raise DocumentDamaged(f"the order of job {self.id} is damaged: {field}: {first['msg']}") from exc


JOBS = Orders(names.JOBS, Job, "job")


class Note(Document):
    """Something that was found or left, `count` times, at `name` for example. It is `settled` if nothing is to do."""

    what: str
    name: str | None = None
    detail: str = ""
    count: int = Field(default=1, ge=0, lt=2**63)
    settled: bool = False


class Done(Document):
    """What came of a batch. No other try of the batch has its random `token`."""

    model_config = ConfigDict(extra="forbid")

    token: str
    units: int
    counts: dict[str, int]
    notes: Annotated[list[Note], FailFast()] = Field(default_factory=list)


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"  # no process has begun it
    RUNNING = "running"
    FAILED = "failed"  # a part of it met an error and is tried again
    CANCELING = "canceling"  # it ends when the batches in work are done
    COMPLETE = "complete"
    CANCELED = "canceled"  # it ended before all batches were done
    REFUSED = "refused"  # its documents are damaged, it is another deployment's, or this version does not know its work


class Result(Job):
    """The conclusion of a job. It repeats the order.

    `noted` counts all notes by what they say. `notes` has a thousand of them, and at least one of each kind.
    """

    state: JobState
    finished_at: Moment
    counts: dict[str, int]
    noted: dict[str, int]
    notes: Annotated[list[Note], FailFast()]


class Summary:
    """Adds up counts and notes. A note that comes twice with the same name counts once."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.noted: Counter[str] = Counter()
        self.notes: list[Note] = []
        self._known: set[tuple[str, str]] = set()

    def note(self, note: Note) -> None:
        """Add a note."""
        if note.name is not None and note.count == 1:
            key = (note.what, note.name)
            if key in self._known:
                return
            if len(self._known) < _KNOWN:
                self._known.add(key)
        if len(self.notes) < NAMED or note.what not in self.noted:
            self.notes.append(note)
        self.noted[note.what] += note.count
