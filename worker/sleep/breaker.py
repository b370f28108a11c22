"""The circuit breaker of this process, and what this worker notes of the archive's health.

While the breaker is open, a drain claims a single session, so that an archive which does not answer costs one time-out,
not one a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from torpor.history.protocol import ArchiveNote
from torpor.worker.archive.probe import probe
from torpor.worker.deployment import worker_name
from torpor.worker.deployment.events import record_events
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveUnavailable
from torpor.worker.sleep.outcome import COMMITTED, AttemptResult, Outcome

# After these outcomes the archive has answered.
_ASKED = frozenset({Outcome.ERASED, Outcome.ERASING, Outcome.HOLD_APPLIED})

_open = threading.Event()


def archive_is_down() -> bool:
    """True if the archive was down when it was last tried. Then claim a single session, to try it again."""
    return _open.is_set()


def update(result: AttemptResult, *, others_failed: bool) -> None:
    """Open the breaker if the archive has failed; close it if it has worked, unless another session has just failed."""
    if isinstance(result.error, ArchiveUnavailable):
        _open.set()
    elif _worked(result) and not others_failed:
        _open.clear()


def note_of(results: Iterable[AttemptResult], *, others_failed: bool) -> ArchiveNote | None:
    """What these results tell of the archive; None if they tell nothing."""
    results = list(results)
    errors = [str(each.error) for each in results if isinstance(each.error, ArchiveUnavailable)]
    if errors:
        return ArchiveNote(worker_name.get(), errors[-1])
    return ArchiveNote(worker_name.get()) if any(map(_worked, results)) and not others_failed else None


def look_again(services: Services) -> None:
    """Probe the archive if it is noted as unavailable: while no session is due, nobody else would see that it works."""
    if services.sessions.archive_health().unavailable_since is None:
        return
    error = ""
    try:
        probe(services.archive)
    except ArchiveUnavailable as failure:
        error = str(failure)
    record_events(services, [], ArchiveNote(worker_name.get(), error))


def _worked(result: AttemptResult) -> bool:
    """True if the archive has answered during the attempt; for a session without messages nobody asks it."""
    return result.outcome in _ASKED or (result.outcome in COMMITTED.values() and result.messages > 0)
