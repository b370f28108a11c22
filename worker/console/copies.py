"""Copies: answers to requests for access that this process has made, each a file to download within an hour."""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from torpor.history.protocol import TorporError, TransientError
from torpor.worker.access import parcel
from torpor.worker.access.manifest import Manifest
from torpor.worker.audit.trail import Count
from torpor.worker.console.background import Background
from torpor.worker.console.spool import Spool
from torpor.worker.deployment.services import Services
from torpor.worker.jobs.orders import new_id

log = logging.getLogger("torpor.console")

# A copy is deleted so long after it was made.
KEPT = timedelta(hours=1)
_MOST = 16


class CopyState(StrEnum):
    """Where a copy stands."""

    COPYING = "copying"
    PACKING = "packing"
    READY = "ready"
    FAILED = "failed"


@dataclass
class Copy:
    """A copy of an owner's sessions, for the person `by` whom it was asked. Its file is there once it is ready."""

    owner: str
    by: str
    reason: str
    id: str = field(default_factory=new_id)
    state: CopyState = CopyState.COPYING
    looked_at: int = 0
    error: str | None = None
    manifest: Manifest | None = None
    file: Path | None = None
    size: int = 0
    sha256: str = ""
    until: datetime | None = None

    @property
    def file_name(self) -> str:
        """The name under which a browser saves it."""
        return f"copy-{self.id}.zip"


class Copies:
    """The copies of a process. They go with it."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._lock = threading.Lock()
        self._spool: Spool | None = None
        self._copies: dict[str, Copy] = {}
        self._timers: dict[str, threading.Timer] = {}

    def begin(self, services: Services, copy: Copy, count: Count, acts: ExitStack) -> None:
        """Begin to copy all sessions of an owner, and close `acts` when that has ended.

        Raises TransientError if there are too many copies, PermanentError and OSError if there is no place for them.
        """
        folder = self._admit(copy)
        own = acts.pop_all()

        def work() -> None:
            with own:
                self._make(services, copy, folder)
                count.sessions = copy.manifest.copied.sessions if copy.manifest else 0

        if not self._background.start(f"copy {copy.id}", work):
            self._forget(copy)
            acts.push(own)
            raise TransientError("the console has enough work at the moment: try again in some minutes")

    def find(self, copy_id: str, by: str) -> Copy | None:
        """A copy that this person has asked for; None if there is none (any more)."""
        copy = self._copies.get(copy_id)
        return copy if copy and copy.by == by else None

    def delete(self, copy: Copy) -> None:
        """Delete a copy that is ready or has failed; one that is in work goes on."""
        if copy.state in (CopyState.READY, CopyState.FAILED):
            self._forget(copy)

    def close(self) -> None:
        """Delete everything."""
        for copy in list(self._copies.values()):
            self._forget(copy)
        if self._spool:
            self._spool.close()

    def _admit(self, copy: Copy) -> Path:
        with self._lock:
            if len(self._copies) >= _MOST:
                raise TransientError(f"there are {_MOST} copies that were not deleted yet: delete one, or wait an hour")
            self._spool = self._spool or Spool()
            self._copies[copy.id] = copy
            return self._spool.folder / copy.id

    def _make(self, services: Services, copy: Copy, folder: Path) -> None:
        from torpor.worker.access.answer import answer  # loads LangChain

        def progress(looked_at: int) -> None:
            copy.looked_at = looked_at
            self._background.go_on()

        try:
            copy.manifest = answer(services, copy.owner, folder, by=copy.by, reason=copy.reason, progress=progress)
            copy.state = CopyState.PACKING
            self._pack(copy, folder)
        except (TorporError, OSError) as error:
            copy.error = str(error) if isinstance(error, TorporError) else f"no place for it: {error.strerror}"
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if copy.state is not CopyState.READY:
                if copy.file:
                    copy.file.unlink(missing_ok=True)
                copy.error = copy.error or "an error that the console's log has"
                copy.state = CopyState.FAILED
            self._forget_later(copy)

    def _pack(self, copy: Copy, folder: Path) -> None:
        file = folder.with_suffix(".zip")
        copy.file = file
        parcel.pack(folder, file, f"copy-{copy.id}", self._background.go_on)
        with file.open("rb") as body:
            copy.sha256 = hashlib.file_digest(body, "sha256").hexdigest()
        copy.size = file.stat().st_size
        copy.state = CopyState.READY

    def _forget_later(self, copy: Copy) -> None:
        copy.until = datetime.now(UTC) + KEPT
        timer = threading.Timer(KEPT.total_seconds(), self._forget, [copy])
        timer.daemon = True
        self._timers[copy.id] = timer
        timer.start()

    def _forget(self, copy: Copy) -> None:
        self._copies.pop(copy.id, None)
        if timer := self._timers.pop(copy.id, None):
            timer.cancel()
        if copy.file:
            copy.file.unlink(missing_ok=True)
