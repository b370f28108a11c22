"""The identity of the tests' deployments."""

from __future__ import annotations

from torpor.worker.archive import ownership
from torpor.worker.deployment.identity import new_id
from torpor.worker.deployment.services import Services


def bind(services: Services) -> None:
    """Make one deployment of Redis and the archive, whatever they were before."""
    there = ownership.read(services.archive)
    deployment = there.deployment or new_id()
    if there.deployment is None:
        ownership.write(services.archive, there, services.sessions.namespace, deployment)
    services.sessions.identify(services.sessions.identity(), deployment, services.archive.url)
