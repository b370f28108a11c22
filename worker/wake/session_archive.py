"""SessionArchive: the `archive=` of a history, which wakes sessions up when an application reads them."""

from __future__ import annotations

import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from itertools import chain, repeat
from typing import Literal

from torpor.history.protocol import (
    ANY_OWNER,
    DEFAULT_NAMESPACE,
    MAX_MESSAGE_BYTES,
    Caller,
    KindMismatch,
    OwnerMissing,
    RestoreRefusal,
    RestoreTicket,
    SessionKind,
    SessionOperations,
    SessionPurged,
    TorporError,
    TransientError,
    check_archived,
    check_max_message_bytes,
)
from torpor.worker import measures
from torpor.worker.archive import contents, ownership, parts
from torpor.worker.archive.contents import Contents
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.archive.stores.measured import MeasuredStore
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment import identity
from torpor.worker.deployment.events import KEPT
from torpor.worker.deployment.watch import Reliance
from torpor.worker.errors import ArchiveUnavailable
from torpor.worker.retention import expiry
from torpor.worker.retention.expiry import RetentionRules
from torpor.worker.wake import conflict
from torpor.worker.wake.restore import Restored, RestoreOutcome, Restorer

log = logging.getLogger("torpor.wake")

# The lease of a restore: how long a reader waits for another one's restore, and others for one that has died.
_LEASE = timedelta(seconds=60)
# Seconds between two looks at a session that somebody else wakes up. The last one repeats.
_LOOKS = (0.01, 0.02, 0.04, 0.08, 0.16)
_TRIES = 10


