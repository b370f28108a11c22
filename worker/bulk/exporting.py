"""Export as a job: each batch has the sessions of a part of the archive's names, and becomes files of its own.

The files of a batch have the job, the number of the batch and the token of the try in their names. Those of tries that
do not count are deleted, and then `_SUCCESS` says that all files are there.
"""

from __future__ import annotations

import io
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

from torpor.history.protocol import InvalidArgument, PermanentError, SessionNotFound, TranscriptChanged
from torpor.worker.archive import names
from torpor.worker.archive.documents import Document
from torpor.worker.archive.stores import ArchiveStore, StoredObject
from torpor.worker.archive.stores.url import open_archive, parse_archive_url
from torpor.worker.deployment import catalog
from torpor.worker.deployment.services import Services
from torpor.worker.jobs import batches
from torpor.worker.jobs.job import Job, Note
from torpor.worker.jobs.work import Means, Outcome, Try
from torpor.worker.transfer import json_lines
from torpor.worker.transfer.new_folder import COMPLETE
from torpor.worker.wake.read import Transcript, open_transcript

NAME = "export"
FAILED = "not exported"
# A part has about so many sessions, unless there are more than 256 times as many.
_PART_SESSIONS = 2_000
_SPREADS = len(names.SPREADS)


class Form(StrEnum):
    """What is written."""

    PARQUET = "parquet"
    JSON_LINES = "jsonl"


class Arguments(Document):
    """What is to be exported: all sessions, to a prefix in the bucket of the archive, in so many parts."""

    form: Form
    target: str
    parts: int


def may_be_shared(services: Services, target: str) -> bool:
    """True if a job may export to a place: one in the archive's bucket, or below TORPOR_EXPORT_URL of this process.

    Whoever can write to the archive can order a job, and must not have chats copied to where he can read them.
    """
    try:
        there = parse_archive_url(target)
    except ValueError:
        return False
    if isinstance(there, Path):
        return False
    here = parse_archive_url(services.archive.url)
    return (not isinstance(here, Path) and here[0] == there[0]) or _is_below(services.settings.export_url, *there)


def _is_below(allowed: str | None, bucket: str, prefix: str) -> bool:
    place = parse_archive_url(allowed) if allowed else None
    if place is None or isinstance(place, Path):
        return False
    return bucket == place[0] and f"{prefix}/".startswith(f"{place[1]}/" if place[1] else "")


def arguments(services: Services, form: Form, target: str) -> Arguments:
    """The arguments of an export of all sessions; raises InvalidArgument if there is something at the target."""
    if not may_be_shared(services, target):
        raise InvalidArgument(
            f"{target} is not in the bucket of the archive, nor below TORPOR_EXPORT_URL: a job exports to no other "
            "place, use --here"
        )
    if found := next(iter(open_archive(target).list("")), None):
        raise InvalidArgument(f"{target} has objects already, such as {found.name}; name a prefix that has none")
    sessions = sum(shard.live + shard.archived for shard in services.sessions.overview())
    parts = 1
    while parts < _SPREADS and parts * _PART_SESSIONS < sessions:
        parts *= 2
    return Arguments(form=form, target=target, parts=parts)


