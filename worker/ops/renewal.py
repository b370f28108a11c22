"""A deployment's id is renewed or taken over: the archive has it first, and then Redis."""

from __future__ import annotations

from contextlib import suppress

from torpor.history.protocol import TransientError
from torpor.worker.archive import ownership
from torpor.worker.deployment.identity import Comparison, State, compare_sides, new_id
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveConflict
from torpor.worker.failpoints import Failpoint, reach

_TRIES = 5


def renew_identity(services: Services, found: Comparison, *, forked: bool = False) -> None:
    """Give the archive a new id, and then Redis: whoever has only the former one is refused from now on."""
    with suppress(ArchiveConflict):  # somebody else gave it one at the same time
        ownership.write(services.archive, found.archive, found.namespace, new_id(), forked=forked)
    reach(Failpoint.DEPLOYMENT_WRITTEN)
    take_identity(services)


def take_identity(services: Services) -> None:
    """Give Redis the id of the archive, and its URL."""
    for _ in range(_TRIES):
        found = compare_sides(services.sessions, services.archive)
        if found.state is State.AGREE:
            return
        if found.archive.deployment is not None:
            services.sessions.identify(found.redis, found.archive.deployment, found.archive.url)
    raise TransientError("somebody else changes the identity of the deployment at the same time; try again")
