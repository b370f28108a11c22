"""Moves: the archive of a deployment is at another place, such as in another bucket."""

from __future__ import annotations

from torpor.worker.deployment import fence
from torpor.worker.deployment.identity import Comparison, State, compare_sides
from torpor.worker.deployment.services import Services
from torpor.worker.errors import DeploymentMismatch
from torpor.worker.failpoints import Failpoint, reach
from torpor.worker.ops.catching_up import Survey
from torpor.worker.ops.renewal import take_identity


def check_moved(services: Services, *, force: bool = False) -> Comparison:
    """Both sides, if the archive has moved or nothing has changed.

    Raises DeploymentMismatch, also if another Redis uses the archive; with `force` that does not count.
    """
    found = compare_sides(services.sessions, services.archive)
    if found.redis.deployment is None or found.redis.deployment != found.archive.deployment:
        found.check()
        raise DeploymentMismatch(f"{found.sides()}: no archive of theirs has moved")
    if found.archive.namespace != found.namespace or found.redis.archive in (None, found.archive.url):
        found.check()
    if not force:
        fence.check_unused(found)
    return found


def move_archive(services: Services, surveyed: Survey, *, force: bool = False) -> Survey:
    """Record the URL of an archive that has moved. Repeatable; raises DeploymentMismatch.

    The archive gets its token of the fence first. Its own one is as old as the copy.
    """
    if check_moved(services, force=force).state is State.AGREE:
        return surveyed
    fence.claim(services.sessions, services.archive)
    reach(Failpoint.DEPLOYMENT_FENCED)
    take_identity(services)
    return surveyed
