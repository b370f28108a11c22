"""The circuit breaker of this process, and the notes by which a deployment knows whether its archive works.

While the breaker is open, a drain claims a single session, so that an archive which does not answer costs one time-out,
not one a thread.
"""

from __future__ import annotations

import logging
import socket
import time
from datetime import timedelta
from secrets import token_bytes

from torpor.history.protocol import ArchiveState, TorporError
from torpor.worker.deployment.events import Event, EventKind, record_events
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveUnavailable

log = logging.getLogger("torpor.archiver")

# A process that archives all the time notes that it works once in so many seconds.
_NOTED_EACH_SECONDS = 5.0
# A worker that has noted a failure tries again with each sweep. If it notes nothing more, it is gone.
_COUNTS = timedelta(minutes=10)
_KEPT = timedelta(days=1)
_KINDS = {ArchiveState.UNAVAILABLE: EventKind.UNAVAILABLE, ArchiveState.AVAILABLE: EventKind.AVAILABLE}


class Breaker:
    """Open while the archive is down for this process. Its methods may be called by any thread."""

    def __init__(self) -> None:
        self.is_open = False
        self._noted_at = float("-inf")

    def open(self, services: Services, error: ArchiveUnavailable) -> None:
        """Open the breaker, and note the failure."""
        self.is_open = True
        _note(services, str(error))

    def close(self, services: Services) -> None:
        """Close the breaker, and note that the archive works, unless that was noted a moment ago."""
        now = time.monotonic()
        if self.is_open or now - self._noted_at > _NOTED_EACH_SECONDS:
            self.is_open, self._noted_at = False, now
            _note(services, "")


BREAKER = Breaker()


def archive_is_down() -> bool:
    """True if the archive was down when it was last tried. Then claim a single session, to try it again."""
    return BREAKER.is_open


def _note(services: Services, error: str) -> None:
    worker = socket.gethostname()
    try:
        state = services.sessions.note_archive(worker, note=token_bytes(8), error=error, counts=_COUNTS, kept=_KEPT)
    except TorporError as failed:
        log.warning("the archive's health was not noted: %s", failed)  # archiving comes first
        return
    if state:
        log.warning("the archive is %s%s", state, error and f": {error}")
        record_events(services, [Event(_KINDS[state], messages=None, error=error or None, worker=worker)])
