"""Opening the deployment in a worker: Redis and the archive are compared at each use, and an outage is noted."""

from __future__ import annotations

from torpor.history.protocol import ArchiveNote
from torpor.worker.deployment import worker_name
from torpor.worker.deployment.events import record_events
from torpor.worker.deployment.services import Services, connect
from torpor.worker.deployment.settings import Settings
from torpor.worker.deployment.watch import Watch
from torpor.worker.errors import ArchiveUnavailable


class OpenDeployment:
    """The deployment that a process works on."""

    def __init__(self, settings: Settings) -> None:
        """As `connect`."""
        self._services = connect(settings)
        self._watch = Watch(self._services.sessions, self._services.archive)

    def services(self) -> Services:
        """The services, after making sure that Redis and the archive belong together (still).

        Raises DeploymentMismatch, and ArchiveUnavailable after noting it.
        """
        try:
            self._watch.look()
        except ArchiveUnavailable as error:
            record_events(self._services, [], ArchiveNote(worker_name.get(), str(error)))
            raise
        return self._services

    def move_fence(self) -> None:
        """Move the fence once a minute; see Watch. Raises DeploymentMismatch."""
        self._watch.move_fence()
