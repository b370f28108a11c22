"""Renewing: prolongs a lock in a thread, because a walk over an archive may find nothing for longer than a lease."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from torpor.history.protocol import WorkLock
from torpor.worker.deployment.periodic import PeriodicThread
from torpor.worker.deployment.services import Services

# A lock of a part of a job is renewed three times within this; a shorter lease of the settings counts.
_LOCK_SECONDS = 30

log = logging.getLogger("torpor.jobs")


def lock_time(services: Services) -> timedelta:
    """How long the lock of a part of a job outlives its process: somebody waits for the end of the job."""
    return min(services.settings.lease, timedelta(seconds=_LOCK_SECONDS))


@contextmanager
def renewed(lock: WorkLock, lease: timedelta) -> Iterator[None]:
    """Renew a lock during the block, unless it is kept."""

    def renew() -> None:
        if not lock.kept:
            lock.extend(lease)

    renewals = PeriodicThread(
        "torpor-lock",
        renew,
        pause=lambda: lease.total_seconds() / 3,
        log=log,
        failure="the lock of a job was not renewed, it may end",
    )
    renewals.start()
    try:
        yield
    finally:
        renewals.stop()
