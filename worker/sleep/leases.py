"""LeaseKeeper: renews the leases of claimed sessions while they are in work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Self

from torpor.history.protocol import Lease, SessionStore, TorporError

log = logging.getLogger("torpor.leases")


class LeaseKeeper:
    """Holds leases and renews all of them each 0.3 of their duration, by a third of it, in a thread of its own.

    Renewing changes a lease's token, so work asks for the newest one with `take` when it commits.
    """

    def __init__(self, sessions: SessionStore, duration: timedelta) -> None:
        self._sessions = sessions
        self._duration = duration
        # By session and claim: what was used in the middle of an attempt can be claimed again before that has ended.
        self._kept: dict[tuple[str, bytes], Lease | None] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="torpor-leases", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def keep(self, leases: Iterable[Lease]) -> None:
        """Renew these leases until they are taken."""
        with self._lock:
            self._kept.update((_claimed(lease), lease) for lease in leases)

    def lost(self, lease: Lease) -> bool:
        """Has a renewal found that the session is no longer ours?"""
        with self._lock:
            return self._kept.get(_claimed(lease), lease) is None

    def take(self, lease: Lease) -> Lease | None:
        """The newest token of a lease, which is renewed no more; None where it is lost."""
        with self._lock:
            return self._kept.pop(_claimed(lease), lease)

    @contextmanager
    def taken(self, lease: Lease) -> Iterator[Lease | None]:
        """As `take`; where what is done with the token fails, the lease is held again, to be given back."""
        newest = self.take(lease)
        try:
            yield newest
        except TorporError:
            if newest:
                self.keep([newest])
            raise

    def _run(self) -> None:
        while not self._stop.wait(self._duration.total_seconds() * 0.3):
            try:
                self._renew()
            except TorporError as error:
                log.warning("leases were not renewed, they may end: %s", error)

    def _renew(self) -> None:
        # Under the lock, so that no token is taken for a commit while a renewal changes it.
        with self._lock:
            kept = [lease for lease in self._kept.values() if lease]
            # By the same span each time: where only the reply was lost, the next renewal finds its token there.
            renewed = self._sessions.renew(kept, self._duration / 3)
            for old, new in zip(kept, renewed, strict=True):
                if isinstance(new, TorporError):
                    log.warning("the lease of session %r was not renewed, it may end: %s", old.session_id, new)
                else:
                    self._kept[_claimed(old)] = new


def _claimed(lease: Lease) -> tuple[str, bytes]:
    return lease.session_id, lease.claim
