"""Adoption as a job: its units are the keys of another library."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated
from urllib.parse import quote_from_bytes, unquote_to_bytes

from pydantic import AfterValidator

from torpor.history.protocol import FORMATS, Expiry, InvalidArgument, Layout
from torpor.worker.archive.documents import Document
from torpor.worker.jobs import batches, pace
from torpor.worker.jobs.job import Job, Note, Result
from torpor.worker.jobs.work import Means, Outcome, Try
from torpor.worker.transfer.adopt import BATCH, Adopted, Adopter, Left
from torpor.worker.transfer.owner_rule import OwnerRule

NAME = "adopt"


def _known(name: str) -> str:
    if name not in FORMATS:
        raise InvalidArgument(f"this version of Torpor knows no format {name!r}")
    return name


class Arguments(Document):
    """What is to be adopted, and how: as the options of `torpor adopt`."""

    format: Annotated[str, AfterValidator(_known)]
    match: str
    prefix: str | None = None
    ttl: int | None = None
    owner: str | None = None
    owner_pattern: str | None = None
    force: bool = False

    @property
    def layout(self) -> Layout:
        """The layout of the sessions."""
        known = FORMATS[self.format]
        prefix = known.prefix if self.prefix is None else self.prefix
        return replace(known, prefix=prefix, check_order=not self.force)

    @property
    def expiry(self) -> Expiry:
        """The expiry that the sessions get; raises InvalidArgument."""
        return Expiry.of_seconds(self.ttl)

    @property
    def owners(self) -> OwnerRule:
        """Whose the sessions are; raises InvalidArgument and InvalidOwner."""
        return OwnerRule.of(self.owner, self.owner_pattern)


@dataclass(frozen=True, slots=True)
class Adoption:
    """Adopts the sessions of a job. A key that is adopted is gone, so a second time does no harm."""

    means: Means
    job: Job
    arguments: Arguments
    adopter: Adopter

    @classmethod
    def of(cls, means: Means, job: Job) -> Adoption:
        """The work of a job; raises InvalidArgument and DocumentDamaged."""
        given = job.arguments_as(Arguments)
        return cls(means, job, given, Adopter(means.services, given.layout, given.expiry, given.owners, dry_run=False))

    def batches(self, _written: int) -> Iterator[Sequence[str]]:
        """See Work. Walks the key space anew."""
        keys = self.means.services.sessions.adoptable_keys(self.arguments.layout, self.arguments.match)
        return batches.of(map(quote_from_bytes, keys), pace.batch_size(self.job, BATCH))

    def do(self, units: Sequence[str], _this: Try) -> Outcome:
        """See Work."""
        adopted = Adopted()
        for key, outcome in self.adopter.adopt_all(self.means.pool, map(unquote_to_bytes, units), self.means.wait):
            adopted.add(self.arguments.layout, key, outcome)
        counts = {"sessions": adopted.sessions, "messages": adopted.messages, "gone": adopted.gone}
        left = adopted.left.items()
        return Outcome(counts, [Note(what=reason, name=each.example, count=each.count) for reason, each in left])

    def discard(self, this: Try) -> None:
        """See Work. What was adopted stays so."""

    def conclude(self, _counted: Iterator[Try], *, complete: bool) -> Outcome:  # noqa: ARG002 - as in Work
        """See Work."""
        return Outcome({})


def adopted(result: Result) -> Adopted:
    """The counts of a job that has adopted sessions."""
    examples: dict[str, str] = {}
    for note in result.notes:
        examples.setdefault(note.what, note.name or "")
    left = {reason: Left(count, examples.get(reason, "")) for reason, count in result.noted.items()}
    sessions, messages, gone = (result.counts.get(name, 0) for name in ("sessions", "messages", "gone"))
    return Adopted(sessions, messages, gone, left)
