"""Doctor as a job: its units are sessions in Redis, and parts of the archive's names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from torpor.history.protocol import SessionInfo, Status
from torpor.worker.archive import names
from torpor.worker.archive.documents import Document
from torpor.worker.deployment import catalog
from torpor.worker.jobs import batches, pace
from torpor.worker.jobs.job import Job, Note, Result
from torpor.worker.jobs.work import Means, Outcome, Try
from torpor.worker.ops import archive_examination, doctor
from torpor.worker.ops.doctor import Assumption
from torpor.worker.ops.finding import Ailment, Finding

NAME = "doctor"
_BATCH = 500
_STORED_BATCH = 100
# What a unit begins with: a session of the index, one that has keys, a part of the archive's names.
_INDEXED, _STORED, _SPREAD = "indexed:", "stored:", "spread:"


class Arguments(Document):
    """What is to be examined, and whether it is repaired: as the options of `torpor doctor`."""

    repair: bool = False
    assume: Assumption | None = None
    messages: bool = True
    archive: bool = True


@dataclass(frozen=True, slots=True)
class Examination:
    """Examines a deployment. Repairs are repeatable, and what was repaired is not found again."""

    means: Means
    job: Job
    arguments: Arguments

    @classmethod
    def of(cls, means: Means, job: Job) -> Examination:
        """The work of a job; raises DocumentDamaged."""
        return cls(means, job, job.arguments_as(Arguments))

    def batches(self, _written: int) -> Iterator[Sequence[str]]:
        """See Work. Walks the index, the key space, and at last the names of the archive."""
        sessions = self.means.services.sessions
        units = chain(
            (_INDEXED + each for each in catalog.live(self.means.services)),
            (_STORED + each for each in sessions.stored_sessions()),
            map(_SPREAD.__add__, names.SPREADS if self.arguments.archive else []),
        )
        return batches.of(units, pace.batch_size(self.job, _BATCH))

    def do(self, units: Sequence[str], _this: Try) -> Outcome:
        """See Work."""
        indexed = [each.removeprefix(_INDEXED) for each in units if each.startswith(_INDEXED)]
        stored = [each.removeprefix(_STORED) for each in units if each.startswith(_STORED)]
        found = list(self._sessions([*indexed, *self._not_indexed(stored)]))
        for spread in (each.removeprefix(_SPREAD) for each in units if each.startswith(_SPREAD)):
            found += self._archived(spread)
        return _outcome(found)

    def discard(self, this: Try) -> None:
        """See Work. What was repaired stays so."""

    def conclude(self, _counted: Iterator[Try], *, complete: bool) -> Outcome:
        """See Work. What is of the deployment as a whole, and what of the archive is no session's."""
        if not complete:
            return Outcome({})
        services, repair = self.means.services, self.arguments.repair
        found = list(doctor.unadopted(services, repair=repair))
        if self.arguments.archive:
            for prefix in names.APART:
                found += archive_examination.damaged(services, prefix)
            found += archive_examination.forgotten(services)
        return _outcome(found)

    def _sessions(self, session_ids: Iterable[str]) -> Iterator[Finding]:
        for session_id in dict.fromkeys(session_ids):
            self.means.wait()
            yield from doctor.examine_sessions(
                self.means.services,
                [session_id],
                repair=self.arguments.repair,
                assume=self.arguments.assume,
                messages=self.arguments.messages,
            )

    def _not_indexed(self, session_ids: Sequence[str]) -> Iterator[str]:
        """Those that the walk through the index has not given."""
        for session_id, info in catalog.described(self.means.services, session_ids):
            known = isinstance(info, SessionInfo) and (info.due_at is not None or info.status is Status.QUARANTINED)
            if not known:
                yield session_id

    def _archived(self, spread: str) -> Iterator[Finding]:
        services, repair = self.means.services, self.arguments.repair
        for batch in batches.of(catalog.stored_in(services, spread), _STORED_BATCH):
            yield from archive_examination.compare(services, batch, repair=repair)
        yield from archive_examination.damaged(services, spread)


def findings(result: Result) -> Iterator[Finding]:
    """What a job has found; all kinds, and a thousand at most."""
    for note in result.notes:
        yield Finding(note.name, Ailment(note.what), note.settled, note.detail or None)


def _outcome(found: Sequence[Finding]) -> Outcome:
    notes = [
        Note(what=each.ailment, name=each.session_id, detail=each.detail or "", settled=each.repaired) for each in found
    ]
    return Outcome({"findings": len(found), "repaired": sum(each.repaired for each in found)}, notes)
