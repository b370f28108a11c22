"""What a process that goes on for long relies on: that Redis and the archive still belong together."""

from __future__ import annotations

import logging
import time

from torpor.history.protocol import Identity, SessionStore
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.deployment import fence, identity
from torpor.worker.errors import ArchiveRefused, ArchiveUnavailable, DeploymentMismatch
from torpor.worker.logs import outages

log = logging.getLogger("torpor.identity")

# How long a process relies on what it has read of the archive's identity. It asks Redis more often.
_RELY_SECONDS = 60


class Reliance:
    """The identity of a Redis that agreed with the archive, as Redis was last seen, and for how long it counts.

    Redis alone does not tell all: a backup in place that is younger than the last look has lost nothing of what was
    seen. Only the archive tells that it is behind.
    """

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._seen: Identity | None = None
        self._until = 0.0

    def covers(self, redis: Identity) -> bool:
        """True if this Redis goes on from the one that agreed, and the archive need not be asked again yet."""
        return self.goes_on(redis) and time.monotonic() < self._until

    def goes_on(self, redis: Identity) -> bool:
        """True if this Redis has lost neither the id nor tokens of the fence of the one that agreed."""
        if self._seen is None or not redis.goes_on_from(self._seen):
            return False
        self._seen = redis
        return True

    def begin(self, redis: Identity) -> None:
        """Rely on this Redis for a minute: it agrees with the archive, or goes on while the archive is down."""
        self._seen = redis
        self._until = time.monotonic() + _RELY_SECONDS


class Watch:
    """Compares both sides as often as is cheap: Redis at each look, the archive every minute.

    A Redis that was emptied meanwhile, such as by a failover without replicas, or replaced by a backup of itself, is
    found by the next look, or a minute later if only the archive tells it.
    """

    def __init__(self, sessions: SessionStore, archive: ArchiveStore) -> None:
        self._sessions = sessions
        self._archive = archive
        self._reliance = Reliance()
        self._still_until = 0.0

    def look(self) -> None:
        """As `identity.make`. While the archive is down, a process relies on what it has read before."""
        redis = self._sessions.identity()
        if self._reliance.covers(redis):
            return
        try:
            self._reliance.begin(identity.make(self._sessions, self._archive))
        except ArchiveUnavailable as error:
            if not self._reliance.goes_on(redis):
                raise
            self._reliance.begin(redis)
            log.log(outages.level(error), "the archive's identity can't be read again: %s", error)

    def move_fence(self) -> ArchiveUnavailable | None:
        """As `fence.move`. If the archive is down or refuses that, the fence stays, for a minute at least.

        Returns why the archive is down.
        """
        if time.monotonic() < self._still_until:
            return None
        try:
            fence.move(self._sessions, self._archive)
        except DeploymentMismatch:
            self._reliance = Reliance()  # no task of this process relies on what it has read
            raise
        except (ArchiveUnavailable, ArchiveRefused) as error:
            self._still_until = time.monotonic() + _RELY_SECONDS
            log.log(outages.level(error), "the fence was not moved: %s", error)
            return error if isinstance(error, ArchiveUnavailable) else None
        return None
