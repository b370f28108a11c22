"""LeaseKeeper: renews the leases of claimed sessions while they are in work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Self

from torpor.history.protocol import Lease, SessionStore, TorporError
from torpor.worker.deployment.periodic import PeriodicThread
from torpor.worker.logs import outages

log = logging.getLogger("torpor.leases")


@dataclass
class _Kept:
    """The newest lease of a claim, None if it is lost. Whoever renews it, or takes it, holds the lock."""

    lease: Lease | None
    lock: threading.Lock = field(default_factory=threading.Lock)


class LeaseKeeper:
    """Keeps leases: a thread renews all of them by a third of their duration, and comes back after 0.3 of it.

    A renewal changes the lease's token, so a commit asks for the newest one with `take`.
    """

    def __init__(self, sessions: SessionStore, duration: timedelta) -> None:
        self._sessions = sessions
        self._duration = duration
        # A session that was used during an attempt can be claimed again before that attempt has ended, so each claim
        # has its own entry.
        self._kept: dict[tuple[str, bytes], _Kept] = {}
        self._lock = threading.Lock()  # never held while Redis is asked: others may wait for this dictionary
        self._renewals = PeriodicThread(
            "torpor-leases",
            self._renew,
            pause=lambda: duration.total_seconds() * 0.3,
            log=log,
            failure="leases were not renewed, they may end",
        )

    def __enter__(self) -> Self:
        self._renewals.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._renewals.stop()

    def keep(self, leases: Iterable[Lease]) -> None:
        """Renew these leases until they are taken."""
        with self._lock:
            self._kept.update((_claim_of(lease), _Kept(lease)) for lease in leases)

    def lost(self, lease: Lease) -> bool:
        """True after a renewal has found that somebody else has the session."""
        return self._entry(lease).lease is None

    def still_owns(self, lease: Lease) -> bool:
        """Ask Redis whether nobody else has claimed or used the session since; renews the lease if that is so."""
        entry = self._entry(lease)
        with entry.lock:
            if entry.lease is None:
                return False
            [renewed] = self._sessions.renew([entry.lease], self._duration / 3)
            if isinstance(renewed, TorporError):
                raise renewed
            entry.lease = renewed
            return renewed is not None

    def take(self, lease: Lease) -> Lease | None:
        """Stop renewing a lease and return its newest token, after a renewal that is running; None if it is lost."""
        with self._lock:
            entry = self._kept.pop(_claim_of(lease), None) or _Kept(lease)
        with entry.lock:  # so that no commit takes a token that a renewal is changing
            return entry.lease

    @contextmanager
    def taken(self, lease: Lease) -> Iterator[Lease | None]:
        """As `take`; after a TorporError in the block the lease is kept again, so that it can be given back."""
        newest = self.take(lease)
        try:
            yield newest
        except TorporError:
            if newest:
                self.keep([newest])
            raise

    def _entry(self, lease: Lease) -> _Kept:
        with self._lock:
            return self._kept.get(_claim_of(lease)) or _Kept(lease)

    def _renew(self) -> None:
        with self._lock:
            kept = list(self._kept.values())
        with ExitStack() as held:
            renewing = [each for each in kept if each.lock.acquire(blocking=False)]  # others are just being renewed
            for each in renewing:
                held.callback(each.lock.release)
            owned = {lease: each for each in renewing if (lease := each.lease)}
            # Always by the same span: if only a reply was lost, the next renewal computes the token that Redis has.
            renewed = self._sessions.renew(list(owned), self._duration / 3)
            for (old, entry), new in zip(owned.items(), renewed, strict=True):
                if isinstance(new, TorporError):
                    log.log(
                        outages.level(new),
                        "the lease of session %r was not renewed, it may end: %s",
                        old.session_id,
                        new,
                    )
                else:
                    entry.lease = new


def _claim_of(lease: Lease) -> tuple[str, bytes]:
    return lease.session_id, lease.claim
