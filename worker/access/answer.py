"""Answer: copies all of a person's sessions, awake and asleep, to a folder, as the answer to a request for access.

Nothing is woken and nothing is changed, but an adoption that was interrupted is finished. The same survey as that of a
purge finds the sessions. A run that was interrupted is continued after its last batch.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from pydantic import ValidationError

from torpor.history.protocol import (
    InvalidArgument,
    OwnerMismatch,
    PermanentError,
    SessionNotFound,
    TranscriptChanged,
    TransientError,
)
from torpor.worker.access import listing
from torpor.worker.access.batch_files import BatchFiles, copied_of, manifests
from torpor.worker.access.manifest import Copied, File, Manifest, Request
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import known
from torpor.worker.erasure.inventory import Tally
from torpor.worker.erasure.order import Order
from torpor.worker.erasure.survey import Surveyed, survey
from torpor.worker.failpoints import Failpoint, reach
from torpor.worker.transfer import adopt
from torpor.worker.transfer.output_file import private, write
from torpor.worker.wake.read import Transcript, open_transcript

_BATCH = 100
_REQUEST, _COMPLETE = "incomplete.json", "manifest.json"


def answer(
    services: Services, owner: str, folder: Path, *, by: str, reason: str, progress: Callable[[int], None]
) -> Manifest:
    """Copy all sessions of an owner to a new folder, or go on with a folder that is incomplete.

    Some sessions are in memory at a time. `progress` gets how many sessions were looked at, after each batch. A session
    that begins meanwhile may be missed. Raises InvalidArgument for a folder that has anything else, or is of another
    request; OwnerNotFound; TransientError if another process writes to the folder; and OSError.
    """
    order = Order.of(owner=owner)
    adopt.finish(services)
    known.check(services, order)
    identity = services.sessions.identity()
    request = Request(
        owner=owner,
        deployment=identity.deployment,
        archive=services.archive.url,
        by=by,
        reason=reason,
        begun_at=datetime.now(UTC),
    )
    with _opened(folder, request) as begun:
        done = manifests(folder)
        run = _Run(services, order, folder, len(done), _last_session(done))
        for looked_at in run.batches():
            progress(looked_at)
        return _finish(folder, begun)


@dataclass
class _Run:
    """Copies batches of sessions, by id, from the one after `last` on."""

    services: Services
    order: Order
    folder: Path
    number: int
    last: str
    looked_at: int = 0
    pool: ThreadPoolExecutor = field(init=False)

    def batches(self) -> Iterator[int]:
        """Copy a batch at each step; gives how many sessions were looked at."""
        assert self.order.owner is not None, "an answer is for an owner"
        ids = listing.owned(self.services, self.order.owner, self.last)
        with ThreadPoolExecutor(self.services.settings.concurrency) as self.pool:
            while batch := list(islice(ids, _BATCH)):
                surveyed = [each for each in survey(self.services, self.pool, batch, self.order) if each.found]
                if surveyed:
                    self.number += 1
                    self._copy(surveyed)
                    reach(Failpoint.ANSWER_COPIED)
                self.looked_at += len(batch)
                yield self.looked_at

    def _copy(self, surveyed: Sequence[Surveyed]) -> None:
        some = self.services.settings.concurrency
        with BatchFiles(self.folder, self.number) as files:
            for first in range(0, len(surveyed), some):
                chunk = surveyed[first : first + some]
                with ExitStack() as stack:
                    for each, read in zip(chunk, self.pool.map(self._read, chunk), strict=True):
                        files.note(self._copied(files, each, read if isinstance(read, str) else read.owned_by(stack)))

    def _copied(self, files: BatchFiles, surveyed: Surveyed, read: Transcript | str) -> Copied:
        found, omitted = surveyed.found, read if isinstance(read, str) else None
        transcript = None if isinstance(read, str) else read
        digest, unreadable = files.add(found.session, transcript) if transcript else (None, 0)
        moments = transcript.moments if transcript else ()
        return Copied(
            found=found,
            kind=transcript.kind if transcript else None,
            created=transcript.created if transcript else None,
            last_active=max((at for _, at in moments), default=None),
            file=files.lines_name,
            messages=len(transcript.elements) if transcript else 0,
            unreadable=unreadable,
            sha256=digest,
            omitted=omitted,
            copied_at=datetime.now(UTC),
        )

    def _read(self, surveyed: Surveyed) -> _Read | str:
        """The transcript of a session, or why it can't be copied."""
        if surveyed.others:
            return "another owner has used the session's id, see torpor sessions --conflicts: torpor separate"
        stack = ExitStack()
        try:
            transcript = stack.enter_context(open_transcript(self.services, surveyed.found.session))
            if transcript.owner != self.order.owner:
                raise OwnerMismatch("it is not this owner's now")
        except SessionNotFound:
            return "nothing of it can be read: its retention has ended, or it was erased meanwhile"
        except (PermanentError, TranscriptChanged) as error:
            stack.close()
            return str(error)
        return _Read(stack, transcript)


