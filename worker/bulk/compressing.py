"""Compression as a job: messages that are in Redis get the stored form of the deployment's setting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from torpor.history.protocol import Compression, InvalidArgument, PermanentError, Repacked
from torpor.worker.archive.documents import Document
from torpor.worker.deployment import catalog
from torpor.worker.deployment.services import Services
from torpor.worker.jobs import batches, pace
from torpor.worker.jobs.job import Job, Note, Result
from torpor.worker.jobs.work import Means, Outcome, Try

NAME = "compress"
_BATCH = 500
DAMAGED = "messages that are damaged, and stay as they are"
CHANGED = "a session that changed again and again; run it once more"
UNREADABLE = "a session that can't be read"


class Arguments(Document):
    """How messages are to be stored: as the deployment's setting was when the job was ordered."""

    compression: Compression


@dataclass(slots=True)
class Compressed:
    """What was rewritten: `sessions` and `messages` that got another form, and the bytes of all messages."""

    counts: Counter[str] = field(default_factory=Counter)
    notes: list[Note] = field(default_factory=list)

    def add(self, session_id: str, done: Repacked | PermanentError) -> None:
        """Add what became of a session."""
        if isinstance(done, PermanentError):
            self.notes.append(Note(what=UNREADABLE, name=session_id, detail=str(done)))
            return
        self.counts["sessions"] += done.messages > 0
        for name in ("messages", "bytes_before", "bytes_after"):
            self.counts[name] += getattr(done, name)
        if done.damaged:
            self.notes.append(Note(what=DAMAGED, name=session_id, count=done.damaged))
        if done.changed:
            self.notes.append(Note(what=CHANGED, name=session_id))


def compress(
    services: Services,
    pool: Executor,
    session_ids: Iterable[str],
    compression: Compression,
    wait: Callable[[], None],
    *,
    dry_run: bool = False,
) -> Iterator[tuple[str, Repacked | PermanentError]]:
    """Rewrite the messages of sessions, and yield what became of each; `wait` is called before each one."""

    def one(session_id: str) -> Repacked | PermanentError:
        wait()
        try:
            return services.sessions.repack(session_id, compression, dry_run=dry_run)
        except PermanentError as error:
            return error

    fresh = list(dict.fromkeys(session_ids))
    return zip(fresh, pool.map(one, fresh), strict=True)


def compress_all(
    services: Services, wait: Callable[[], None], progress: Callable[[int], None], *, dry_run: bool
) -> Compressed:
    """Rewrite the messages of all sessions in this process; with `dry_run`, only measure.

    `progress` is called after each session with the number of those that were rewritten.
    """
    compressed = Compressed()
    with ThreadPoolExecutor(services.settings.concurrency) as pool:
        rewrite = partial(compress, services, pool, compression=setting(services), wait=wait, dry_run=dry_run)
        for batch in batches.of(catalog.live(services), _BATCH):
            for session_id, done in rewrite(session_ids=batch):
                compressed.add(session_id, done)
                progress(compressed.counts["sessions"])
    return compressed


def setting(services: Services) -> Compression:
    """How the deployment has messages written."""
    return services.sessions.deployment.compression


@dataclass(frozen=True, slots=True)
class Compressing:
    """Rewrites the messages of a job's sessions. What has the right form stays, so a second time does no harm."""

    means: Means
    job: Job
    compression: Compression

    @classmethod
    def of(cls, means: Means, job: Job) -> Compressing:
        """The work of a job; raises InvalidArgument, also if the setting has changed since, and DocumentDamaged."""
        wanted, ours = job.arguments_as(Arguments).compression, setting(means.services)
        if wanted is not ours:
            raise InvalidArgument(
                f"job {job.id} rewrites messages for compression {wanted}, and this deployment has {ours} now: "
                f"torpor jobs --cancel {job.id}"
            )
        return cls(means, job, wanted)

    def batches(self, _written: int) -> Iterator[Sequence[str]]:
        """See Work. Walks the index anew."""
        return batches.of(catalog.live(self.means.services), pace.batch_size(self.job, _BATCH))

    def do(self, units: Sequence[str], _this: Try) -> Outcome:
        """See Work."""
        done = Compressed()
        for session_id, each in compress(
            self.means.services, self.means.pool, units, self.compression, self.means.wait
        ):
            done.add(session_id, each)
        return Outcome(done.counts, done.notes)

    def discard(self, this: Try) -> None:
        """See Work. What was rewritten stays so."""

    def conclude(self, _counted: Iterator[Try], *, complete: bool) -> Outcome:  # noqa: ARG002 - as in Work
        """See Work."""
        return Outcome({})


def compressed(result: Result) -> Compressed:
    """What a job has rewritten."""
    return Compressed(Counter(result.counts), result.notes)
