"""Recovery: a Redis takes over an archive. The archive's Redis was lost, or this Redis is older than the archive."""

from __future__ import annotations

from collections.abc import Callable

from torpor.worker.deployment import fence
from torpor.worker.deployment.identity import Comparison, State, compare_sides
from torpor.worker.deployment.services import Services
from torpor.worker.errors import DeploymentMismatch
from torpor.worker.ops.catching_up import Survey, catch_up
from torpor.worker.ops.renewal import renew_identity


def check_lost(services: Services, give_up: str | None = None, *, force: bool = False) -> Comparison:
    """Both sides, if Redis may take the archive over or nothing has changed.

    Raises DeploymentMismatch if Redis belongs to another deployment, unless it is to `give_up` that id, and if another
    Redis uses the archive, unless `force` is given.
    """
    found = compare_sides(services.sessions, services.archive)
    redis, there = found.redis, found.archive
    same = redis.deployment is not None and redis.deployment == there.deployment
    moved = same and redis.archive not in (None, there.url)
    if found.state is State.DISAGREE and (moved or there.namespace not in (None, found.namespace)):
        found.check()
    if found.state is State.NEW:
        raise DeploymentMismatch(f"{found.sides()} There is nothing to recover. Start a worker: torpor worker")
    # The archive of a fork has the original's id among its former ones, and the original its own archive.
    former = there.former if redis.archive == there.url else ()
    if redis.archive is not None and redis.deployment not in (there.deployment, *former, give_up):
        raise DeploymentMismatch(
            f"{found.sides()} If this Redis is to give up the archive {redis.archive}: "
            f"torpor deployment recover --give-up {redis.deployment}"
        )
    if not force:
        fence.check_unused(found)
    services.archive.check()
    return found


def recover(
    services: Services,
    surveyed: Survey,
    give_up: str | None = None,
    *,
    force: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Survey:
    """Let Redis catch up with the archive, and then give both sides a new id; returns what was done.

    Repeatable; raises DeploymentMismatch, and TransientError if a session is leased. The new id refuses the lost Redis,
    should it come back.
    """
    found = check_lost(services, give_up, force=force)
    if found.state is State.AGREE:
        return surveyed
    done = catch_up(services, surveyed, progress)
    renew_identity(services, found)
    return done
