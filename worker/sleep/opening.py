"""Opening the deployment in a worker: Redis and the archive are compared at each use, and an outage is noted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

from torpor.history.protocol import ArchiveNote, RedisMemoryFull, RedisUnavailable, TransientError
from torpor.worker.deployment import worker_name
from torpor.worker.deployment.events import record_events
from torpor.worker.deployment.services import Services, connect
from torpor.worker.deployment.settings import Settings
from torpor.worker.deployment.watch import Watch
from torpor.worker.errors import ArchiveUnavailable, DeploymentMismatch
from torpor.worker.logs import outages
from torpor.worker.logs.outages import Service

log = logging.getLogger("torpor.opening")


class OpenDeployment:
    """The deployment that a process works on."""

    def __init__(self, settings: Settings, begin: Callable[[Services], None] = lambda _: None) -> None:
        """As `connect`. `begin` is called once, when Redis and the archive are known to belong together."""
        self._begin: Callable[[Services], None] | None = begin
        self._services = connect(settings)
        self._watch = Watch(self._services.sessions, self._services.archive)
        self._refusal: str | None = None  # what was logged last

    @property
    def opened(self) -> Services:
        """The services as they were last found, without another look."""
        return self._services

    def services(self) -> Services:
        """The services, after making sure that Redis and the archive belong together (still).

        Raises DeploymentMismatch, RedisUnavailable, and ArchiveUnavailable after noting it: each is logged once until
        it changes. A mismatch is not noted in Redis, which may be another deployment's.
        """
        try:
            self._watch.look()
        except RedisUnavailable as error:
            outages.begin(Service.REDIS, error)
            raise
        except ArchiveUnavailable as error:
            self._note(error)
            raise
        except (DeploymentMismatch, TransientError) as error:
            self._tell(str(error))
            raise
        outages.end(Service.REDIS)
        self._tell(None)
        if self._begin:
            self._begin(self._services)
            self._begin = None
        return self._services

    def move_fence(self) -> None:
        """Move the fence once a minute; see Watch. Raises DeploymentMismatch."""
        if unavailable := self._watch.move_fence():
            self._note(unavailable)

    def _note(self, error: ArchiveUnavailable) -> None:
        record_events(self._services, [], ArchiveNote(worker_name.get(), str(error)))

    def _tell(self, refusal: str | None) -> None:
        if refusal != self._refusal:
            self._refusal = refusal
            log.warning("%s", refusal or "Redis and the archive can be used again: work goes on")


def record_defaults(services: Services) -> None:
    """Record, for applications to read, what the settings say of expiry, policies, owners and compression."""
    services.sessions.load_scripts()
    settings = services.settings
    max_age = settings.max_age_seconds
    try:
        services.sessions.configure(
            idle=timedelta(seconds=settings.idle_timeout_seconds),
            max_age=None if max_age is None else timedelta(seconds=max_age),
            retention=settings.archive_retention,
            policies=settings.rules,
            require_owner=settings.require_owner,
            compression=settings.compression,
        )
    except RedisMemoryFull as error:
        log.warning("the default expiry and policies were not recorded: %s", error)  # archiving comes first
