"""Waking sessions up when an application reads them: what `archive=` of a history is given."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from itertools import chain, repeat

from torpor.history.protocol import (
    DEFAULT_NAMESPACE,
    RestoreRefusal,
    RestoreTicket,
    SessionOperations,
    SessionPurged,
    TorporError,
    TransientError,
)
from torpor.worker.archive import ownership
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment.events import KEPT
from torpor.worker.retention.expiry import RetentionRules
from torpor.worker.wake.restore import Restored, RestoreOutcome, Restorer

log = logging.getLogger("torpor.wake")

# For how long a reader waits for one that is at it, and others for one that has died.
_LEASE = timedelta(seconds=60)
# Seconds between two looks at a session that somebody else wakes; the last one again and again.
_LOOKS = (0.01, 0.02, 0.04, 0.08, 0.16)
_TRIES = 10


class SessionArchive:
    """The archive of a deployment, for the histories of an application: one for a process is enough.

    Needs to list and read the bucket and, where archives have a retention, to update its objects
    (`storage.objects.list`, `.get`, `.update`). Safe to share among threads and event loops.
    """

    def __init__(self, url: str, *, threads: int = 16) -> None:
        """`url` as TORPOR_ARCHIVE_URL of the workers; raises ValueError. `threads`: connections to the bucket."""
        self._store = open_archive(url, threads=threads)
        # Not the event loop's own, which looks up hosts too.
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="torpor-wake")
        self._ours: set[str] = set()

    def check(self, namespace: str = DEFAULT_NAMESPACE) -> None:
        """Make sure that the archive can be read and is this deployment's, or nobody's yet; asks until it is known.

        The first `wake` does so too. Raises ArchiveTaken, ArchiveUnavailable and ObjectNotFound.
        """
        if namespace not in self._ours and ownership.is_taken(self._store, namespace):
            self._ours.add(namespace)

    async def wake(self, sessions: SessionOperations, session_id: str) -> None:
        """Put a session's archived messages back; of many who ask at the same time, one does it.

        What has no message anywhere is remembered as empty for a minute, so that the turn that begins with this read
        costs one listing. Raises ArchiveTaken, ArchiveUnavailable, SegmentMissing, SegmentDamaged, OwnerMismatch and
        SessionDamaged, and TransientError where somebody else has been at it for a minute.
        """
        namespace = (await sessions.deployed()).keyspace.namespace
        await sessions.elsewhere(partial(self.check, namespace), self._threads)
        until = time.monotonic() + _LEASE.total_seconds()
        for _ in range(_TRIES):
            ticket = await _begin(sessions, session_id, until)
            if ticket is None:
                return
            restored = await (await self._restorer(sessions)).carry_out(ticket)
            if restored.messages:
                await _record(sessions, restored)
            if restored.outcome is not RestoreOutcome.SUPERSEDED:
                return
        raise TransientError(f"session {session_id!r} keeps changing between Redis and the archive; try again")

    async def _restorer(self, sessions: SessionOperations) -> Restorer:
        deployed = await sessions.deployed(afresh=True)  # a custom time that is set too late can't be taken back
        keeping = RetentionRules(deployed.policies, deployed.retention) if deployed.retention_known else None
        return Restorer(sessions, self._store, keeping, _LEASE, remember=_LEASE, threads=self._threads)


async def _begin(sessions: SessionOperations, session_id: str, until: float) -> RestoreTicket | None:
    """Begin a restore when nobody else is at one; None where nothing is to be woken (any more)."""
    looks = chain(_LOOKS, repeat(_LOOKS[-1]))
    while True:
        asked = time.monotonic()
        try:
            ticket = await sessions.begin_restore(session_id, _LEASE, alone=True)
        except SessionPurged:
            return None  # reads as empty
        if isinstance(ticket, RestoreTicket):
            return ticket
        if ticket is RestoreRefusal.COMPLETE:
            return None
        if asked > until:  # the lease of one that had died before is over then
            raise TransientError(f"session {session_id!r} is being woken by somebody else; try again")
        await sessions.pause(next(looks))


async def _record(sessions: SessionOperations, restored: Restored) -> None:
    """As `torpor.worker.deployment.events.tell`, but for the task of the settings, which only a worker has."""
    try:
        await sessions.add_events([restored.event.fields()], keep=KEPT)
    except TorporError as error:
        log.warning("that session %r woke up was not told: %s", restored.session_id, error)
