"""The count that a walk through all sessions asleep leaves in Redis, which status and the console show."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from torpor.worker.deployment.services import Services
from torpor.worker.monitoring.presence import apart_from_work
from torpor.worker.monitoring.seen import ASLEEP_FIELDS

# Only the moment of the note is forgotten after this; its numbers stay until the next count.
_KEPT = timedelta(days=1)


class AsleepCount:
    """Counts sessions that are asleep, from the beginning of a walk through the whole archive to its end."""

    def __init__(self, services: Services) -> None:
        """Read the deployment's counts, and Redis's time."""
        self._services = services
        self._counts: Mapping[str, int] = services.sessions.figures().counts
        self._began = services.sessions.measures().now
        self.sessions = 0

    def note(self) -> None:
        """Note the count in Redis, when the walk has come to its end. An error of Redis's is logged."""
        numbers = [
            self.sessions,
            self._began.timestamp(),
            self._counts["archived"],
            self._counts["restored"],
        ]
        noted = {field: str(number) for field, number in zip(ASLEEP_FIELDS, numbers, strict=True)}
        with apart_from_work():
            self._services.sessions.note_seen("asleep", noted, _KEPT)
