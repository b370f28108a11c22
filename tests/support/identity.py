"""The identity of the tests' deployments."""

from __future__ import annotations

from torpor.worker.archive import ownership
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.deployment.identity import State, compare_sides, new_id
from torpor.worker.deployment.services import Services


def bind(services: Services) -> None:
    """Make one deployment of Redis and the archive, whatever they were before."""
    there = ownership.read(services.archive)
    deployment = there.deployment or new_id()
    if there.deployment is None:
        ownership.write(services.archive, there, services.sessions.namespace, deployment)
    services.sessions.identify(services.sessions.identity(), deployment, services.archive.url)


def state_of(services: Services) -> State:
    """Whether both sides belong together now."""
    return compare_sides(services.sessions, services.archive).state


def deployment_of(archive: ArchiveStore) -> str:
    """The id in the archive."""
    found = ownership.read(archive).deployment
    assert found
    return found