@dataclass(frozen=True, slots=True)
class Export:
    """Exports all sessions. Sessions are in a part by the hash of their ids, awake or asleep, so each is in one."""

    means: Means
    job: Job
    arguments: Arguments
    store: ArchiveStore
    _uploaded: dict[str, list[StoredObject]] = field(default_factory=dict)

    @classmethod
    def of(cls, means: Means, job: Job) -> Export:
        """The work of a job; raises InvalidArgument and DocumentDamaged."""
        given = job.arguments_as(Arguments)
        if not may_be_shared(means.services, given.target) or given.parts not in range(1, _SPREADS + 1):
            raise InvalidArgument(
                f"job {job.id} would export to {given.target}, which is not in the archive's bucket, nor below "
                "TORPOR_EXPORT_URL"
            )
        return cls(means, job, given, open_archive(given.target, threads=means.services.settings.concurrency))

    def batches(self, written: int) -> Iterator[Sequence[str]]:
        """See Work. The sessions in Redis; those that are only in the archive are listed by whoever does the part.

        Files on this machine have the ids until they are written down, because all of them may not fit into memory.
        """
        with tempfile.TemporaryDirectory(prefix="torpor-") as folder, ExitStack() as files:
            paths = [Path(folder) / f"{part}" for part in range(self.arguments.parts)]
            parts = [files.enter_context(path.open("w", encoding="ascii")) for path in paths]
            for session_id in catalog.live(self.means.services):
                parts[self._part_of(session_id)].write(json.dumps(session_id) + "\n")
            files.close()
            for path in paths[written:]:
                with path.open(encoding="ascii") as lines:
                    yield list(dict.fromkeys(map(json.loads, lines)))

    def do(self, units: Sequence[str], this: Try) -> Outcome:
        """See Work."""
        with tempfile.TemporaryDirectory(prefix="torpor-") as name:
            counts, notes = _WRITERS[self.arguments.form](self, Path(name), self._sessions(units, this.number - 1))
            self._upload(Path(name), this)
        return Outcome(counts, notes)

    def discard(self, this: Try) -> None:
        """See Work."""
        for stored in self._uploaded.pop(this.token, []):
            self.store.discard(stored)

    def conclude(self, counted: Iterator[Try], *, complete: bool) -> Outcome:
        """See Work. Lists the target once."""
        tags = {self._tag(each) for each in counted}
        tagged = re.compile(rf"(?:.*/)?({re.escape(self.job.id)}-\d+-[0-9a-f]+)[-.]")
        for stored in self.store.list(""):
            if (found := tagged.match(stored.name)) and found[1] not in tags:
                self.store.delete(stored)
        if complete:
            self.store.put(COMPLETE, io.BytesIO(), 0, metadata={})
        return Outcome({})

    def transcripts(self, session_ids: Iterator[str], notes: list[Note]) -> Iterator[tuple[str, Transcript]]:
        """The sessions that can be read, some at a time; notes the others."""

        def read(session_id: str, stack: ExitStack) -> Transcript | PermanentError | TranscriptChanged:
            self.means.wait()
            try:
                return stack.enter_context(open_transcript(self.means.services, session_id))
            except (PermanentError, TranscriptChanged) as error:
                return error

        for some in batches.of(session_ids, self.means.services.settings.concurrency):
            with ExitStack() as stack:
                opened = self.means.pool.map(partial(read, stack=stack), some)
                for session_id, found in zip(some, opened, strict=True):
                    if isinstance(found, Transcript):
                        yield session_id, found
                    elif not isinstance(found, SessionNotFound):  # which is one that was purged
                        notes.append(Note(what=FAILED, name=session_id, detail=str(found)))

    def _sessions(self, live: Sequence[str], part: int) -> Iterator[str]:
        """The sessions of a part: those that were in Redis, and then the others that the archive has."""
        known = set(live)
        yield from live
        for number, spread in enumerate(names.SPREADS):
            if number * self.arguments.parts // _SPREADS == part:
                for session_id, _ in catalog.stored_in(self.means.services, spread):
                    if session_id not in known:
                        yield session_id

    def _part_of(self, session_id: str) -> int:
        spread = int(names.session_prefix(session_id).split("/")[1], 16)
        return spread * self.arguments.parts // _SPREADS

    def _upload(self, folder: Path, this: Try) -> None:
        done = self._uploaded.setdefault(this.token, [])
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            at = path.relative_to(folder)
            name = at.with_name(f"{self._tag(this)}-{at.name}").as_posix()
            with path.open("rb") as body:
                done.append(self.store.put(name, body, path.stat().st_size, metadata={}))

    def _tag(self, this: Try) -> str:
        return f"{self.job.id}-{this.number:06d}-{this.token}"


def _tables(export: Export, folder: Path, session_ids: Iterator[str]) -> tuple[dict[str, int], list[Note]]:
    from torpor.worker.transfer.parquet import DayFiles  # needs pyarrow

    notes: list[Note] = []
    sessions = 0
    with DayFiles(folder) as files:
        for session_id, transcript in export.transcripts(session_ids, notes):
            files.add(session_id, transcript)
            sessions += 1
    return {"sessions": sessions, "rows": files.rows}, notes


def _lines(export: Export, folder: Path, session_ids: Iterator[str]) -> tuple[dict[str, int], list[Note]]:
    notes: list[Note] = []
    sessions = 0
    with (folder / "sessions.jsonl").open("wb") as out:
        for session_id, transcript in export.transcripts(session_ids, notes):
            out.writelines(json_lines.export_line(session_id, transcript.elements, transcript.owner))
            sessions += 1
    return {"sessions": sessions, "rows": sessions}, notes


_WRITERS = {Form.PARQUET: _tables, Form.JSON_LINES: _lines}