@dataclass(frozen=True, slots=True)
class _Read:
    """A transcript that is open, and what closes it."""

    opened: ExitStack
    transcript: Transcript

    def owned_by(self, stack: ExitStack) -> Transcript:
        """The transcript, which `stack` will close."""
        stack.push(self.opened)
        return self.transcript


@contextmanager
def _opened(folder: Path, request: Request) -> Iterator[Request]:
    """The request of a folder, locked: the given one of a new folder, or the one that it was begun for."""
    _prepare(folder)
    with open(folder / _REQUEST, "a+b", opener=private) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise TransientError(f"another process writes to {folder}") from exc
        if (folder / _COMPLETE).exists():
            raise InvalidArgument(f"{folder} is complete already; name a new folder")
        for left in folder.glob(".*.tmp"):  # by a run that was killed
            left.unlink()
        file.seek(0)
        text = file.read()
        if not text:
            file.write(request.model_dump_json(indent=1).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        yield _same(folder, text, request) if text else request
        (folder / _REQUEST).unlink()


def _prepare(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (folder / _COMPLETE).exists():
        raise InvalidArgument(f"{folder} is complete already; name a new folder")
    if not (folder / _REQUEST).exists() and any(folder.iterdir()):
        raise InvalidArgument(f"{folder} has files already; name a new folder, or one that this command has begun")


def _same(folder: Path, text: bytes, request: Request) -> Request:
    try:
        begun = Request.model_validate_json(text)
    except ValidationError as exc:
        raise InvalidArgument(f"{folder / _REQUEST} was changed; name a new folder") from exc
    if (begun.owner, begun.deployment, begun.archive) != (request.owner, request.deployment, request.archive):
        raise InvalidArgument(f"{folder} is of another owner or deployment; name a new folder")
    return begun


def _last_session(done: Sequence[Path]) -> str:
    """The last session of the batches that are done, '' if there is none."""
    last = ""
    try:
        for copied in copied_of(done[-1]) if done else ():
            last = copied.found.session
    except ValidationError as exc:
        raise InvalidArgument(f"{done[-1]} was changed; name a new folder") from exc
    return last


def _finish(folder: Path, request: Request) -> Manifest:
    """Write the manifest of a folder whose batches are all done."""
    found = copied = Tally()
    omitted = unreadable = 0
    for path in manifests(folder):
        for each in copied_of(path):
            found += each.found.tally
            omitted += each.omitted is not None
            unreadable += each.unreadable
            if each.omitted is None:
                tally = each.found.tally
                copied += Tally(1, each.messages, tally.objects, tally.bytes)
    manifest = Manifest(
        **request.fields(),
        finished_at=datetime.now(UTC),
        found=found,
        copied=copied,
        omitted=omitted,
        unreadable=unreadable,
        files=[_file(path) for path in sorted(folder.iterdir()) if path.name[:1] in "ms"],
    )
    write(folder / _COMPLETE, [json.dumps(manifest.fields(), ensure_ascii=False, indent=1).encode() + b"\n"])
    return manifest


def _file(path: Path) -> File:
    with path.open("rb") as body:
        return File(name=path.name, bytes=path.stat().st_size, sha256=hashlib.file_digest(body, "sha256").hexdigest())