class SessionArchive:
    """The archive of a deployment, for the histories of an application: one for a process is enough.

    It lists and reads the bucket and, if archives have a retention, updates its objects, so its credentials need
    `storage.objects.list`, `.get` and `.update`. Safe to share among threads and event loops.
    """

    def __init__(
        self,
        url: str,
        *,
        threads: int = 16,
        patience_seconds: float = 2.0,
        on_archive_down: Literal["raise", "continue"] = "raise",
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        """`url`: the workers' TORPOR_ARCHIVE_URL; raises ValueError. `threads`: connections to the bucket.

        If the bucket is down, a request to it is given up within `patience_seconds`. A read then raises
        ArchiveUnavailable. With `on_archive_down="continue"` it returns the messages in Redis instead, for a sleeping
        session none, and a later read wakes the session. Writes to a sleeping session are safe meanwhile.

        A segment that unpacks to a message of more than `max_message_bytes` is damaged, unless the object itself is
        large: then a message was written above the limit.
        """
        if not 0 < patience_seconds < float("inf"):
            raise ValueError(f"patience_seconds must be a positive number, not {patience_seconds!r}")
        if on_archive_down not in ("raise", "continue"):
            raise ValueError(f"on_archive_down must be 'raise' or 'continue', not {on_archive_down!r}")
        self._store: ArchiveStore = MeasuredStore(open_archive(url, threads=threads, patience=patience_seconds))
        self._continues = on_archive_down == "continue"
        self._max_message_bytes = check_max_message_bytes(max_message_bytes)
        self._most_threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._process = os.getpid()
        self._reliances: dict[str, Reliance] = {}  # by namespace

    def check(self, namespace: str = DEFAULT_NAMESPACE) -> None:
        """Make sure that the archive can be read, and that it is of no other namespace.

        Raises ArchiveTaken and ArchiveUnavailable.
        """
        if ownership.read(self._store).namespace not in (None, namespace):
            raise ownership.taken(self._store.url, namespace)

    async def wake(
        self, sessions: SessionOperations, session_id: str, owner: Caller, *, assign_owner: bool = False
    ) -> bool:
        """Put a session's archived messages back. If many ask at the same time, one does it.

        False if the archive is down and the read shall go on without it.

        Redis remembers for a minute that a session has no message anywhere, so that the turn that begins with this
        read costs one listing. Raises DeploymentMismatch, ArchiveUnavailable, SegmentMissing, SegmentDamaged,
        OwnerMismatch and SessionDamaged, and TransientError if another restore of the session has gone on for a minute.
        """
        try:
            await self._wake(sessions, session_id, owner, assign_owner=assign_owner)
        except ArchiveUnavailable as error:
            if not self._continues:
                raise
            log.warning("session %r is read without its archived messages: %s", session_id, error)
            return False
        return True

    async def admit(
        self,
        sessions: SessionOperations,
        session_id: str,
        owner: Caller,
        *,
        assign_owner: bool = False,
        kind: SessionKind | None = None,
    ) -> None:
        """Refuse an owner who is about to change a session that the archive has for somebody else; one listing.

        With `kind`, refuse to write to a session of the other kind, too.

        If the archive is down, nobody is refused: a worker or a wake compares the owners later. A session without an
        owner that may be assigned one is woken. Raises OwnerMismatch, OwnerMissing, KindMismatch and
        DeploymentMismatch.
        """
        try:
            found = await self._look(sessions, session_id)
            if found:
                check_archived(session_id, parts.first_owner(found), owner)
                _check_kind(found, kind)
        except ArchiveUnavailable as error:
            log.warning("session %r is changed without a look at the archive: %s", session_id, error)
        except OwnerMissing:
            if not assign_owner:
                raise
            await self.wake(sessions, session_id, owner, assign_owner=True)

    async def reclaim(self, sessions: SessionOperations, session_id: str, owner: Caller) -> bool:
        """Put aside what Redis has of the owner's sleeping session for somebody else; one listing.

        False if the archive does not have the session for this owner, or is down.
        """
        try:
            found = await self._look(sessions, session_id)
        except ArchiveUnavailable as error:
            log.warning("session %r is refused without a look at the archive: %s", session_id, error)
            return False
        live = await sessions.info(session_id, owner=ANY_OWNER)
        if live is None or parts.first_owner(found) != owner or not conflict.is_others(found, live):
            return False
        return await conflict.set_aside(sessions, live) is not None

    async def _look(self, sessions: SessionOperations, session_id: str) -> Contents:
        now = await self._compare(sessions)
        found = await sessions.elsewhere(partial(contents.look, self._store, session_id), self._threads)
        return expiry.unexpired(found, lambda: now)

    async def _wake(self, sessions: SessionOperations, session_id: str, owner: Caller, *, assign_owner: bool) -> None:
        until = time.monotonic() + _LEASE.total_seconds()
        for _ in range(_TRIES):
            await self._compare(sessions)
            ticket = await _begin(sessions, session_id, owner, until)
            if ticket is None:
                return
            restorer = await self._restorer(sessions, owner, assign_owner=assign_owner)
            restored = await restorer.carry_out(ticket)
            if restored.messages:
                await _record(sessions, restored)
            if restored.outcome is not RestoreOutcome.SUPERSEDED:
                return
        raise TransientError(f"session {session_id!r} keeps changing between Redis and the archive; try again")

    async def _compare(self, sessions: SessionOperations) -> datetime:
        """Make sure that both sides belong together; returns the time by Redis's clock.

        The archive is asked at most once a minute if Redis goes on.
        """
        recorded = await sessions.identified()
        reliance = self._reliances.setdefault(sessions.namespace, Reliance())
        while not reliance.covers(recorded):
            compare = partial(identity.compare, recorded, sessions.namespace, self._store)
            found = await sessions.elsewhere(compare, self._threads)
            recorded = await sessions.identified()
            if found.is_outdated(recorded):
                continue
            found.check()
            if found.archive.namespace is None:  # it is nobody's yet
                break
            reliance.begin(found.redis)
        assert recorded.read_at, "the identity was just read"
        return recorded.read_at

    @property
    def _threads(self) -> ThreadPoolExecutor:
        """Threads for the event loop, whose own also look up hosts, so reads must not fill them.

        A forked process has none of its parent's threads, and makes its own.
        """
        if self._pool is None or self._process != os.getpid():
            self._process = os.getpid()
            self._pool = ThreadPoolExecutor(self._most_threads, thread_name_prefix="torpor-wake")
        return self._pool

    async def _restorer(self, sessions: SessionOperations, owner: Caller, *, assign_owner: bool) -> Restorer:
        deployed = await sessions.deployed()  # just read: a custom time that was set too late can't be moved back
        rules = RetentionRules(deployed.policies, deployed.retention) if deployed.retention_known else None
        return Restorer(
            sessions,
            self._store,
            rules,
            _LEASE,
            remember=_LEASE,
            threads=self._threads,
            max_message_bytes=self._max_message_bytes,
            owner=owner,
            assign_owner=assign_owner,
        )


def _check_kind(found: Contents, kind: SessionKind | None) -> None:
    """Raise KindMismatch if the archive has a session of another kind."""
    archived = parts.of_first_owner(found).kind
    if kind is not None and archived is not None and archived != kind:
        raise KindMismatch(f"session {found.session_id!r} is a {archived} in the archive, and no {kind}")


async def _begin(sessions: SessionOperations, session_id: str, owner: Caller, until: float) -> RestoreTicket | None:
    """Begin a restore when no other one of the session runs; None if there is nothing to wake up (any more)."""
    looks = chain(_LOOKS, repeat(_LOOKS[-1]))
    while True:
        asked = time.monotonic()
        try:
            ticket = await sessions.begin_restore(session_id, _LEASE, owner=owner, alone=True)
        except SessionPurged:
            return None  # a purged session reads as empty
        if isinstance(ticket, RestoreTicket):
            return ticket
        if ticket is RestoreRefusal.COMPLETE:
            return None
        if asked > until:  # by then the lease of a restorer that had died before has ended
            raise TransientError(f"session {session_id!r} is being woken by somebody else; try again")
        await sessions.pause(next(looks))


async def _record(sessions: SessionOperations, restored: Restored) -> None:
    """As `record_events` of torpor.worker, without the event task, because only a worker has its settings."""
    try:
        await sessions.add_events([restored.event.fields()], keep=KEPT, measures=measures.take())
    except TorporError as error:
        log.warning("no event was recorded for session %r, which woke up: %s", restored.session_id, error)
